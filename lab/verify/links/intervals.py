"""Confidence intervals without assumptions about what is measured: pure.

`alpha` is everywhere the probability that an interval misses the truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

from lab.topology.character import Bursts


def share(hits: int, count: int, alpha: float) -> tuple[float, float]:
    """The interval of a probability after `hits` in `count` trials (Clopper and Pearson 1934)."""
    if not count:
        return 0.0, 1.0
    half = alpha / 2
    low = 0.0 if not hits else _solve(lambda p: 1 - _below(hits, count, p), half)
    high = 1.0 if hits == count else _solve(lambda p: 1 - _below(hits + 1, count, p), 1 - half)
    return low, high


def ranks(count: int, quantile: float, alpha: float) -> tuple[int, int]:
    """Places in `count` ascending draws between which the quantile lies (order statistics)."""
    half = alpha / 2
    low, high = 0, count - 1
    total = 0.0
    for place in range(count + 1):
        total += math.exp(_log_binomial(place, count, quantile))
        if total <= half:
            low = min(place, count - 1)
        if total >= 1 - half:
            high = min(place, count - 1)
            break
    return low, high


def deviations(alpha: float) -> float:
    """How many standard deviations on either side leave `alpha` out."""
    return NormalDist().inv_cdf(1 - alpha / 2)


def lost_in_bursts(bursts: Bursts, chance: float, count: int, alpha: float) -> tuple[int, int]:
    """Between how many of `count` packets a Gilbert-Elliott chain loses, which runs for long.

    Exact, by counting through the chain; `chance` is lost besides.
    """
    falls = tuple(1 - (1 - one) * (1 - chance) for one in (bursts.good, bursts.bad))
    leave = bursts.p, bursts.r
    bad = bursts.p / (bursts.p + bursts.r) if bursts.p else 0.0
    # states[s][k]: in state s, k lost so far.
    states = [[1 - bad], [bad]]
    for _ in range(count):
        width = len(states[0])
        after = [[0.0] * (width + 1), [0.0] * (width + 1)]
        for state in (0, 1):
            fall, go = falls[state], leave[state]
            stays, goes = after[state], after[1 - state]
            for lost, weight in enumerate(states[state]):
                if weight < 1e-18:
                    continue
                kept, gone = weight * (1 - fall), weight * fall
                stays[lost] += kept * (1 - go)
                goes[lost] += kept * go
                stays[lost + 1] += gone * (1 - go)
                goes[lost + 1] += gone * go
        while len(after[0]) > 1 and after[0][-1] < 1e-18 and after[1][-1] < 1e-18:
            after[0].pop()
            after[1].pop()
        states = after
    total, low, high = 0.0, 0, len(states[0]) - 1
    half = alpha / 2
    for lost, weight in enumerate(a + b for a, b in zip(*states, strict=True)):
        if total + weight <= half:
            low = lost + 1
        total += weight
        if total >= 1 - half:
            high = lost
            break
    return low, high


def quantile(ascending: Sequence[float], where: float) -> float:
    """The value at a share of the way through."""
    return ascending[min(int(where * len(ascending)), len(ascending) - 1)]


def _below(hits: int, count: int, p: float) -> float:
    """The probability of fewer than `hits`."""
    if hits > count / 2:
        return max(0.0, 1.0 - _between(hits, count, count, p))
    return _between(0, hits - 1, count, p)


def _between(first: int, last: int, count: int, p: float) -> float:
    """The probability of at least `first` and at most `last`, summed from its likeliest term on."""
    if first > last:
        return 0.0
    if p <= 0 or p >= 1:
        return float(first == 0) if p <= 0 else float(last == count)
    likeliest = min(max(int((count + 1) * p), first), last)
    begin = total = math.exp(_log_binomial(likeliest, count, p))
    odds = p / (1 - p)
    term = begin
    for hits in range(likeliest, first, -1):
        term *= hits / ((count - hits + 1) * odds)
        total += term
        if term < total * 1e-17:
            break
    term = begin
    for hits in range(likeliest, last):
        term *= (count - hits) * odds / (hits + 1)
        total += term
        if term < total * 1e-17:
            break
    return min(1.0, total)


def _log_binomial(hits: int, count: int, p: float) -> float:
    if p <= 0 or p >= 1:
        return 0.0 if hits == (count if p >= 1 else 0) else -math.inf
    ways = math.lgamma(count + 1) - math.lgamma(hits + 1) - math.lgamma(count - hits + 1)
    return ways + hits * math.log(p) + (count - hits) * math.log1p(-p)


def _solve(rising: Callable[[float], float], wanted: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if rising(middle) < wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2
