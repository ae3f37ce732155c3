"""The client's half of one STUN transaction: send, send again, give up (RFC 8489, section 6.2).

Over UDP a request is sent at 0, RTO, 3 RTO, 7 RTO, ... until `Rc` requests
were sent; it has failed `Rm` x RTO after the last.  Over TCP it is sent once
and fails after Ti.
"""

from __future__ import annotations

from dataclasses import dataclass

from lab.peer.endpoint import Endpoint
from lab.peer.machine import Datagram
from lab.peer.stun.codec import Class, MalformedError, Message, encode, is_stun, parse


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a request is sent, in seconds after the first time, and when it has failed."""

    sends: tuple[float, ...]
    failure: float


def udp_schedule(rto: float = 0.5, rc: int = 7, rm: int = 16) -> Schedule:
    """The schedule of RFC 8489, section 6.2.1; its defaults fail after 39.5 s."""
    sends = tuple(rto * (2**n - 1) for n in range(rc))
    return Schedule(sends, sends[-1] + rm * rto)


def tcp_schedule(ti: float = 39.5) -> Schedule:
    """The schedule over a reliable transport (RFC 8489, section 6.2.2)."""
    return Schedule((0.0,), ti)


RFC_3489 = Schedule((0.0, 0.1, 0.3, 0.7, 1.5, 3.1, 4.7, 6.3, 7.9), 9.5)
"""The schedule of RFC 3489, section 9.3: intervals that double up to 1.6 s."""
QUICK = udp_schedule(rc=3, rm=2)
"""Three tries in 2.5 s: for a person who waits, on paths under half a second."""


class Transaction:
    """One request and its answer; a `lab.peer.machine.Machine`.

    `response` is the answer, a success or an error; `failed` becomes True
    when the schedule has run out.  With a `key`, an answer counts only if it
    is signed, except the errors by which a server asks for a signature
    (RFC 8489, section 9.2.5).
    """

    def __init__(
        self,
        request: Message,
        server: Endpoint,
        schedule: Schedule,
        now: float,
        *,
        key: bytes = b"",
        kind: str = "stun",
        any_source: bool = False,
    ) -> None:
        self.request = request
        self.server = server
        self.tries = 0
        self.response: Message | None = None
        self.responder: Endpoint | None = None
        """Where the answer came from."""
        self.failed = False
        self._data = encode(request, key=key)
        self._key = key
        self._kind = kind
        self._any_source = any_source
        self._sends = [now + offset for offset in reversed(schedule.sends)]
        self._failure = now + schedule.failure
        self._out: list[Datagram] = []

    @property
    def done(self) -> bool:
        return self.failed or self.response is not None

    @property
    def mapped(self) -> Endpoint | None:
        """The endpoint that the server saw; None before an answer, or if it says nothing."""
        if self.response is None or self.response.kind is not Class.RESPONSE:
            return None
        found = self.response.endpoint("XOR-MAPPED-ADDRESS")
        return found or self.response.endpoint("MAPPED-ADDRESS")

    def receive(self, data: bytes, source: Endpoint, now: float) -> str:
        if self.done or not is_stun(data) or not (self._any_source or source == self.server):
            return ""
        try:
            message = parse(data)
        except MalformedError:
            return ""
        return self.accept(message, source)

    def accept(self, message: Message, source: Endpoint) -> str:
        """Take a parsed message, as `receive` does with bytes."""
        if self.done or message.transaction != self.request.transaction:
            return ""
        if message.method != self.request.method:
            return ""
        if message.kind not in (Class.RESPONSE, Class.ERROR):
            return ""
        if self._key and not message.authentic(self._key) and not _asks_for_signature(message):
            return ""
        self.response = message
        self.responder = source
        return self._kind

    def tick(self, now: float) -> None:
        if self.done:
            return
        if self._sends and now >= self._sends[-1]:
            # A late tick sends once: it makes no burst of what it missed.
            while self._sends and self._sends[-1] <= now:
                self._sends.pop()
            self.tries += 1
            self._out.append(Datagram(self._data, self.server, self._kind))
        if now >= self._failure:
            self.failed = True

    def deadline(self) -> float | None:
        if self.done:
            return None
        return self._sends[-1] if self._sends else self._failure

    def take(self) -> list[Datagram]:
        out, self._out = self._out, []
        return out


def _asks_for_signature(message: Message) -> bool:
    error = message.error if message.kind is Class.ERROR else None
    return error is not None and error[0] in (401, 438)
