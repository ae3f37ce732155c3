"""Finding a path that works, and proving it to both ends.

The caller decides which path is used, so that both use the same one::

    caller                                   callee
      PROBE n             ---------------->                to each candidate, every 50 ms
                          <----------------  REPLY echo n
      (round trip caller -> callee -> caller is proven)
      CONFIRM echo reply  ---------------->                until it is answered
      (round trip callee -> caller -> callee is proven)
                          <----------------  DONE echo confirm
      (the caller knows that the callee knows)

An active callee probes too, which opens its own NAT and shows the caller
endpoints that nobody could have told it: whoever hears an authentic probe
from a new endpoint adds that as peer-reflexive candidate and, unless it is
passive, probes it at once (RFC 8445, sections 7.3.1.3 and 7.3.1.4).

Where several candidates answer, IPv6 is taken if all else is equal (RFC 8421,
RFC 6724): an answer over IPv4 waits as long again as it took, 0.1 s at least,
for one over IPv6 that may be under way.

An answer counts only from the endpoint that was asked, so that a third party
that forwards packets is not taken for a path.  Until somebody at an address has
answered, what is sent there is bounded over all attempts (`Restraint`), so that
no peer makes others flood a third one that it names.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeVar

from lab.peer.endpoint import Endpoint
from lab.peer.machine import Datagram, Machine
from lab.peer.record import DATA
from lab.peer.traversal.flow import Flow
from lab.peer.traversal.restraint import Pace, Restraint
from lab.peer.traversal.seal import NOWHERE, Opened, Seal, Type

_V = TypeVar("_V")

MAX_REMOTES = 16
MAX_PENDING = 512
LEAST_GRACE_S = 0.1
"""Two rounds of probes at the usual pace."""


class Part(Enum):
    """What a prober does of its own accord."""

    CALLER = auto()
    """Probes, and decides on the path."""
    ACTIVE_CALLEE = auto()
    """Probes, and answers."""
    PASSIVE_CALLEE = auto()
    """Only answers: sends nothing to who has not been heard."""


@dataclass(frozen=True, slots=True)
class _Answered:
    """A candidate that a round trip was made to, and the reply that proves it."""

    remote: Endpoint
    observed: Endpoint
    sequence: int


class Prober:
    """One end of the exchange above; a `lab.peer.machine.Machine`.

    `expired` becomes True at `until` if no path was found.
    """

    def __init__(
        self,
        seal: Seal,
        part: Part,
        remotes: Iterable[Endpoint],
        *,
        now: float,
        until: float,
        kind: str,
        pace: Pace = Pace(),  # noqa: B008 - frozen
        rng: random.Random | None = None,
        restraint: Restraint | None = None,
    ) -> None:
        self.remotes: list[Endpoint] = []
        """Where probes go: what was signalled, then what was heard."""
        self.heard: set[Endpoint] = set()
        """Where authentic packets came from."""
        self.probes = 0
        self.nominated: Endpoint | None = None
        """The other end of the path."""
        self.first_round_trip_at: float | None = None
        self.complete_at: float | None = None
        """When this end knew that the path works both ways."""
        self.observed: Endpoint | None = None
        """This end, as the other sees it on the path."""
        self.expired = False
        self.until = until
        """When it ends, if there is no path by then."""
        self.samples: list[float] = []
        """Round trips on the path after it was chosen, in seconds."""
        self.seal = seal
        self.flow: Flow | None = None
        """What this end sends over the path to measure it."""
        self.rider: Machine | None = None
        """What uses the path, once there is one: packets that are not the prober's are its own."""
        self._part = part
        self._kind = kind
        self._pace = pace
        self._restraint = restraint or Restraint()
        self._answering: set[str] = set()
        """Addresses from which a probe was answered."""
        self._rng = rng or random.Random(0)  # noqa: S311 - jitter, not secret
        self._next = until if part is Part.PASSIVE_CALLEE else now
        self._probed: OrderedDict[int, tuple[Endpoint, float]] = OrderedDict()
        self._replied: OrderedDict[int, Endpoint] = OrderedDict()
        self._confirmed: OrderedDict[int, Endpoint] = OrderedDict()
        self._confirming = 0
        self._second_best: _Answered | None = None
        self._decide_at = until
        self._out: list[Datagram] = []
        self.expect(remotes)

    @property
    def complete(self) -> bool:
        return self.complete_at is not None

    @property
    def settled(self) -> bool:
        return self.complete or self.expired

    def expect(self, remotes: Iterable[Endpoint]) -> None:
        """Probe these endpoints too, from the next round on."""
        for remote in remotes:
            if remote not in self.remotes and len(self.remotes) < MAX_REMOTES and remote.sendable:
                self.remotes.append(remote)

    def ping(self, now: float) -> None:
        """Measure one round trip on the chosen path; it appears in `samples`."""
        if self.nominated:
            self.probe(self.nominated, now)

    # --- Machine ---

    def receive(self, data: bytes, source: Endpoint, now: float) -> str:
        if not self.seal.ours(data):
            return self.rider.receive(data, source, now) if self.rider else ""
        opened = self.seal.open(data)
        if opened is None:
            return ""
        self.heard.add(source)
        match opened.type:
            case Type.PROBE:
                self._on_probe(opened, source, now)
            case Type.REPLY:
                self._on_reply(opened, source, now)
            case Type.CONFIRM:
                self._on_confirm(opened, source, now)
            case Type.DONE:
                self._on_done(opened, source, now)
            case Type.DATA:
                return self._on_data(opened, source)
            case Type.ACK:
                return self._on_ack(opened, source, now)
        return self._kind

    def tick(self, now: float) -> None:
        if self.flow:
            self.flow.tick(now)
        if self.rider:
            self.rider.tick(now)
        if self.settled or now < min(self._next, self._decide_at):
            return
        if self._second_best and now >= self._decide_at and not self.nominated:
            self._nominate(self._second_best, now)
            return
        if now >= self.until:
            self.expired = True
            return
        if self._confirming and self.nominated:
            self._confirm(self.nominated)
        else:
            for remote in self.remotes:
                self.probe(remote, now)
        pause = self._pace.interval
        if self._pace.jitter:
            pause *= 1 + self._pace.jitter * self._rng.uniform(-1, 1)
        self._next = min(now + pause, self.until)

    def deadline(self) -> float | None:
        if self.settled:
            users = (user.deadline() for user in (self.flow, self.rider) if user)
            return min((due for due in users if due is not None), default=None)
        waits = self._second_best is not None and not self.nominated
        return min(self._next, self._decide_at) if waits else self._next

    def take(self) -> list[Datagram]:
        out, self._out = self._out, []
        for user in (self.flow, self.rider):
            out += user.take() if user else ()
        return out

    # --- the exchange ---

    def _on_probe(self, packet: Opened, source: Endpoint, now: float) -> None:
        sequence = self._send(Type.REPLY, source, packet.sequence, source)
        _remember(self._replied, sequence, source)
        if source in self.remotes:
            return
        if len(self.remotes) >= MAX_REMOTES:
            # Who proves to be the other peer takes the place of somebody who did not.
            silent = next((r for r in self.remotes if r not in self.heard), None)
            if silent:
                self.remotes.remove(silent)
        self.expect((source,))
        if self._part is not Part.PASSIVE_CALLEE and not self.nominated and source in self.remotes:
            self.probe(source, now)

    def _on_reply(self, packet: Opened, source: Endpoint, now: float) -> None:
        asked = self._probed.pop(packet.echo, None)
        if asked is None or asked[0] != source:
            return
        self._answering.add(source.address)
        self._restraint.answered(source)
        if self.nominated == source and self.complete:
            self.samples.append(now - asked[1])
        if self.first_round_trip_at is None:
            self.first_round_trip_at = now
        if self._part is Part.CALLER and self.nominated is None:
            found = _Answered(source, packet.observed, packet.sequence)
            # Who guesses where to send (`birthday`) expects nobody by name.
            families = (remote.family for remote in self.remotes)
            if source.family == max(families, default=source.family):
                self._nominate(found, now)
            elif self._second_best is None:
                self._second_best = found
                self._decide_at = now + max(LEAST_GRACE_S, now - asked[1])

    def _nominate(self, found: _Answered, now: float) -> None:
        self.nominated = found.remote
        self.observed = found.observed
        self._confirming = found.sequence
        self._decide_at = self.until
        self._confirm(found.remote)
        self._next = now + self._pace.interval

    def _on_confirm(self, packet: Opened, source: Endpoint, now: float) -> None:
        if self._part is Part.CALLER or self._replied.get(packet.echo) != source:
            return
        if self.nominated not in (None, source):
            return
        self._send(Type.DONE, source, packet.sequence, source)
        if not self.complete:
            self.nominated = source
            self.observed = packet.observed
            self.first_round_trip_at = self.first_round_trip_at or now
            self.complete_at = now

    def _on_done(self, packet: Opened, source: Endpoint, now: float) -> None:
        if self._part is Part.CALLER and self._confirmed.get(packet.echo) == source:
            self.complete_at = self.complete_at or now

    def _on_data(self, packet: Opened, source: Endpoint) -> str:
        if source == self.nominated:
            _, answer = self.seal.seal(Type.ACK, packet.sequence, source)
            self._out.append(Datagram(answer, source, DATA))
        return DATA

    def _on_ack(self, packet: Opened, source: Endpoint, now: float) -> str:
        if self.flow and source == self.nominated:
            self.flow.acknowledged(packet.echo, now)
        return DATA

    def probe(self, remote: Endpoint, now: float) -> bool:
        """Probe `remote` once, whether it is among the remotes or not; whether that was allowed."""
        known = remote.address in self._answering
        if not known and not self._restraint.allows(remote, now):
            return False
        sequence = self._send(Type.PROBE, remote, 0, NOWHERE)
        _remember(self._probed, sequence, (remote, now))
        self.probes += 1
        return True

    def _confirm(self, remote: Endpoint) -> None:
        sequence = self._send(Type.CONFIRM, remote, self._confirming, remote)
        _remember(self._confirmed, sequence, remote)

    def _send(self, kind: Type, remote: Endpoint, echo: int, observed: Endpoint) -> int:
        sequence, packet = self.seal.seal(kind, echo, observed)
        self._out.append(Datagram(packet, remote, self._kind))
        return sequence


def _remember(store: OrderedDict[int, _V], sequence: int, value: _V) -> None:
    store[sequence] = value
    while len(store) > MAX_PENDING:
        store.popitem(last=False)
