"""What kind of NAT a client is behind, as two RFCs name it, found with one STUN server.

`rfc3489` walks the tree of RFC 3489, section 10.1, `mapping` makes the tests
of RFC 5780, section 4.3, and `filtering` those of section 4.4.  Each is a
machine (`lab.peer.machine`) that wants a socket on a fresh port to itself: a
packet sent for one test would open the filter that another one tests.

A test whose answer may fail to come is followed by a question that gets one.
When that question is answered and the test is not, in each of several rounds,
the test was refused.  So nothing waits for a clock to run out, unless there
is no answer to anything.
"""

from __future__ import annotations

import secrets
from collections.abc import Generator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

from lab.peer.endpoint import Endpoint
from lab.peer.machine import Datagram
from lab.peer.stun.codec import (
    Class,
    MalformedError,
    Message,
    Method,
    encode,
    is_stun,
    new_transaction,
    parse,
)
from lab.peer.stun.responder import CHANGE_ADDRESS, CHANGE_PORT


class Kind(StrEnum):
    """What RFC 3489, section 5 and section 10.1, calls a client's situation."""

    OPEN = "open internet"
    BLOCKED = "UDP blocked"
    FIREWALL = "symmetric UDP firewall"
    FULL_CONE = "full cone"
    RESTRICTED_CONE = "restricted cone"
    PORT_RESTRICTED_CONE = "port restricted cone"
    SYMMETRIC = "symmetric"


class Behaviour(StrEnum):
    """What RFC 5780, section 4, finds of a mapping or a filtering."""

    NO_NAT = "no NAT"
    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"
    BLOCKED = "UDP blocked"
    UNKNOWN = "unknown"
    """The server has one address only."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to wait for what, in seconds; the path's round trip is what matters."""

    interval: float = 0.5
    """Between two tries."""
    patience: float = 3.0
    """From a question until it counts as unanswered, if nothing else is answered either."""
    rounds: int = 2
    """How many times a test is made before silence counts as an answer."""


@dataclass(frozen=True, slots=True)
class _Question:
    destination: Endpoint
    change: int = 0


@dataclass(frozen=True, slots=True)
class _Answer:
    mapped: Endpoint
    other: Endpoint | None
    """The server's other address and port, if it has them."""


T = TypeVar("T")
_Script = Generator[_Question, _Answer | None, T]
"""Asks questions one after another; returns what they showed."""


class Classifier(Generic[T]):
    """Carries out one script on one socket; a `lab.peer.machine.Machine`.

    `result` is None until the machine is done.
    """

    def __init__(
        self, script: _Script[T], server: Endpoint, now: float, pace: Pace, *, legacy: bool
    ) -> None:
        self.result: T | None = None
        self._script = script
        self._server = server
        self._pace = pace
        self._legacy = legacy
        self._out: list[Datagram] = []
        self._round = _Round()
        self._heard = False
        self._ask(next(script), now)

    @property
    def done(self) -> bool:
        return self.result is not None

    def receive(self, data: bytes, source: Endpoint, now: float) -> str:
        if self.done or not is_stun(data):
            return ""
        try:
            message = parse(data)
        except MalformedError:
            return ""
        if message.kind is not Class.RESPONSE or message.method != Method.BINDING:
            return ""
        if message.transaction == self._round.test:
            mapped = message.endpoint("XOR-MAPPED-ADDRESS") or message.endpoint("MAPPED-ADDRESS")
            if mapped is not None:
                other = message.endpoint("OTHER-ADDRESS") or message.endpoint("CHANGED-ADDRESS")
                self._heard = True
                self._step(_Answer(mapped, other), now)
            return "stun"
        if message.transaction == self._round.control:
            self._round.control = b""
            self._round.number += 1
            if self._round.number > self._pace.rounds:
                self._step(None, now)
            else:
                self._send(now)
            return "stun"
        return ""

    def tick(self, now: float) -> None:
        if self.done:
            return
        if now >= self._round.end:
            self._step(None, now)
        elif now >= self._round.again:
            self._send(now)

    def deadline(self) -> float | None:
        return None if self.done else min(self._round.again, self._round.end)

    def take(self) -> list[Datagram]:
        out, self._out = self._out, []
        return out

    def _step(self, answer: _Answer | None, now: float) -> None:
        try:
            self._ask(self._script.send(answer), now)
        except StopIteration as done:
            self.result = done.value

    def _ask(self, question: _Question, now: float) -> None:
        self._round = _Round(
            question, _transaction(legacy=self._legacy), end=now + self._pace.patience
        )
        self._send(now)

    def _send(self, now: float) -> None:
        self._round.again = now + self._pace.interval
        question = self._round.question
        self._request(self._round.test, question.destination, question.change)
        # Before anything was answered there is nothing to compare silence with.
        if self._heard and question != _Question(self._server):
            self._round.control = self._round.control or _transaction(legacy=self._legacy)
            self._request(self._round.control, self._server, 0)

    def _request(self, transaction: bytes, to: Endpoint, change: int) -> None:
        attributes = {"CHANGE-REQUEST": change} if change else {}
        data = encode(Message(Method.BINDING, Class.REQUEST, transaction, attributes))
        self._out.append(Datagram(data, to, "stun"))


@dataclass(slots=True)
class _Round:
    question: _Question = field(default_factory=lambda: _Question(Endpoint("", 0)))
    test: bytes = b""
    control: bytes = b""
    number: int = 1
    again: float = 0.0
    end: float = 0.0


def _transaction(*, legacy: bool) -> bytes:
    return b"3489" + secrets.token_bytes(12) if legacy else new_transaction()


# --- the three scripts ----------------------------------------------------


def rfc3489(server: Endpoint, local: Endpoint, now: float, pace: Pace) -> Classifier[Kind]:
    """The tree of RFC 3489, section 10.1, in that RFC's own messages.

    `local` is the address and port that the socket has; a server without a
    second address gives `Kind.OPEN`, `FIREWALL` or `SYMMETRIC` at best, so ask
    one that has.
    """
    return Classifier(_tree(server, local), server, now, pace, legacy=True)


def mapping(server: Endpoint, local: Endpoint, now: float, pace: Pace) -> Classifier[Behaviour]:
    """How the NAT maps: the tests of RFC 5780, section 4.3."""
    return Classifier(_mapping(server, local), server, now, pace, legacy=False)


def filtering(server: Endpoint, local: Endpoint, now: float, pace: Pace) -> Classifier[Behaviour]:
    """How the NAT filters: the tests of RFC 5780, section 4.4."""
    return Classifier(_filtering(server), server, now, pace, legacy=False)


def _tree(server: Endpoint, local: Endpoint) -> _Script[Kind]:
    first = yield _Question(server)  # Test I
    if first is None:
        return Kind.BLOCKED
    moved = yield _Question(server, CHANGE_ADDRESS | CHANGE_PORT)  # Test II
    if first.mapped == local:
        return Kind.OPEN if moved else Kind.FIREWALL
    if moved:
        return Kind.FULL_CONE
    if first.other is not None:
        again = yield _Question(first.other)  # Test I, to the server's other endpoint
        if again is None or again.mapped != first.mapped:
            return Kind.SYMMETRIC
    port = yield _Question(server, CHANGE_PORT)  # Test III
    return Kind.RESTRICTED_CONE if port else Kind.PORT_RESTRICTED_CONE


def _mapping(server: Endpoint, local: Endpoint) -> _Script[Behaviour]:
    first = yield _Question(server)
    if first is None:
        return Behaviour.BLOCKED
    if first.mapped == local:
        return Behaviour.NO_NAT
    if first.other is None:
        return Behaviour.UNKNOWN
    second = yield _Question(Endpoint(first.other.address, server.port))
    if second is None:
        return Behaviour.UNKNOWN
    if second.mapped == first.mapped:
        return Behaviour.ENDPOINT_INDEPENDENT
    third = yield _Question(first.other)
    if third is None:
        return Behaviour.UNKNOWN
    if third.mapped == second.mapped:
        return Behaviour.ADDRESS_DEPENDENT
    return Behaviour.ADDRESS_AND_PORT_DEPENDENT


def _filtering(server: Endpoint) -> _Script[Behaviour]:
    first = yield _Question(server)
    if first is None:
        return Behaviour.BLOCKED
    if first.other is None:
        return Behaviour.UNKNOWN
    if (yield _Question(server, CHANGE_ADDRESS | CHANGE_PORT)):
        return Behaviour.ENDPOINT_INDEPENDENT
    if (yield _Question(server, CHANGE_PORT)):
        return Behaviour.ADDRESS_DEPENDENT
    return Behaviour.ADDRESS_AND_PORT_DEPENDENT
