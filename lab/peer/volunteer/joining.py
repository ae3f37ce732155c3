"""A peer's half of joining a pair at a volunteer, as a machine."""

from __future__ import annotations

import hmac

from lab.peer.endpoint import Endpoint
from lab.peer.identity import Identity
from lab.peer.machine import Datagram
from lab.peer.traversal.seal import Agreement
from lab.peer.volunteer.stamp import Stamps, agreed
from lab.peer.volunteer.wire import Exchange, Packet, Type, exchange, join, parse, prove

KIND = "relay-peer"
RETRY_S = 0.4
TRIES = 4


class Joining:
    """Asks, proves, and is `joined`, `refused` or `failed`."""

    def __init__(
        self, identity: Identity, attempt: bytes, at: Endpoint, volunteer: bytes, now: float
    ) -> None:
        self.joined = False
        self.refused = False
        self.failed = False
        """Whether all tries went unanswered."""
        self.stamps: Stamps | None = None
        """For what is sent to the volunteer, once it has challenged."""
        self._identity = identity
        self._attempt = attempt
        self._at = at
        self._volunteer = volunteer
        self._agreement = Agreement()
        self._challenge: Exchange | None = None
        self._tries = 0
        self._next = now
        self._out: list[Datagram] = []

    @property
    def done(self) -> bool:
        return self.joined or self.refused or self.failed

    def leave(self) -> None:
        """Say that the pair needs the volunteer no more; if that is lost, it will notice."""
        if self.joined and self._challenge:
            data = Packet(Type.LEAVE, self._attempt, self._challenge.cookie).encode()
            self._out.append(Datagram(data, self._at, KIND))

    # --- Machine ---

    def receive(self, data: bytes, source: Endpoint, now: float) -> str:
        packet = parse(data) if source == self._at else None
        if packet is None or packet.attempt != self._attempt:
            return ""
        if not self.done:
            self._take(packet, now)
        return KIND

    def tick(self, now: float) -> None:
        if self.done or now < self._next:
            return
        if self._tries == TRIES:
            self.failed = True
            return
        self._tries += 1
        self._next = now + RETRY_S
        self._ask()

    def deadline(self) -> float | None:
        return None if self.done else self._next

    def take(self) -> list[Datagram]:
        out, self._out = self._out, []
        return out

    def _take(self, packet: Packet, now: float) -> None:
        match packet.type:
            case Type.CHALLENGE if not self._challenge:
                said = exchange(packet)
                keys = (self._agreement.ephemeral, said.ephemeral)
                try:
                    self.stamps = agreed(
                        self._agreement, self._attempt, said.cookie, keys, relay=False
                    )
                except ValueError:
                    return  # no key of an honest volunteer
                self._challenge = said
                self._tries, self._next = 1, now + RETRY_S
                self._ask()
            case Type.JOINED if self.stamps:
                self.joined = hmac.compare_digest(packet.more, self.stamps.welcome)
            case Type.REFUSED:
                self.refused = True

    def _ask(self) -> None:
        data = join(self._attempt)
        if self._challenge:
            own = self._agreement.ephemeral
            data = prove(self._identity, self._attempt, self._challenge, own, self._volunteer)
        self._out.append(Datagram(data, self._at, KIND))
