"""How far a packet's delay strays: distributions as tables, the same for both backends.

A table holds multiples of 1/8192 of the jitter, ascending, as tc's `.dist`
files do; its n-th entry of N is the quantile at (n + 1/2) / N.  netem draws an
entry; the model interpolates nothing either, so that both give the same.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from random import Random
from statistics import NormalDist

from lab.topology.character import Distribution, Impairment
from lab.topology.datafiles import TABLE_SCALE, load, parse_table

ENTRIES = 4096
_MOST = 32767

_PARETO_SHAPE = 3.0
"""Of the tail, as in tc's pareto.dist (NIST Net); mean and variance exist above 2."""


def table_of(impairment: Impairment) -> array[int] | None:
    """The distribution of `impairment`'s jitter; None for uniform, which needs none.

    Raises LabError if its file is gone or is not what it was.
    """
    match impairment.distribution:
        case Distribution.NORMAL:
            return _table(NormalDist().inv_cdf)
        case Distribution.PARETO:
            return _table(_pareto)
        case Distribution.TABLE if impairment.table is not None:
            return parse_table(load(impairment.table))
    return None


def strayer(impairment: Impairment, rng: Random) -> Callable[[], int]:
    """By how many nanoseconds the next packet strays from the delay.

    With correlation the draws are those of a Gaussian process of the first
    order, so the distribution stays what it is and only the sequence changes
    (netem correlates random numbers and then uses their remainders, which are
    as independent as ever).
    """
    spread = impairment.jitter_us * 1000
    quantile = _quantiles(impairment, rng) if impairment.correlation else rng.random
    table = table_of(impairment)
    if table is None:
        return lambda: int((2 * quantile() - 1) * spread)
    size = len(table)
    values = [entry * spread // TABLE_SCALE for entry in table]
    return lambda: values[int(quantile() * size)]


def _quantiles(impairment: Impairment, rng: Random) -> Callable[[], float]:
    rho = impairment.correlation
    rest = math.sqrt(1 - rho * rho)
    last = rng.gauss(0, 1)
    below_one = math.nextafter(1.0, 0.0)

    def quantile() -> float:
        nonlocal last
        last = rho * last + rest * rng.gauss(0, 1)
        return min(0.5 * math.erfc(-last / math.sqrt(2)), below_one)

    return quantile


def _table(quantile: Callable[[float], float]) -> array[int]:
    steps = (quantile((n + 0.5) / ENTRIES) for n in range(ENTRIES))
    return array("h", (max(-_MOST, min(_MOST, round(step * TABLE_SCALE))) for step in steps))


def _pareto(share: float) -> float:
    """The quantile of a Pareto distribution of mean 0 and deviation 1."""
    a = _PARETO_SHAPE
    mean, deviation = a / (a - 1), math.sqrt(a / ((a - 1) ** 2 * (a - 2)))
    return float(((1 - share) ** (-1 / a) - mean) / deviation)
