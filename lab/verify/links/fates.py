"""Which frames come, which don't, and which come twice or damaged.

What hangs together (bursts, a pattern) takes more frames than what is drawn
anew for each; `train` says how many.  Fates depend on the order of frames and
not on their time, so they may follow one another closely.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from lab.topology.character import Bursts, Impairment, LossPattern, Order
from lab.verify.links import intervals
from lab.verify.links.bearings import Bearings
from lab.verify.links.runs import Chain, ends, spread_of_ends
from lab.verify.links.traffic import Arrival, Flow
from lab.verify.links.words import Interval, finding, unmeasured
from lab.verify.report import LinkDimension, LinkFinding, LinkVerdict

_BURSTS_WANTED = 40
_LOSSES_NEEDED = 8
"""Fewer tell nothing of how long bursts are."""
_TURNS_WANTED = 3
"""Of a pattern."""
_PAIRS_WANTED = 1500
"""Neighbours that tell of a correlation."""


def train(way: Impairment) -> int:
    """How many frames in a row tell of what hangs together; 0 where nothing is said to."""
    wanted = 0
    if way.bursts is not None and way.bursts.p:
        wanted = math.ceil(_BURSTS_WANTED * (1 / way.bursts.p + 1 / max(way.bursts.r, 1e-6)))
    if way.pattern is not None:
        wanted = max(wanted, _TURNS_WANTED * way.pattern.of)
    if way.correlation and way.order is Order.FREE:
        # Where packets keep their order, those close together are alike in any case.
        wanted = max(wanted, _PAIRS_WANTED)
    return wanted


def first_of_each(arrivals: Sequence[Arrival]) -> dict[int, int]:
    """When each frame came first, by its number."""
    seen: dict[int, int] = {}
    for one in arrivals:
        seen.setdefault(one.number, one.at_ns)
    return seen


def findings(about: Bearings, flow: Flow) -> Iterator[LinkFinding]:
    """Loss, duplicates and damage: what each frame tells by itself."""
    way, count = about.way, len(flow.sent)
    seen = first_of_each(flow.arrivals)
    yield _loss(about, flow, count - len(seen), count)
    if about.link.down:
        return
    doubled = len(flow.arrivals) - len(seen)
    if way.duplicate or doubled:
        declared = way.duplicate * (1 - way.loss_share)
        yield share(about, LinkDimension.DUPLICATION, declared, doubled, count)
    damaged = sum(not one.intact for one in flow.arrivals)
    if way.corrupt or damaged:
        yield share(about, LinkDimension.CORRUPTION, way.corrupt, damaged, len(flow.arrivals))


def order_of_losses(about: Bearings, flow: Flow) -> Iterator[LinkFinding]:
    """Whether frames are lost in such bursts, or in such a pattern, as is declared."""
    way = about.way
    if about.link.down or not way.lossy:
        return
    seen = first_of_each(flow.arrivals)
    fates = [number not in seen for number in range(len(flow.sent))]
    if way.pattern is not None:
        yield _pattern(about, way.pattern, fates, len(flow.foreign))
    elif way.duplicate:
        if way.bursts is not None:
            yield unmeasured(
                about.where,
                LinkDimension.BURSTS,
                _usual(way).length,
                "packets",
                "what comes twice is seldom lost",
            )
    else:
        yield from _bursts(about, fates)


def share(
    about: Bearings, dimension: LinkDimension, declared: float, hits: int, count: int
) -> LinkFinding:
    """What was found of something that happens to a frame by chance, to each by itself."""
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


def _loss(about: Bearings, flow: Flow, lost: int, count: int) -> LinkFinding:
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
    distorted = about.crowded(flow) if seen.value > declared else ""
    if seen.value > declared and lost - about.felt.dropped <= count * declared:
        distorted = distorted or about.felt.losses()
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


def _usual(way: Impairment) -> Chain:
    return Chain.of(way.bursts or Bursts(p=0.0, r=1.0), way.loss)


def _bursts(about: Bearings, fates: Sequence[bool]) -> Iterator[LinkFinding]:
    """How many are lost in a row, on average: that of losses by chance is no burst to speak of."""
    way = about.way
    chain = _usual(way)
    begun, ended = ends(fates)
    if way.bursts is None:
        low, high = intervals.share(sum(fates), len(fates), about.alpha)
        if not low <= way.loss <= high:
            # Another loss has other runs, in any case.
            return
    if begun < _LOSSES_NEEDED:
        if way.bursts is not None and way.bursts.p:
            lost = f"{begun} of {len(fates)} packets lost"
            yield unmeasured(
                about.where,
                LinkDimension.BURSTS,
                chain.length,
                "packets",
                f"{lost} tell too little; more is sent with --slow",
            )
        return
    wide = 1.0
    if not chain.plain:
        wide = spread_of_ends(way.bursts or Bursts(p=0.0, r=1.0), way.loss, len(fates))
    low, high = intervals.share(round(ended / wide), round(begun / wide), about.alpha)
    found = finding(
        about.where,
        LinkDimension.BURSTS,
        chain.length,
        # Longer than all that was sent is no figure: so long or longer is what is known.
        Interval(begun / max(ended, 1), 1 / high, 1 / low if low * len(fates) > 1 else None),
        "packets",
        len(fates),
        ok=low <= 1 / chain.length <= high,
        distorted=about.felt.losses(),
    )
    if way.bursts is not None or found.verdict is not LinkVerdict.AS_DECLARED:
        yield found


def _pattern(
    about: Bearings, pattern: LossPattern, fates: Sequence[bool], foreign: int
) -> LinkFinding:
    """Whether it is that pattern, from some place on; packets of others take their turn."""
    way = about.way
    declared = f"{len(pattern.lost)} of {pattern.of}"
    if way.loss or way.bursts or way.duplicate:
        return unmeasured(
            about.where, LinkDimension.PATTERN, None, "packets", "others are lost besides", declared
        )
    room = foreign + math.ceil(foreign * len(pattern.lost) / pattern.of) + 2 * bool(foreign)
    astray = min(
        (strays(fates, pattern, begin, room) for begin in range(pattern.of)), default=room + 1
    )
    ok = astray <= room
    # What was dropped before the link took no turn of the pattern's.
    excuse = "" if ok else about.felt.losses()
    differs = LinkVerdict.DISTORTED if excuse else LinkVerdict.DIFFERS
    return LinkFinding(
        link=about.where[0],
        name=about.where[1],
        way=about.where[2],
        dimension=LinkDimension.PATTERN,
        declared=declared,
        observed=f"{sum(fates)} of {len(fates)}" + ("" if ok else ", and others than these"),
        unit="packets",
        declared_value=0.0,
        observed_value=float(astray),
        low=float(astray),
        high=float(astray),
        samples=len(fates),
        verdict=LinkVerdict.AS_DECLARED if ok else differs,
        detail=excuse,
    )


def strays(fates: Sequence[bool], pattern: LossPattern, begin: int, most: int) -> int:
    """How many places must be skipped for the pattern to give these fates from `begin` on.

    It is given up after `most`.
    """
    places = frozenset(place - 1 for place in pattern.lost)
    at, skipped, period = begin, 0, pattern.of
    for lost in fates:
        while (at % period in places) is not lost:
            at += 1
            skipped += 1
            if skipped > most:
                return skipped
        at += 1
    return skipped
