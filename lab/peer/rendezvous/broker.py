"""The rendezvous service without its sockets: who is registered, and who may say what.

A peer that would be a relay for others says so (`volunteer`), and whoever asks
is told of some of those (`lab.peer.volunteer`); what they measure themselves by
is that this service comes to their own address from where they did not expect it.

Connections are numbers.  `opened`, `received`, `closed` and `tick` are told
what happened; each returns what has to be done, in order: `Send` or `Close`.

A name belongs to the key that registered it first, for as long as that peer
is connected and `HOLD_S` longer, so that nobody takes the name of a peer that
is just reconnecting.  A holder that says nothing is asked (`ping`) and, when
it does not answer, taken for dead.  The same key may register again at once:
the newer connection replaces the older.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lab.peer.identity import KEY_BYTES, SIGNATURE_BYTES, from_text, to_text, verify
from lab.peer.limits import Buckets
from lab.peer.rendezvous.frames import (
    CHALLENGE,
    MAX_FRAME,
    NONCE_BYTES,
    VERSION,
    FrameError,
    FrameReader,
    challenge_text,
    encode,
    valid_name,
)
from lab.peer.volunteer.election import CONDITIONS
from lab.peer.volunteer.wire import TOKEN_BYTES

HOLD_S = 3.0
PROOF_S = 10.0
"""How long a connection may take to prove who it is."""
IDLE_S = 60.0
"""A peer that says nothing for so long is asked whether it lives."""
PONG_S = 5.0
RATE = 100.0
"""Messages a second that one peer may send; twice as many at once."""
OCTETS_PER_S = 64 * 1024.0
"""Bytes of them, in the long run; eight times as many at once."""
REACH_PAUSE_S = 2.0
"""Between two tests of one connection."""
REACHES_PER_S = 4.0
"""Tests that are begun for all of them together; each sends 128 KiB and takes as much."""
FIRST_PORT = 1024
"""The lowest port that a client may have tested."""
MAX_NAMED = 8
"""Volunteers that one answer names."""
MAX_MEMBERS = 8192
MAX_STRANGERS = 2048


class Send(NamedTuple):
    """Write these bytes to that connection."""

    connection: int
    data: bytes
    lossy: bool = False
    """Another peer wrote them: better lost than that who reads slowly is cut off."""


class Close(NamedTuple):
    """Close that connection after what was written to it."""

    connection: int


class Reach(NamedTuple):
    """Try to reach that port of where that connection comes from."""

    connection: int
    port: int
    token: bytes
    number: int
    """The client's own of its request; to be answered by `reaching`."""


Command = Send | Close | Reach


@dataclass(slots=True)
class _Connection:
    """What is known of one connection; `name` is "" until it is registered."""

    opened_at: float
    heard_at: float
    reader: FrameReader = field(default_factory=FrameReader)
    claimed: str = ""
    key: bytes = b""
    nonce: bytes = b""
    name: str = ""
    pinged_at: float | None = None
    allowance: float = 2 * RATE
    counted_at: float = 0.0
    lacks: tuple[str, ...] | None = None
    """What a volunteer lacks to be a relay; None for a peer that is none."""
    reach_at: float = 0.0
    """Before that, it is not tested again."""


class _Refusal(Exception):  # noqa: N818 - not an error of this program: an answer
    """An answer that says no; `fatal` ones end the connection."""

    def __init__(self, code: str, reason: str, *, fatal: bool = False) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.fatal = fatal


class Broker:
    """All members of the service."""

    def __init__(self, *, rate: float = RATE, max_members: int = MAX_MEMBERS) -> None:
        self._rate = rate
        self._max_members = max_members
        self._connections: dict[int, _Connection] = {}
        self._members: dict[str, int] = {}
        self._held: dict[str, tuple[bytes, float]] = {}
        """Names of peers that left, with their key and until when it is kept."""
        self._handlers: dict[
            str, Callable[[int, _Connection, dict[str, Any], float], list[Command]]
        ] = {
            "who": self._who,
            "send": self._send,
            "reach": self._reach,
            "volunteer": self._volunteer,
            "volunteers": self._volunteers,
        }
        self._octets = Buckets(OCTETS_PER_S, 8 * OCTETS_PER_S, max_members)
        self._reaches = REACHES_PER_S
        self._reached_at = 0.0
        self._rng = random.Random()  # noqa: S311 - spreads load, and is no secret

    @property
    def members(self) -> tuple[str, ...]:
        """The names that are registered."""
        return tuple(self._members)

    def opened(self, connection: int, now: float) -> list[Command]:
        """A client has connected."""
        if len(self._connections) - len(self._members) >= MAX_STRANGERS:
            return [Close(connection)]
        self._connections[connection] = _Connection(now, now, counted_at=now)
        return []

    def closed(self, connection: int, now: float) -> None:
        """A connection is gone."""
        gone = self._connections.pop(connection, None)
        if gone and gone.name and self._members.get(gone.name) == connection:
            del self._members[gone.name]
            self._held[gone.name] = (gone.key, now + HOLD_S)

    def received(self, connection: int, data: bytes, now: float) -> list[Command]:
        """Bytes have arrived."""
        state = self._connections.get(connection)
        if state is None:
            return []
        state.heard_at, state.pinged_at = now, None
        try:
            messages = state.reader.feed(data)
        except FrameError as error:
            return self._dismiss(connection, "malformed", str(error), now)
        commands: list[Command] = []
        for message, size in messages:
            if connection not in self._connections:
                break
            try:
                if state.name:
                    self._spend(connection, state, size, now)
                commands += self._handle(connection, state, message, now)
            except _Refusal as refusal:
                if refusal.fatal:
                    commands += self._dismiss(connection, refusal.code, refusal.reason, now)
                    break
                commands.append(_error(connection, message, refusal))
        return commands

    def tick(self, now: float) -> list[Command]:
        """Ask the silent, dismiss the dead; to be called about every second."""
        self._held = {name: held for name, held in self._held.items() if held[1] > now}
        commands: list[Command] = []
        for connection, state in tuple(self._connections.items()):
            if not state.name:
                if now - state.opened_at > PROOF_S:
                    commands += self._dismiss(connection, "too-slow", "no proof came", now)
            elif state.pinged_at is not None:
                if now - state.pinged_at > PONG_S:
                    commands += self._dismiss(connection, "silent", "no answer to a ping", now)
            elif now - state.heard_at > IDLE_S:
                commands += self._ping(connection, state, now)
        return commands

    # --- what a client may say ---

    def _handle(
        self, connection: int, state: _Connection, message: dict[str, Any], now: float
    ) -> list[Command]:
        kind = message.get("t")
        if not isinstance(kind, str):
            raise _Refusal("malformed", "a message has a kind, `t`", fatal=True)
        if not state.name:
            if kind == "hello" and not state.nonce:
                return self._hello(connection, state, message)
            if kind == "prove" and state.nonce:
                return self._prove(connection, state, message, now)
            raise _Refusal("unregistered", f"{kind[:20]!r} from a stranger", fatal=True)
        if kind == "pong":
            return []
        handler = self._handlers.get(kind)
        if handler is None:
            raise _Refusal("malformed", f"no such message: {kind[:20]!r}")
        return handler(connection, state, message, now)

    def _hello(self, connection: int, state: _Connection, message: dict[str, Any]) -> list[Command]:
        name = message.get("name")
        if message.get("v") != VERSION:
            raise _Refusal("version", f"version {VERSION} is spoken here", fatal=True)
        if not valid_name(name):
            raise _Refusal("bad-name", "that is no name", fatal=True)
        try:
            state.key = from_text(message.get("key"), KEY_BYTES)
        except ValueError as error:
            raise _Refusal("bad-key", str(error), fatal=True) from error
        state.claimed = str(name)
        state.nonce = secrets.token_bytes(NONCE_BYTES)
        return [_frame(connection, {"t": "challenge", "nonce": to_text(state.nonce)})]

    def _prove(
        self, connection: int, state: _Connection, message: dict[str, Any], now: float
    ) -> list[Command]:
        try:
            signature = from_text(message.get("signature"), SIGNATURE_BYTES)
        except ValueError as error:
            raise _Refusal("bad-proof", str(error), fatal=True) from error
        text = challenge_text(state.nonce, state.claimed, state.key)
        if not verify(state.key, signature, CHALLENGE, text):
            raise _Refusal("bad-proof", "the signature is not of that key", fatal=True)
        commands: list[Command] = []
        holder = self._members.get(state.claimed)
        if holder is not None:
            older = self._connections[holder]
            if older.key != state.key:
                commands += self._ping(holder, older, now)
                commands += self._dismiss(connection, "name-taken", _taken(state.claimed), now)
                return commands
            commands += self._dismiss(holder, "replaced", "the peer has registered again", now)
        else:
            held = self._held.get(state.claimed)
            if held and held[1] > now and held[0] != state.key:
                raise _Refusal("name-taken", _taken(state.claimed), fatal=True)
        if len(self._members) >= self._max_members:
            raise _Refusal("full", f"{self._max_members} peers are the most", fatal=True)
        self._held.pop(state.claimed, None)
        self._members[state.claimed] = connection
        state.name = state.claimed
        return [*commands, _frame(connection, {"t": "welcome"})]

    def _who(
        self, connection: int, state: _Connection, message: dict[str, Any], now: float
    ) -> list[Command]:
        name, member = self._find(message.get("name"))
        key = to_text(self._connections[member].key)
        reply = {"t": "peer", "id": _number(message), "name": name, "key": key}
        return [_frame(connection, reply)]

    def _send(
        self, connection: int, state: _Connection, message: dict[str, Any], now: float
    ) -> list[Command]:
        _, member = self._find(message.get("to"))
        body = message.get("body")
        if not isinstance(body, dict):
            raise _Refusal("malformed", "a body is an object")
        parcel = {"t": "message", "from": state.name, "key": to_text(state.key), "body": body}
        try:
            delivery = _frame(member, parcel)
        except FrameError as error:
            raise _Refusal("too-big", f"{MAX_FRAME} bytes are the most") from error
        sent = _frame(connection, {"t": "sent", "id": _number(message)})
        return [delivery._replace(lossy=True), sent]

    def _reach(
        self, connection: int, state: _Connection, message: dict[str, Any], now: float
    ) -> list[Command]:
        port = message.get("port")
        if not isinstance(port, int) or not FIRST_PORT <= port <= 65535:
            raise _Refusal("malformed", f"a port is from {FIRST_PORT} to 65535")
        try:
            token = from_text(message.get("token"), TOKEN_BYTES)
        except ValueError as error:
            raise _Refusal("malformed", str(error)) from error
        earned = (now - self._reached_at) * REACHES_PER_S
        self._reaches = min(REACHES_PER_S, self._reaches + earned)
        self._reached_at = now
        if now < state.reach_at or self._reaches < 1:
            raise _Refusal("too-fast", "that is tested seldom")
        self._reaches -= 1
        state.reach_at = now + REACH_PAUSE_S
        return [Reach(connection, port, token, _number(message))]

    def _volunteer(
        self, connection: int, state: _Connection, message: dict[str, Any], now: float
    ) -> list[Command]:
        lacks = message.get("lacks")
        if not isinstance(lacks, list) or not set(map(str, lacks)) <= set(CONDITIONS):
            raise _Refusal("malformed", f"what may be lacked is {', '.join(CONDITIONS)}")
        elected = message.get("elected") is True
        state.lacks = () if elected else tuple(map(str, lacks)) or CONDITIONS
        return [_frame(connection, {"t": "sent", "id": _number(message)})]

    def _volunteers(
        self, connection: int, state: _Connection, message: dict[str, Any], now: float
    ) -> list[Command]:
        """Elected ones first; which of many is left to chance, so that none has all the load."""
        willing = [
            other
            for number in self._members.values()
            if (other := self._connections[number]).lacks is not None and other is not state
        ]
        self._rng.shuffle(willing)
        willing.sort(key=lambda other: bool(other.lacks))
        peers = [
            {
                "name": other.name,
                "key": to_text(other.key),
                "elected": not other.lacks,
                "lacks": list(other.lacks or ()),
            }
            for other in willing[:MAX_NAMED]
        ]
        reply = {"t": "volunteers", "id": _number(message), "peers": peers}
        return [_frame(connection, reply)]

    # --- helpers ---

    def _find(self, name: object) -> tuple[str, int]:
        member = self._members.get(name) if isinstance(name, str) else None
        if member is None:
            raise _Refusal("unknown-name", "no peer of that name is registered")
        return str(name), member

    def _spend(self, connection: int, state: _Connection, size: int, now: float) -> None:
        """A bucket of `2 * rate` messages, filled at `rate` a second, and one of bytes."""
        if not self._octets.take(connection, now, size):
            raise _Refusal("too-fast", f"{OCTETS_PER_S:g} bytes a second are the most")
        earned = (now - state.counted_at) * self._rate
        state.allowance = min(2 * self._rate, state.allowance + earned)
        state.counted_at = now
        if state.allowance < 1:
            raise _Refusal("too-fast", f"{self._rate:g} messages a second are the most")
        state.allowance -= 1

    def _ping(self, connection: int, state: _Connection, now: float) -> list[Command]:
        if state.pinged_at is None:
            state.pinged_at = now
            return [_frame(connection, {"t": "ping"})]
        return []

    def _dismiss(self, connection: int, code: str, reason: str, now: float) -> list[Command]:
        self.closed(connection, now)
        farewell = {"t": "error", "code": code, "reason": reason}
        return [_frame(connection, farewell), Close(connection)]


def _taken(name: str) -> str:
    return f"the name {name!r} belongs to another key"


def _number(message: dict[str, Any]) -> int:
    """The client's own number of its message; 0 if it has none that we would repeat."""
    number = message.get("id")
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 2**53:
        return number
    return 0


def _error(connection: int, message: dict[str, Any], refusal: _Refusal) -> Send:
    reply = {"t": "error", "id": _number(message), "code": refusal.code, "reason": refusal.reason}
    return _frame(connection, reply)


def _frame(connection: int, message: dict[str, Any]) -> Send:
    return Send(connection, encode(message))
