"""What a link does to frames that never wait for one another: delay, jitter, and losses.

Of the delays it is the early ones that tell: a machine that is busy delivers
some late and none before its time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from lab.fabric.links.transmitter import serialisation_ns
from lab.plan.model import Link
from lab.topology.behaviour import Backend, Distribution, Impairment, Order
from lab.verify.links import expected, intervals
from lab.verify.links.traffic import Arrival, Flow
from lab.verify.links.words import Interval, finding
from lab.verify.report import LinkDimension, LinkFinding

_CLOCK_S = 0.000_1
"""By how much two clocks of one machine may disagree about a delay, plus a hundredth of it in a
hundred: they are adjusted while they run."""
_RUNS_KNOWN = 1.4
"""How much wider an interval is whose deviation is known from a few runs of the model."""
_FOREIGN = 0.05
"""Share of a rate from which on the traffic of others is felt."""


@dataclass(frozen=True, slots=True)
class Bearings:
    """What a judge knows besides the flow."""

    link: Link
    where: tuple[str, str, str]
    """The link's title and name, and `up` or `down`."""
    way: Impairment
    """What is declared."""
    alpha: float
    """Of one finding."""
    slack_s: float
    """How late this machine may be with everything."""
    slow: bool


def findings(about: Bearings, flow: Flow) -> Iterator[LinkFinding]:
    """All that a flow of small frames tells."""
    seen = _first_of_each(flow.arrivals)
    yield from _losses(about, flow, seen)
    delays = [
        (flow.sent[number], at_ns) for number, at_ns in seen.items() if number < len(flow.sent)
    ]
    if len(delays) < 8:
        return
    early = _early(about, flow, seen)
    if early is not None:
        hits, threshold_s = early
        if about.way.reorder or hits:
            yield _share(about, LinkDimension.REORDERING, about.way.reorder, hits, len(delays))
        if about.way.reorder or hits:
            delays = [one for one in delays if (one[1] - one[0][0]) / 1e9 >= threshold_s]
    if len(delays) >= 8:
        yield from _delays(about, flow, delays)


# --- losses -----------------------------------------------------------------


def _first_of_each(arrivals: Sequence[Arrival]) -> dict[int, int]:
    """When each frame came first, by its number."""
    seen: dict[int, int] = {}
    for one in arrivals:
        seen.setdefault(one.number, one.at_ns)
    return seen


def _losses(about: Bearings, flow: Flow, seen: dict[int, int]) -> Iterator[LinkFinding]:
    way, count = about.way, len(flow.sent)
    lost = count - len(seen)
    yield _loss(about, lost, count, crowded(about, flow))
    if about.slow and way.bursts and way.bursts.r < 1 and not way.loss and lost:
        yield from _burst_length(about, [number not in seen for number in range(count)])
    if about.link.down:
        return
    doubled = len(flow.arrivals) - len(seen)
    if way.duplicate or doubled:
        declared = way.duplicate * (1 - way.loss_share)
        yield _share(about, LinkDimension.DUPLICATION, declared, doubled, count)
    damaged = sum(not one.intact for one in flow.arrivals)
    if way.corrupt or damaged:
        yield _share(about, LinkDimension.CORRUPTION, way.corrupt, damaged, len(flow.arrivals))


def _share(
    about: Bearings, dimension: LinkDimension, declared: float, hits: int, count: int
) -> LinkFinding:
    low, high = intervals.share(hits, count, about.alpha)
    return finding(
        about.where,
        dimension,
        declared,
        Interval(hits / max(count, 1), low, high),
        "share",
        count,
        ok=low <= declared <= high,
    )


def _loss(about: Bearings, lost: int, count: int, crowd: str) -> LinkFinding:
    way = about.way
    low, high = intervals.share(lost, count, about.alpha)
    declared = 1.0 if about.link.down else way.loss_share * (1 - way.duplicate)
    extra = ""
    if about.link.down:
        extra = " (down)"
        ok = lost == count
    elif way.pattern is not None:
        extra = " in a pattern"
        # It may have begun anywhere; chance adds what it may to what it leaves.
        turn, many = way.pattern.of, len(way.pattern.lost)
        chance = way.loss + (way.bursts.share if way.bursts else 0.0)
        room = many * (1 + count % turn / turn) + (count * (high - low) if chance else 0)
        ok = abs(lost - count * declared) <= room + 1
    elif way.bursts is not None:
        extra = " in bursts"
        least, most = intervals.lost_in_bursts(way.bursts, way.loss, count, about.alpha)
        ok = least <= lost <= most
        # As wide as what the declared chain may do.
        low = min(low, max(0.0, (lost - (most - count * declared)) / count))
        high = max(high, min(1.0, (lost + count * declared - least) / count))
    else:
        ok = low <= declared <= high
    seen = Interval(lost / max(count, 1), low, high)
    distorted = crowd if seen.value > declared else ""
    return finding(
        about.where,
        LinkDimension.LOSS,
        declared,
        seen,
        "share",
        count,
        ok=ok,
        extra=extra,
        distorted=distorted,
    )


def _burst_length(about: Bearings, fates: Sequence[bool]) -> Iterator[LinkFinding]:
    bursts = about.way.bursts
    begins = sum(fate and not former for former, fate in pairwise((False, *fates)))
    if bursts is None or begins < 10:
        return
    usual = expected.burst_length(bursts, len(fates))
    room = intervals.deviations(about.alpha) * _RUNS_KNOWN * usual.deviation
    length = expected.mean_run(fates)
    yield finding(
        about.where,
        LinkDimension.BURSTS,
        usual.mean,
        Interval(length, max(1.0, length - room), length + room),
        "packets",
        len(fates),
        ok=abs(length - usual.mean) <= room,
    )


# --- delays -----------------------------------------------------------------


def _early(about: Bearings, flow: Flow, seen: dict[int, int]) -> tuple[int, float] | None:
    """How many frames did not wait for the delay, and what is too soon; None if it can't be told.

    Where most are early, the delay is another one and nobody overtakes.
    """
    way = about.way
    reach = 1 if way.distribution is Distribution.UNIFORM else 3
    surely_us = way.delay_us - reach * way.jitter_us
    if surely_us < 2000 and way.reorder:
        return None
    if way.order is Order.FREE and way.jitter_us and not way.reorder:
        return None
    if way.reorder:
        threshold = (surely_us / 2) / 1e6 + _serial_s(way, flow.size)
        hits = sum((at - flow.sent[number][0]) / 1e9 < threshold for number, at in seen.items())
        return (hits, threshold) if hits <= len(seen) * max(0.5, way.reorder + 0.3) else None
    # Nobody may: who comes before one that was sent earlier is early.
    least, hits, overtakers = len(flow.sent), 0, []
    for number, at_ns in sorted(seen.items(), key=lambda one: -one[1]):
        if number > least:
            hits += 1
            overtakers.append((at_ns - flow.sent[number][0]) / 1e9)
        least = min(least, number)
    return hits, max(overtakers, default=0.0) + 1e-6


def _delays(
    about: Bearings, flow: Flow, delays: Sequence[tuple[tuple[int, int], int]]
) -> Iterator[LinkFinding]:
    most = sorted((at - sent[0]) / 1e9 for sent, at in delays)
    least = sorted((at - sent[1]) / 1e9 for sent, at in delays)
    serial = _serial_s(about.way, flow.size)
    if about.way.jitter_us:
        yield from _jittering(about, flow, most, serial)
        return
    declared = about.way.delay_us / 1e6
    crowd = crowded(about, flow)
    first, last = intervals.ranks(len(most), 0.1, about.alpha)
    seen = Interval(
        max(0.0, intervals.quantile(most, 0.1) - serial),
        max(0.0, least[first] - serial),
        max(0.0, most[last] - serial),
    )
    # A token bucket lets a lone frame pass at once.
    sooner = _CLOCK_S + declared / 10_000 + (serial if _in_bucket(about) else 0.0)
    held_s = max(about.slack_s, 0.02 * declared) + (0.05 if about.way.trace else 0.0)
    high = seen.high or 0.0
    yield finding(
        about.where,
        LinkDimension.DELAY,
        declared,
        seen,
        "s",
        len(most),
        ok=high >= declared - sooner and seen.low <= declared + held_s,
        distorted=crowd if seen.low > declared else "",
    )
    _, tenth = intervals.ranks(len(most), 0.1, about.alpha)
    sixth_low, sixth_high = intervals.ranks(len(most), 0.6, about.alpha)
    least_spread = max(0.0, least[sixth_low] - most[tenth])
    yield finding(
        about.where,
        LinkDimension.JITTER,
        0.0,
        Interval(expected.early_spread(most), least_spread, most[sixth_high] - least[first]),
        "s",
        len(most),
        ok=bool(about.way.trace) or least_spread <= about.slack_s,
        distorted=crowd,
    )


def _jittering(
    about: Bearings, flow: Flow, delays: Sequence[float], serial: float
) -> Iterator[LinkFinding]:
    way = about.way
    usual = expected.spread(way, [before for before, _ in flow.sent], flow.size)
    wide = intervals.deviations(about.alpha) * _RUNS_KNOWN
    crowd = crowded(about, flow)
    declared = way.delay_us / 1e6
    value = declared + intervals.quantile(delays, 0.5) - usual.median.mean
    room = wide * usual.median.deviation + _CLOCK_S + (serial if _in_bucket(about) else 0.0)
    held_s = max(about.slack_s, 0.02 * declared)
    yield finding(
        about.where,
        LinkDimension.DELAY,
        declared,
        Interval(value, max(0.0, value - room), value + room),
        "s",
        len(delays),
        ok=value + room >= declared and value - room <= declared + held_s,
        distorted=crowd if value > declared else "",
    )
    if usual.early.mean <= 0:
        return
    jitter = way.jitter_us / 1e6
    scale = jitter / usual.early.mean
    value = expected.early_spread(delays) * scale
    room = wide * usual.early.deviation * scale
    yield finding(
        about.where,
        LinkDimension.JITTER,
        jitter,
        Interval(value, max(0.0, value - room), value + room),
        "s",
        len(delays),
        ok=value - room - about.slack_s * scale <= jitter <= value + room + about.slack_s * scale,
        extra="" if way.distribution is Distribution.UNIFORM else f" {way.distribution}",
        distorted=crowd,
    )


def crowded(about: Bearings, flow: Flow) -> str:
    """That others use so much of a direction that it can't be told from a slow one; or empty."""
    rate = about.way.rate_bit
    if not rate or len(flow.sent) < 2:
        return ""
    span_s = (flow.sent[-1][1] - flow.sent[0][0]) / 1e9
    used = flow.foreign * 8 / max(span_s, 1e-3) / rate
    return f"others use {used:.0%} of it" if used > _FOREIGN else ""


def _serial_s(way: Impairment, size: int) -> float:
    return serialisation_ns(size, way.rate_bit) / 1e9 if way.rate_bit else 0.0


def _in_bucket(about: Bearings) -> bool:
    return about.link.backend is Backend.KERNEL
