"""Measuring links: all of them together, and once more what seems to differ.

First small frames, rarely enough that none waits for another, on all links at
once; then, where losses hang together, many in a row; then more than each can
carry, on as many at once as the machine can serve; then the longest frames.

Whatever a finding is about, it says wrongly that something differs once in
`FAMILY` runs at most, whatever the number of links: each interval is that much
wider.  What differs is measured a second time, by the probe that found it, and
reported if it differs then.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from lab.errors import LabError
from lab.fabric.links.transmitter import serialisation_ns
from lab.paths import LabPaths
from lab.plan.attachment import upper_end
from lab.plan.model import Link
from lab.topology import datafiles
from lab.topology.character import Impairment
from lab.verify.links import delivery, fates, frames, loaded, mtu, quiet
from lab.verify.links.bearings import Bearings
from lab.verify.links.loaded import Load
from lab.verify.links.schedule import begins
from lab.verify.links.toll import Read, Toll
from lab.verify.links.traffic import Flow, Wire, carry
from lab.verify.links.words import unmeasured
from lab.verify.report import LinkDimension, LinkFinding, LinkVerdict

FAMILY = 1e-4
"""The probability that a run calls anything different that is as declared."""

_TIMES = 11
"""Findings about one direction, at most."""
_FRAMES_S = 8000.0
"""Small frames a second, over all links."""
_LONGER = 2
"""As long as with the small frames that are apart, many in a row may take."""
_FEWEST = 200
"""Small frames in a direction, however many links there are."""
_SETTLES = frozenset((LinkVerdict.AS_DECLARED, LinkVerdict.UNMEASURED))
"""What need not be looked at again."""


@dataclass(frozen=True, slots=True)
class _Effort:
    """How much to measure."""

    frames: int
    """Small frames in each direction, where the rate allows."""
    seconds: float
    fill_s: float
    """The longest that a queue may take to fill and empty."""


_QUICK = _Effort(frames=400, seconds=1.6, fill_s=4.0)
_SLOW = _Effort(frames=2500, seconds=10.0, fill_s=30.0)


@dataclass(frozen=True, slots=True)
class Way:
    """One direction of a link whose ends are open."""

    about: Bearings
    wire: Wire
    forth: bool

    def flow(self, size: int, offsets_ns: Sequence[int], settle_s: float) -> Flow:
        ends = (self.wire.a, self.wire.b) if self.forth else (self.wire.b, self.wire.a)
        return Flow(*ends, size=size, offsets_ns=offsets_ns, settle_s=settle_s)


Probe = Callable[[Sequence[Way]], Iterator[LinkFinding]]
"""Yields what it finds of some directions."""
Carry = Callable[[Sequence[Flow]], Toll]
"""Sends flows and hears what comes of them; what that cost."""


def title(link: Link) -> str:
    """A link's name for people, as `lab link show` has it; `home -- its LAN` for a router's own."""
    upper = upper_end(link)
    return f"{link.a.node} -- {'its LAN' if upper == link.a.node else upper}"


def measure(
    links: Sequence[Link], paths: LabPaths, *, slow: bool = False, read: Read = lambda: None
) -> tuple[list[LinkFinding], list[tuple[str, str]]]:
    """What is found of `links`, and which could not be measured and why.

    `read` tells how the machine that carries them fares.
    """
    alpha = FAMILY / max(1, 2 * len(links) * _TIMES)
    lost: list[tuple[str, str]] = []
    with contextlib.ExitStack() as stack:
        ways: list[Way] = []
        for link in links:
            try:
                _check_files(link)
                wire = stack.enter_context(Wire(paths, link.a, link.b))
            except LabError as error:
                lost.append((title(link), str(error)))
                continue
            for forth, impairment in ((True, link.a_to_b), (False, link.b_to_a)):
                where = (title(link), link.name, "up" if forth else "down")
                ways.append(Way(Bearings(link, where, impairment, alpha), wire, forth))
        found = judge(ways, partial(carry, read=read), slow=slow)
    order = {link.name: place for place, link in enumerate(links)}
    found.sort(key=lambda one: order[one.name])
    return found, lost


def _check_files(link: Link) -> None:
    """Raise LabError if what `link` is held against can't be read any more as it was."""
    for way in (link.a_to_b, link.b_to_a):
        for file in way.files:
            datafiles.load(file)


def judge(ways: Sequence[Way], carry: Carry, *, slow: bool = False) -> list[LinkFinding]:
    """What is found of directions when `carry` has their frames pass."""
    round_ = _Round(_SLOW if slow else _QUICK, carry)
    probes = (round_.quiet, round_.in_a_row, round_.loaded, round_.longest)
    return [one for probe in probes for one in _twice(probe, ways)]


def _twice(probe: Probe, ways: Sequence[Way]) -> list[LinkFinding]:
    """What `probe` finds; of ways that seem to differ, what it finds then: once was chance."""
    found = [*probe(ways)]
    suspects = {(one.name, one.way) for one in found if one.verdict not in _SETTLES}
    if not suspects:
        return found
    again = [*probe([way for way in ways if way.about.where[1:] in suspects])]
    second = {(one.name, one.way, one.dimension): one for one in again}
    kept = []
    for one in found:
        later = second.pop((one.name, one.way, one.dimension), one)
        kept.append(one if one.verdict is LinkVerdict.AS_DECLARED else later)
    # What could not be told the first time, as something else was wrong.
    return [*kept, *second.values()]


@dataclass(slots=True)
class _Round:
    """The probes."""

    effort: _Effort
    carry: Carry
    passed: set[tuple[str, str, str]] = field(default_factory=set)
    """Through where frames of full length came."""

    def quiet(self, ways: Sequence[Way]) -> Iterator[LinkFinding]:
        """Small frames on all links at once."""
        if not ways:
            return
        effort = self.effort
        flows = []
        apart_s = max(effort.seconds / effort.frames, len(ways) / _FRAMES_S)
        span_s = max(effort.seconds, _FEWEST * apart_s)
        for place, way in enumerate(ways):
            step = max(apart_s, 2 * way.about.serial_s(frames.SMALLEST))
            begin = step * place / len(ways)
            count = min(int(span_s / step), effort.frames)
            offsets = [int((begin + i * step) * 1e9) for i in range(count)]
            flows.append(way.flow(frames.SMALLEST, offsets, _on_its_way_s(way.about.way)))
        for about, flow in self._carried(ways, flows):
            yield from fates.findings(about, flow)
            if not fates.train(about.way):
                yield from fates.order_of_losses(about, flow)
            yield from quiet.findings(about, flow)

    def in_a_row(self, ways: Sequence[Way]) -> Iterator[LinkFinding]:
        """Small frames one after another, where it matters what came of the one before."""
        chosen = [way for way in ways if fates.train(way.about.way) and not way.about.link.down]
        flows = []
        for way in chosen:
            step = max(len(chosen) / _FRAMES_S, 2 * way.about.serial_s(frames.SMALLEST))
            count = min(fates.train(way.about.way), int(_LONGER * self.effort.seconds / step))
            offsets = [int(i * step * 1e9) for i in range(max(count, _FEWEST))]
            flows.append(way.flow(frames.SMALLEST, offsets, _on_its_way_s(way.about.way)))
        for about, flow in self._carried(chosen, flows):
            yield from fates.order_of_losses(about, flow)
            yield from quiet.correlation(about, flow)

    def loaded(self, ways: Sequence[Way]) -> Iterator[LinkFinding]:
        """More than they carry on some links at a time."""
        chosen: list[Way] = []
        turns: list[delivery.Turn | None] = []
        loads: list[Load] = []
        for way in ways:
            about = way.about
            if about.link.down:
                continue
            turn = delivery.turn_of(about.way)
            load: Load | str
            if turn is not None:
                load = delivery.load_for(turn, about.link.mtu)
            else:
                load = loaded.load(about.way, about.link.mtu, self.effort.fill_s)
            if isinstance(load, str):
                rate = turn.rate_bit if turn else None
                yield unmeasured(about.where, LinkDimension.RATE, rate, "bit/s", load)
                continue
            chosen.append(way)
            turns.append(turn)
            loads.append(load)
        flows = []
        starts = begins([load.task for load in loads])
        for way, load, start in zip(chosen, loads, starts, strict=True):
            begin = int(start * 1e9)
            settle_s = _on_its_way_s(way.about.way) + load.drain_s
            flows.append(way.flow(load.size, [begin + at for at in load.offsets_ns], settle_s))
        carried = self._carried(chosen, flows)
        for (about, flow), load, turn in zip(carried, loads, turns, strict=True):
            if flow.arrivals and load.size == about.link.mtu + frames.HEADER:
                self.passed.add(about.where)
            if turn is not None:
                yield from delivery.findings(about, turn, flow)
            else:
                yield from loaded.findings(about, load, flow)

    def longest(self, ways: Sequence[Way]) -> Iterator[LinkFinding]:
        """The longest that pass."""
        whole = [way for way in ways if not way.about.link.down]
        yield from mtu.findings(
            [way.about for way in whole], _passes(whole, self.carry), self.passed
        )

    def _carried(
        self, ways: Sequence[Way], flows: Sequence[Flow]
    ) -> Iterator[tuple[Bearings, Flow]]:
        """What came of them, each beside what its judge is to know."""
        if not flows:
            return
        toll = self.carry(flows)
        for way, flow in zip(ways, flows, strict=True):
            about = way.about
            felt = toll.felt(about.link.backend)
            yield Bearings(about.link, about.where, about.way, about.alpha, felt), flow


def _on_its_way_s(way: Impairment) -> float:
    return (way.delay_us + 10 * way.jitter_us) / 1e6


def _passes(ways: Sequence[Way], carry: Carry) -> mtu.Passes:
    """Sends each so often that it is not by chance that none comes."""

    def passes(sizes: Mapping[int, int]) -> Mapping[int, bool]:
        flows = {}
        for number, size in sizes.items():
            way = ways[number].about.way
            rate, share = way.rate_bit, min(way.loss_share, 0.9)
            times = 3 if not share else min(60, math.ceil(-9 / math.log10(share)) + 1)
            if way.bursts:
                times = min(60, times + math.ceil(20 / way.bursts.r))
            step = serialisation_ns(size + frames.HEADER, rate) if rate else 100_000
            flows[number] = ways[number].flow(
                size + frames.HEADER,
                [i * step for i in range(times)],
                _on_its_way_s(way) + times * step / 1e9,
            )
        if flows:
            carry([*flows.values()])
        return {number: bool(flow.arrivals) for number, flow in flows.items()}

    return passes
