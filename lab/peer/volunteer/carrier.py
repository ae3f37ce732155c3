"""What a volunteer carries, without its sockets.

`grant` makes room for a pair of peers known by their keys, after one of them
asked over the rendezvous service; each then shows from where it comes, and that
it is one of the two, by signing a cookie that was sent there.  From then on
what the two sealed for each other, packets of their attempt and of a session that
uses the path, and nothing else, goes from one to the other.
Nothing is kept: what can't be passed on at once is dropped.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import NamedTuple

from lab.peer.endpoint import Endpoint
from lab.peer.marks import BETWEEN_PEERS, Mark
from lab.peer.sealed import SHELL
from lab.peer.traversal.seal import Agreement
from lab.peer.volunteer.stamp import STAMP_BYTES, Stamps, agreed
from lab.peer.volunteer.wire import COOKIE_BYTES, Exchange, Packet, Type, exchange, parse, proven_by

MAX_PACKET = 1400
MOVES = 16
"""How often the two of a pair may come from elsewhere, or with other keys."""


class Client(NamedTuple):
    """From where a packet came."""

    transport: str
    """`udp` or `tcp`."""
    endpoint: Endpoint


class Send(NamedTuple):
    """Send to a client."""

    client: Client
    data: bytes


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a volunteer gives at most."""

    pairs: int = 8
    per_asker: int = 2
    bytes_per_s: float = 125_000.0
    """For each pair, both directions together."""
    burst: float = 64_000.0
    join_s: float = 15.0
    """How long a pair may take to come."""
    idle_s: float = 30.0
    longest_s: float = 3600.0


@dataclass(slots=True)
class _Seat:
    """From where one of a pair came last, and what it said its stamps are to be made with."""

    client: Client
    proof: Exchange
    stamps: Stamps


@dataclass(slots=True)
class _Pair:
    """Two peers, by key, and their seats."""

    keys: tuple[bytes, bytes]
    granted_at: float
    used_at: float
    allowance: float
    counted_at: float
    seats: list[_Seat | None] = field(default_factory=lambda: [None, None])
    left: set[tuple[Client, Exchange]] = field(default_factory=set)
    """From where, and with what proofs, the two came before."""


class Carrier:
    """All pairs of one volunteer, whose public key is `key`."""

    def __init__(self, key: bytes, bounds: Bounds = Bounds()) -> None:
        self.carried = 0
        """Packets that were passed on."""
        self.dropped = 0
        """Packets of a pair that were not: it used more than it may."""
        self.forged = 0
        """Packets that came from where one of a pair is and were not of him, or a second time."""
        self._key = key
        self._bounds = bounds
        self._secret = secrets.token_bytes(32)
        self._agreement = Agreement()
        self._pairs: dict[bytes, _Pair] = {}
        self._sides: dict[Client, tuple[bytes, int]] = {}

    @property
    def pairs(self) -> int:
        """How many pairs have room here."""
        return len(self._pairs)

    def grant(self, attempt: bytes, asker: bytes, other: bytes, now: float) -> str:
        """Make room for two peers by their keys; why not, or "" if there is room."""
        known = self._pairs.get(attempt)
        if known:
            return "" if known.keys == (asker, other) else "this attempt is another pair's"
        if asker == other or self._key in (asker, other):
            return "a pair is two others"
        if sum(pair.keys[0] == asker for pair in self._pairs.values()) >= self._bounds.per_asker:
            return f"{self._bounds.per_asker} pairs are the most for one peer"
        if len(self._pairs) >= self._bounds.pairs:
            return f"{self._bounds.pairs} pairs are the most"
        self._pairs[attempt] = _Pair((asker, other), now, now, self._bounds.burst, now)
        return ""

    def received(self, client: Client, data: bytes, now: float) -> list[Send]:
        """Take a packet of anybody; what is to be sent."""
        if data[:1] == bytes((Mark.VOLUNTEER,)):
            packet = parse(data)
            return self._control(client, packet, now) if packet else []
        return self._pass_on(client, data, now)

    def seats(self, client: Client) -> bool:
        """Whether a client is one of a pair."""
        return client in self._sides

    def gone(self, client: Client) -> None:
        """A TCP connection has ended."""
        attempt, side = self._sides.get(client, (b"", 0))
        if pair := self._pairs.get(attempt):
            self._vacate(pair, side)

    def tick(self, now: float) -> None:
        """Forget pairs that have expired; to be called about every second."""
        for attempt, pair in tuple(self._pairs.items()):
            joined = all(pair.seats)
            patience = self._bounds.idle_s if joined else self._bounds.join_s
            if now - pair.used_at > patience or now - pair.granted_at > self._bounds.longest_s:
                self._forget(attempt)

    def clear(self) -> None:
        """Forget all pairs: this peer is a relay no more."""
        for attempt in tuple(self._pairs):
            self._forget(attempt)

    def _forget(self, attempt: bytes) -> None:
        for seat in self._pairs.pop(attempt).seats:
            if seat:
                self._sides.pop(seat.client, None)

    def _control(self, client: Client, packet: Packet, now: float) -> list[Send]:
        attempt = packet.attempt
        pair = self._pairs.get(attempt)
        challenge = Exchange(self._cookie(client, attempt), self._agreement.ephemeral)
        if packet.type is Type.JOIN:
            answer = Packet(Type.CHALLENGE, attempt, b"".join(challenge))
            if pair is None:
                answer = Packet(Type.REFUSED, attempt)
            return [Send(client, answer.encode())]
        if packet.type not in (Type.PROVE, Type.LEAVE) or pair is None:
            return []
        if not hmac.compare_digest(challenge.cookie, packet.more[:COOKIE_BYTES]):
            return []
        if packet.type is Type.LEAVE:
            if any(seat and seat.client == client for seat in pair.seats):
                self._forget(attempt)
            return []
        for side, key in enumerate(pair.keys):
            if proven_by(packet, key, challenge, self._key):
                return self._seat(packet, pair, side, client, now)
        return []

    def _seat(
        self, packet: Packet, pair: _Pair, side: int, client: Client, now: float
    ) -> list[Send]:
        """Let one of a pair take part from where he is now."""
        before, proof = pair.seats[side], exchange(packet)
        # What comes a second time, or was copied, must not begin the counting anew, nor
        # take one of the pair back to where he was.
        if before is None or (before.client, before.proof) != (client, proof):
            if (client, proof) in pair.left or len(pair.left) >= MOVES:
                return []
            keys = (proof.ephemeral, self._agreement.ephemeral)
            try:
                stamps = agreed(self._agreement, packet.attempt, proof.cookie, keys, relay=True)
            except ValueError:
                return []
            self._vacate(pair, side)
            before = pair.seats[side] = _Seat(client, proof, stamps)
            self._sides[client] = (packet.attempt, side)
        pair.used_at = now
        return [Send(client, Packet(Type.JOINED, packet.attempt, before.stamps.welcome).encode())]

    def _vacate(self, pair: _Pair, side: int) -> None:
        if seat := pair.seats[side]:
            pair.left.add((seat.client, seat.proof))
            pair.seats[side] = None
            self._sides.pop(seat.client, None)

    def _pass_on(self, client: Client, data: bytes, now: float) -> list[Send]:
        attempt, side = self._sides.get(client, (b"", 0))
        pair = self._pairs.get(attempt)
        seat = pair.seats[side] if pair else None
        if pair is None or seat is None or len(data) > MAX_PACKET + STAMP_BYTES:
            return []
        packet = seat.stamps.taken(data)
        if packet is None:
            self.forged += 1
            return []
        if len(packet) < SHELL or packet[0] not in BETWEEN_PEERS:
            return []
        if packet[0] == Mark.PATH and packet[2:10] != attempt:
            return []
        pair.used_at = now
        other = pair.seats[1 - side]
        earned = (now - pair.counted_at) * self._bounds.bytes_per_s
        pair.allowance = min(self._bounds.burst, pair.allowance + earned)
        pair.counted_at = now
        if other is None or pair.allowance < len(packet):
            self.dropped += 1
            return []
        pair.allowance -= len(packet)
        self.carried += 1
        return [Send(other.client, packet)]

    def _cookie(self, client: Client, attempt: bytes) -> bytes:
        text = f"{client.transport} {client.endpoint} {attempt.hex()}".encode()
        return hmac.digest(self._secret, text, hashlib.sha256)[:COOKIE_BYTES]
