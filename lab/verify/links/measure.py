"""Measuring links: all of them together, and once more what seems to differ.

First small frames, rarely enough that none waits for another, on all links at
once; then more than each can carry, on as many at once as the machine can
serve; then the longest frames.

Whatever a finding is about, it says wrongly that something differs once in
`FAMILY` runs at most, whatever the number of links: each interval is that much
wider.  What differs is measured a second time, and reported if it differs then.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from lab.errors import LabError
from lab.fabric.links.transmitter import serialisation_ns
from lab.paths import LabPaths
from lab.plan.attachment import upper_end
from lab.plan.model import Link
from lab.topology.behaviour import Impairment
from lab.verify.links import frames, loaded, mtu, quiet
from lab.verify.links.quiet import Bearings
from lab.verify.links.traffic import Flow, Wire, carry
from lab.verify.report import LinkDimension, LinkFinding, LinkVerdict

FAMILY = 1e-4
"""The probability that a run calls anything different that is as declared."""

_TIMES = 9
"""Findings about one direction, at most."""
_FRAMES_S = 8000.0
"""Small frames a second, over all links."""
_FEWEST = 200
"""Small frames in a direction, however many links there are."""
_HEAVY_S = 15_000.0
"""Frames a second of all links under load at one time."""
_EASY_BIT_S = 20e6
"""A rate that also a busy machine carries."""
_SLACK_S = 0.0012
"""How late an idle machine may be."""
_LATE = frozenset(
    (
        LinkDimension.DELAY,
        LinkDimension.JITTER,
        LinkDimension.RATE,
        LinkDimension.LOSS,
        LinkDimension.QUEUE,
    )
)
"""What a machine that lags makes look worse than it is."""


@dataclass(frozen=True, slots=True)
class Strain:
    """How the machine fared while links were measured."""

    reasons: tuple[str, ...]
    """Why what was measured is distorted; none if it isn't."""
    late_s: float
    """How late it was with what it emulates, about at worst."""


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
class _Way:
    """One direction of a link that is open."""

    about: Bearings
    wire: Wire
    forth: bool

    def flow(self, size: int, offsets_ns: Sequence[int], settle_s: float) -> Flow:
        ends = (self.wire.a, self.wire.b) if self.forth else (self.wire.b, self.wire.a)
        return Flow(*ends, size=size, offsets_ns=offsets_ns, settle_s=settle_s)


def title(link: Link) -> str:
    """A link's name for people, as `lab link show` has it."""
    return f"{link.a.node} -- {upper_end(link)}"


def measure(
    links: Sequence[Link],
    paths: LabPaths,
    *,
    slow: bool = False,
    strain: Callable[[], Strain | None] = lambda: None,
) -> tuple[list[LinkFinding], list[tuple[str, str]]]:
    """What is found of `links`, and which could not be measured and why.

    `strain` is asked in the end, if something differs.
    """
    effort = _SLOW if slow else _QUICK
    alpha = FAMILY / max(1, 2 * len(links) * _TIMES)
    found, lost = _round(links, paths, effort, alpha)
    suspects = {one.name for one in found if one.verdict is not LinkVerdict.AS_DECLARED}
    if suspects:
        again, gone = _round(
            [link for link in links if link.name in suspects], paths, effort, alpha
        )
        lost += gone
        second = {(one.name, one.way, one.dimension): one for one in again}
        found = [_worst_of_both(one, second) for one in found]
    if any(not one.ok for one in found) and (felt := strain()) and felt.reasons:
        found = [_excused(one, felt) for one in found]
    return found, lost


def _worst_of_both(
    one: LinkFinding, second: Mapping[tuple[str, str, LinkDimension], LinkFinding]
) -> LinkFinding:
    """The second finding where there is one: what was wrong once only was chance."""
    if one.verdict is LinkVerdict.AS_DECLARED:
        return one
    return second.get((one.name, one.way, one.dimension), one)


def _excused(one: LinkFinding, felt: Strain) -> LinkFinding:
    """`one` as distorted, if what the machine did explains it."""
    if one.ok or one.dimension not in _LATE:
        return one
    declared = one.declared_value
    match one.dimension:
        case LinkDimension.RATE:
            less = declared is None or one.observed_value < declared
            explained = less and one.observed_value > _EASY_BIT_S
        case LinkDimension.QUEUE:
            explained = abs(one.observed_value / (declared or 1.0) - 1) < 0.3
        case LinkDimension.LOSS:
            explained = 0 <= one.observed_value - (declared or 0.0) < 0.02
        case _:
            explained = 0 <= one.low - (declared or 0.0) <= 3 * felt.late_s
    if not explained:
        return one
    return replace(one, verdict=LinkVerdict.DISTORTED, detail=felt.reasons[0])


def _round(
    links: Sequence[Link], paths: LabPaths, effort: _Effort, alpha: float
) -> tuple[list[LinkFinding], list[tuple[str, str]]]:
    lost: list[tuple[str, str]] = []
    with contextlib.ExitStack() as stack:
        ways: list[_Way] = []
        for link in links:
            try:
                wire = stack.enter_context(Wire(paths, link.a, link.b))
            except LabError as error:
                lost.append((title(link), str(error)))
                continue
            for forth, impairment in ((True, link.a_to_b), (False, link.b_to_a)):
                where = (title(link), link.name, "up" if forth else "down")
                about = Bearings(link, where, impairment, alpha, _SLACK_S, effort is _SLOW)
                ways.append(_Way(about, wire, forth))
        found = [*_quiet(ways, effort)]
        whole = [way for way in ways if not way.about.link.down]
        slack = max((way.about.slack_s for way in whole), default=_SLACK_S)
        passed: set[tuple[str, str, str]] = set()
        found += _loaded(whole, effort, slack, passed)
        found += mtu.findings([way.about for way in whole], _passes(whole), passed)
    order = {link.name: place for place, link in enumerate(links)}
    found.sort(key=lambda one: order[one.name])
    return found, lost


# --- small frames -----------------------------------------------------------


def _quiet(ways: Sequence[_Way], effort: _Effort) -> Iterator[LinkFinding]:
    """All links at once; yields findings."""
    if not ways:
        return
    flows = []
    apart_s = max(effort.seconds / effort.frames, len(ways) / _FRAMES_S)
    span_s = max(effort.seconds, _FEWEST * apart_s)
    for place, way in enumerate(ways):
        rate = way.about.way.rate_bit
        # Half of the rate at most, so that none waits.
        serial_s = 2 * serialisation_ns(frames.SMALLEST, rate) / 1e9 if rate else 0.0
        step = max(apart_s, serial_s)
        begin = step * place / len(ways)
        count = min(int(span_s / step), effort.frames)
        offsets = [int((begin + i * step) * 1e9) for i in range(count)]
        flows.append(way.flow(frames.SMALLEST, offsets, _on_its_way_s(way.about.way)))
    late_s = carry(flows)
    for way, flow in zip(ways, flows, strict=True):
        about = Bearings(
            way.about.link,
            way.about.where,
            way.about.way,
            way.about.alpha,
            _SLACK_S + 2 * late_s,
            way.about.slow,
        )
        yield from quiet.findings(about, flow)


def _on_its_way_s(way: Impairment) -> float:
    return (way.delay_us + 10 * way.jitter_us) / 1e6


# --- load -------------------------------------------------------------------


def _loaded(
    ways: Sequence[_Way], effort: _Effort, slack_s: float, passed: set[tuple[str, str, str]]
) -> Iterator[LinkFinding]:
    """A few links at a time, the slow ones first: these take the longest.

    Notes in `passed` where frames of full length came through.
    """
    left = [(way, loaded.load(way.about.way, way.about.link.mtu, effort.fill_s)) for way in ways]
    left.sort(key=lambda one: one[1].frames_s)
    while left:
        batch: list[tuple[_Way, loaded.Load]] = []
        total = 0.0
        while left and (not batch or total + left[0][1].frames_s <= _HEAVY_S):
            total += left[0][1].frames_s
            batch.append(left.pop(0))
        flows = [
            way.flow(load.size, load.offsets_ns, _on_its_way_s(way.about.way) + load.drain_s)
            for way, load in batch
        ]
        carry(flows)
        for (way, load), flow in zip(batch, flows, strict=True):
            about = Bearings(
                way.about.link,
                way.about.where,
                way.about.way,
                way.about.alpha,
                slack_s,
                way.about.slow,
            )
            if flow.arrivals and load.size == way.about.link.mtu + frames.HEADER:
                passed.add(way.about.where)
            yield from loaded.findings(about, load, flow)


def _passes(ways: Sequence[_Way]) -> mtu.Passes:
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
