"""Technique `birthday`: many sockets on the hard side, many probes from the easy side.

A NAT that gives each destination a port at random can't be told where to
expect a packet, but it can be made to expect one at many places: the peer
behind it (the hard side) sends from 256 sockets to the one endpoint of the
other (the easy side, whose NAT keeps its mapping), which opens 256 of 64 512
ports there.  The easy side probes ports at random.  As with birthdays, a hit
comes sooner than one thinks: 174 probes have an even chance, 1024 one of 98 %
(`lab.peer.chance`; D. Anderson, "How NAT traversal works", Tailscale 2020).

Two easy sides need no luck and simply probe each other.  Two hard ones would
need some 54 000 probes each for an even chance, and are not tried.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lab.peer import chance
from lab.peer.driver import Driver, UdpDriver
from lab.peer.endpoint import Endpoint
from lab.peer.fan import FanDriver, open_fan
from lab.peer.machine import Datagram
from lab.peer.record import Candidate, Outcome
from lab.peer.settings import Settings
from lab.peer.traversal.call import AttemptError, Call, Established, IncomingCall, OutgoingCall
from lab.peer.traversal.learn import learn
from lab.peer.traversal.needs import without_ipv4, without_stun
from lab.peer.traversal.prober import Part, Prober
from lab.peer.traversal.seal import Seal, Type
from lab.peer.traversal.settle import established, probing_until, reflexive, settle, silence
from lab.peer.traversal.start import agreed, answer_and_begin

KIND = "punch"
SOCKETS = 256
PROBES = 2048
PACE = 100.0
"""Probes a second: what a cautious NAT or carrier takes for no scan."""
MOST_SOCKETS, MOST_PROBES, MOST_PACE = 512, 8192, 1000.0
HEAD_START_S = 0.3
"""What the hard side has to open its ports before the first probe."""
LAST_S = 1.0
"""How long after the last probe an answer is waited for."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is tried."""

    sockets: int
    probes: int
    pace: float

    @classmethod
    def wanted(cls, call: Call) -> Effort:
        """What the order says."""
        return cls(
            int(call.option("sockets", SOCKETS, 0, MOST_SOCKETS)),
            int(call.option("probes", PROBES, 1, MOST_PROBES)),
            call.option("pace", PACE, 1, MOST_PACE),
        )

    @classmethod
    def told(cls, details: Mapping[str, Any]) -> Effort:
        """What an offer says, within bounds: nobody makes this peer flood another."""
        values = (details.get("sockets"), details.get("probes"), details.get("pace"))
        sockets, probes, pace = (
            v if isinstance(v, int | float) and abs(v) < math.inf else 0 for v in values
        )
        return cls(
            min(max(int(sockets), 0), MOST_SOCKETS),
            min(max(int(probes), 1), MOST_PROBES),
            min(max(pace, 1.0), MOST_PACE),
        )

    @property
    def seconds(self) -> float:
        return HEAD_START_S + self.probes / self.pace + LAST_S

    def words(self, sent: int) -> str:
        """For a sentence: what was done, and how likely that was to work."""
        odds = chance.hit(self.sockets, sent)
        return f"{self.sockets} sockets against {sent} probes, which hit {odds:.1%} of the time"


@dataclass(frozen=True, slots=True)
class _Self:
    """What a peer found out about its own side."""

    driver: UdpDriver
    mapped: Endpoint
    hard: bool
    candidates: tuple[Candidate, ...]


class Spray:
    """Probes one endpoint after the other at a pace; a `lab.peer.machine.Machine`."""

    def __init__(self, prober: Prober, targets: Iterable[Endpoint], pace: float, at: float) -> None:
        self.sent = 0
        self._prober = prober
        self._targets = iter(targets)
        self._pause = 1 / pace
        self._next: float | None = at
        self._target = next(self._targets, None)

    def receive(self, data: bytes, source: Endpoint, now: float) -> str:
        return ""

    def tick(self, now: float) -> None:
        if self._prober.nominated:
            self._next = None
        while self._next is not None and self._next <= now:
            if self._target is None:
                self._next = None
                return
            # Refused for having sent too much there: the same one is next, later.
            if self._prober.probe(self._target, now):
                self._target = next(self._targets, None)
                self.sent += 1
            self._next += self._pause

    def deadline(self) -> float | None:
        return self._next

    def take(self) -> list[Datagram]:
        return []  # The prober has them.


class Birthday:
    """See the module."""

    name = "birthday"

    def applies(self, settings: Settings) -> str:
        if reason := without_stun(settings) or without_ipv4(settings):
            return reason
        if len(_servers(settings)) < 2:
            return f"{settings.node} has one STUN endpoint only (LAB_STUN): it can't know its NAT"
        return ""

    async def call(self, call: OutgoingCall) -> Established:
        me, effort = await _look(call), Effort.wanted(call)
        details = {
            **await agreed(call, synchronised=True),
            "hard": me.hard,
            "sockets": effort.sockets,
            "probes": effort.probes,
            "pace": effort.pace,
        }
        answer = await call.offer(me.candidates, details)
        until = min(call.deadline, probing_until(call, effort.seconds))
        seal = call.seal(answer)
        hard = answer.details.get("hard") is True
        work = _Work(call, me, effort, answer.candidates)
        return await work.path(seal, Part.CALLER, until, they_are_hard=hard)

    async def answer(self, call: IncomingCall) -> Established:
        me, theirs = await _look(call), call.incoming.candidates
        effort = Effort.told(call.incoming.details)
        hard = call.incoming.details.get("hard") is True
        if me.hard and hard:
            odds = chance.both_hard(effort.sockets * effort.probes)
            raise AttemptError(
                Outcome.UNSUPPORTED,
                f"both NATs give each destination a port at random: {effort.probes} probes would "
                f"meet {odds:.2%} of the time",
            )
        work = _Work(call, me, effort, theirs)
        await answer_and_begin(call, me.candidates, {"hard": me.hard})
        return await work.path(call.seal(), Part.ACTIVE_CALLEE, call.deadline, they_are_hard=hard)


@dataclass(frozen=True, slots=True)
class _Work:
    """One side of an attempt."""

    call: Call
    me: _Self
    effort: Effort
    theirs: tuple[Candidate, ...]

    async def path(
        self, seal: Seal, part: Part, until: float, *, they_are_hard: bool
    ) -> Established:
        """Open, spray, or just probe; AttemptError if nothing is hit."""
        call, me = self.call, self.me
        remote = self.theirs[0].endpoint if self.theirs else Endpoint("0.0.0.0", 0)
        driver: Driver = me.driver
        spray: Spray | None = None
        started = call.now
        if me.hard:
            driver = fan = await self._fan()
            prober = call.prober(seal, part, (), KIND)
            fan.add(prober)
            sockets = self.effort.sockets
            if remote.sendable and sockets:
                if not call.restraint.allows(remote, call.now, sockets):
                    reason = f"{call.me} has sent enough to {remote.address} that nobody answered"
                    raise AttemptError(Outcome.REFUSED, reason)
                fan.open(lambda: seal.seal(Type.PROBE)[1], remote, KIND)
        elif they_are_hard:
            prober = call.prober(seal, part, (), KIND)
            spray = Spray(prober, self._targets(remote), self.effort.pace, call.now + HEAD_START_S)
            driver.add(spray)
            driver.add(prober)
        else:
            prober = call.prober(seal, part, self.theirs, KIND)
            driver.add(prober)
        if await settle(driver, prober, until):
            note = self._note(spray)
            return established(driver, prober, me.candidates, self.theirs, note=note)
        if not (me.hard or spray):
            raise silence(call, driver, prober, started, "")
        raise AttemptError(Outcome.TIMED_OUT, f"no luck: {self._effort(spray)}")

    def _note(self, spray: Spray | None) -> str:
        if spray:
            return f"hit {self.call.peer} at {{remote}} with probe {spray.sent}"
        if self.me.hard:
            return f"{self.call.peer} at {{remote}} hit one of {self.effort.sockets} sockets"
        return f"no luck was needed: {self.call.peer} answered from {{remote}}"

    def _effort(self, spray: Spray | None) -> str:
        if spray:
            return self.effort.words(spray.sent)
        return self.effort.words(self.effort.probes) + " if all were sent"

    def _targets(self, remote: Endpoint) -> Iterable[Endpoint]:
        seed = f"{self.call.settings.seed} {self.call.attempt.hex()} targets"
        ports = random.Random(seed).sample(range(1024, 65536), self.effort.probes)  # noqa: S311 - a guess
        return (Endpoint(remote.address, port) for port in ports)

    async def _fan(self) -> FanDriver:
        call = self.call
        bind = call.settings.bind if call.settings.families == {4} else ""
        try:
            fan = await open_fan(bind, max(1, self.effort.sockets), call.tally)
        except OSError as error:
            reason = f"{call.me} got no {self.effort.sockets} UDP ports: {error}"
            raise AttemptError(Outcome.FAILED, reason) from error
        call.drivers.append(fan)
        return fan


def _servers(settings: Settings) -> tuple[Endpoint, ...]:
    """Two endpoints of the STUN server with different addresses."""
    return tuple(server for server in settings.reachable(settings.stun) if server.family == 4)[:2]


async def _look(call: Call) -> _Self:
    """Learn one's external endpoint from two servers, and whether they see the same."""
    driver = await call.open_udp()
    seen = []
    for server in _servers(call.settings):
        learned = await learn(driver, server, call.deadline)
        if learned.mapped is None:
            raise AttemptError(Outcome.BLOCKED, f"{call.me}: {learned.trouble}")
        seen.append(learned.mapped)
    hosts = [host for host in call.hosts(driver) if host.endpoint.family == 4]
    candidates = (*reflexive(seen[0], hosts), *hosts)
    return _Self(driver, seen[0], len(set(seen)) > 1, candidates)
