"""What a link does to frames that never wait for one another: delay, jitter, who overtakes.

Of the delays it is the early ones that tell: a machine that is busy delivers
some late and none before its time.  By how much the machine was late an
interval is wider, downwards; where that is more than an idle machine's, what
lies in the wider part is called distorted, and not as declared.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import asin, pi, sin, sqrt

from lab.topology.character import Distribution, Order
from lab.verify.links import expected, fates, intervals
from lab.verify.links.bearings import CLOCK_S, SLACK_S, Bearings
from lab.verify.links.traffic import Flow
from lab.verify.links.words import Interval, finding, unmeasured
from lab.verify.report import LinkDimension, LinkFinding

_RUNS_KNOWN = 1.4
"""How much wider an interval is whose deviation is known from a few runs of the model."""
_FEWEST = 8
_MIDDLE, _EARLY, _SIXTH = 0.5, 0.1, 0.6
_SKIPPABLE_S = 0.002
"""A delay shorter than that is not missed for sure."""


def findings(about: Bearings, flow: Flow) -> Iterator[LinkFinding]:
    """What a flow of small frames tells of delays."""
    seen = fates.first_of_each(flow.arrivals)
    stamps = {number: at_ns for number, at_ns in seen.items() if number < len(flow.sent)}
    if len(stamps) < _FEWEST:
        if stamps and not about.link.down:
            why = f"{len(stamps)} of {len(flow.sent)} packets came"
            declared = about.way.delay_us / 1e6
            yield unmeasured(about.where, LinkDimension.DELAY, declared, "s", why)
        return
    count = len(stamps)
    early = _early(about, flow, stamps)
    if early is None:
        if about.way.reorder:
            why = "there is no delay to speak of that a packet could skip"
            yield unmeasured(about.where, LinkDimension.REORDERING, about.way.reorder, "share", why)
    elif about.way.reorder or early[0]:
        hits, threshold_s = early
        yield fates.share(about, LinkDimension.REORDERING, about.way.reorder, hits, count)
        stamps = {
            number: at_ns
            for number, at_ns in stamps.items()
            if (at_ns - flow.sent[number][0]) / 1e9 >= threshold_s
        }
    if len(stamps) >= _FEWEST:
        yield from (_jittering if about.way.jitter_us else _steady)(about, flow, stamps)


def _early(about: Bearings, flow: Flow, stamps: dict[int, int]) -> tuple[int, float] | None:
    """How many frames did not wait for the delay, and what is too soon; None if it can't be told.

    Where most are early, the delay is another one and nobody overtakes.
    """
    way = about.way
    reach = 1 if way.distribution is Distribution.UNIFORM else 3
    surely_s = (way.delay_us - reach * way.jitter_us) / 1e6
    if surely_s < _SKIPPABLE_S and way.reorder:
        return None
    if way.order is Order.FREE and way.jitter_us and not way.reorder:
        return None
    if way.reorder:
        threshold = surely_s / 2 + about.serial_s(flow.size)
        hits = sum((at - flow.sent[number][0]) / 1e9 < threshold for number, at in stamps.items())
        return (hits, threshold) if hits <= len(stamps) * max(0.5, way.reorder + 0.3) else None
    # Nobody may: who comes before one that was sent earlier is early.
    least, hits, overtakers = len(flow.sent), 0, []
    for number, at_ns in sorted(stamps.items(), key=lambda one: (-one[1], -one[0])):
        if number > least:
            hits += 1
            overtakers.append((at_ns - flow.sent[number][0]) / 1e9)
        least = min(least, number)
    return hits, max(overtakers, default=0.0) + 1e-6


def _steady(about: Bearings, flow: Flow, stamps: dict[int, int]) -> Iterator[LinkFinding]:
    """Delay, and that it does not stray."""
    most = sorted((at - flow.sent[number][0]) / 1e9 for number, at in stamps.items())
    least = sorted((at - flow.sent[number][1]) / 1e9 for number, at in stamps.items())
    serial = about.serial_s(flow.size)
    declared = about.way.delay_us / 1e6
    first, last = intervals.ranks(len(most), _EARLY, about.alpha)
    value = max(0.0, intervals.quantile(most, _EARLY) - serial)
    # A token bucket lets a lone frame pass at once.
    sooner = CLOCK_S + declared / 10_000 + (serial if about.in_bucket else 0.0)
    high = max(0.0, most[last] - serial)
    held_s = max(SLACK_S, 0.02 * declared)
    if about.way.trace:
        # The next moment of the trace may be some time away.
        held_s += 0.05
    yield _late(
        about,
        flow,
        LinkDimension.DELAY,
        declared,
        Interval(value, max(0.0, least[first] - serial), high),
        held_s,
        (1 - _EARLY) * len(flow.sent),
        soon_enough=high >= declared - sooner,
    )
    if about.way.trace:
        why = "when a packet may leave, the trace says"
        yield unmeasured(about.where, LinkDimension.JITTER, 0.0, "s", why)
        return
    _, tenth = intervals.ranks(len(most), _EARLY, about.alpha)
    sixth_low, sixth_high = intervals.ranks(len(most), _SIXTH, about.alpha)
    yield _late(
        about,
        flow,
        LinkDimension.JITTER,
        0.0,
        Interval(
            expected.early_spread(most),
            max(0.0, least[sixth_low] - most[tenth]),
            most[sixth_high] - least[first],
        ),
        SLACK_S,
        (1 - _SIXTH) * len(flow.sent),
    )


def _late(  # noqa: PLR0917 - what a finding is about, then what was seen
    about: Bearings,
    flow: Flow,
    dimension: LinkDimension,
    declared: float,
    seen: Interval,
    held_s: float,
    frames: float,
    *,
    soon_enough: bool = True,
    extra: str = "",
) -> LinkFinding:
    """A finding about a time that grows by as much as `frames` frames are late.

    `held_s` is for what the links' emulation may always take.
    """
    late_s = about.felt.late_s(frames)
    low = max(0.0, seen.low - late_s)
    punctual = seen.low - min(late_s, SLACK_S) <= declared + held_s
    explained = low <= declared + held_s
    excuse = about.crowded(flow) if seen.low > declared else ""
    if explained and not punctual:
        excuse = excuse or about.felt.lateness(frames)
    return finding(
        about.where,
        dimension,
        declared,
        Interval(seen.value, low, seen.high),
        "s",
        len(flow.arrivals),
        ok=soon_enough and punctual,
        extra=extra,
        distorted=excuse if soon_enough else "",
    )


def _jittering(about: Bearings, flow: Flow, stamps: dict[int, int]) -> Iterator[LinkFinding]:
    """Delay, jitter and how much neighbours are alike, beside what the model gives."""
    way = about.way
    took = {number: (at - flow.sent[number][0]) / 1e9 for number, at in sorted(stamps.items())}
    delays = sorted(took.values())
    usual = expected.spread(way, [before for before, _ in flow.sent], flow.size)
    # The model had no losses.
    fewer = sqrt(len(flow.sent) / len(delays))
    wide = intervals.deviations(about.alpha) * _RUNS_KNOWN * fewer
    declared = way.delay_us / 1e6
    value = declared + intervals.quantile(delays, _MIDDLE) - usual.median.mean
    serial = about.serial_s(flow.size) if about.in_bucket else 0.0
    room = wide * usual.median.deviation + CLOCK_S + serial
    yield _late(
        about,
        flow,
        LinkDimension.DELAY,
        declared,
        Interval(value, max(0.0, value - room), value + room),
        max(SLACK_S, 0.02 * declared),
        (1 - _MIDDLE) * len(flow.sent),
        soon_enough=value + room >= declared,
    )
    extra = "" if way.distribution is Distribution.UNIFORM else f" {way.distribution}"
    jitter = way.jitter_us / 1e6
    if usual.early.mean <= 0:
        why = "the order of packets leaves nothing of it"
        yield unmeasured(about.where, LinkDimension.JITTER, jitter, "s", why)
        return
    scale = jitter / usual.early.mean
    value = expected.early_spread(delays) * scale
    room = wide * usual.early.deviation * scale
    yield _late(
        about,
        flow,
        LinkDimension.JITTER,
        jitter,
        Interval(value, max(0.0, value - room), value + room),
        SLACK_S * scale,
        (1 - _SIXTH) * len(flow.sent),
        soon_enough=value + room + SLACK_S * scale >= jitter,
        extra=extra,
    )
    if way.correlation and way.order is Order.FREE:
        # More packets tell of it.
        return
    if abs(value - jitter) <= room + SLACK_S * scale:
        yield _correlation(about, took, usual.alike, wide)


def correlation(about: Bearings, flow: Flow) -> Iterator[LinkFinding]:
    """What many frames in a row tell of it, where they need not keep their order."""
    way = about.way
    if not (way.correlation and way.order is Order.FREE):
        return
    seen = fates.first_of_each(flow.arrivals)
    took = {number: (at - flow.sent[number][0]) / 1e9 for number, at in seen.items()}
    usual = expected.spread(way, [before for before, _ in flow.sent], flow.size)
    fewer = sqrt(len(flow.sent) / max(len(took), 1))
    wide = intervals.deviations(about.alpha) * _RUNS_KNOWN * fewer
    yield _correlation(about, took, usual.alike, wide)


def _correlation(
    about: Bearings, took: dict[int, float], usual: expected.Figure, wide: float
) -> LinkFinding:
    """How much of a packet's stray is that of the one before.

    Their order makes neighbours alike, too, so it is beside the model's
    likeness that theirs is held.
    """
    declared = about.way.correlation
    pairs = [(took[one], took[one + 1]) for one in took if one + 1 in took]
    if len(pairs) < _FEWEST:
        why = f"{len(pairs)} packets came right after another"
        return unmeasured(about.where, LinkDimension.CORRELATION, declared, "share", why)
    room = wide * usual.deviation
    alike = expected.likeness(pairs)
    # On the scale of correlations, as far from what is declared as from the model's likeness.
    middle = 2 / pi * asin(declared)
    value, low, high = (
        sin(pi / 2 * max(-1.0, min(1.0, middle + one - usual.mean)))
        for one in (alike, alike - room, alike + room)
    )
    late = about.felt.late_s(len(pairs) / 4)
    return finding(
        about.where,
        LinkDimension.CORRELATION,
        declared,
        Interval(value, low, high),
        "share",
        len(pairs),
        ok=abs(alike - usual.mean) <= room,
        # Being late is no lot either: who is stuck is so with others.
        distorted=about.felt.lateness(len(pairs) / 4) if late > SLACK_S else "",
    )
