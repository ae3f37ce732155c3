"""What the model itself makes of frames that are sent when these were: delays, and their spread.

With jitter the delays of one flow hang together (packets keep their order, and
may correlate), so what is to be expected of their quantiles, and how far these
stray by chance, is what the model gives when it is run again and again.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from lab.fabric.links.jitter import strayer
from lab.fabric.links.transmitter import serialisation_ns
from lab.topology.character import Impairment, Order
from lab.verify.links.intervals import quantile

_RUNS = 24


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean of many runs, and the standard deviation of one."""

    mean: float
    deviation: float


@dataclass(frozen=True, slots=True)
class Spread:
    """Of delays in seconds: their median, and how far the early half spreads."""

    median: Figure
    early: Figure
    alike: Figure
    """Neighbours: `likeness`."""


def early_spread(ascending: Sequence[float]) -> float:
    """From the first tenth to the sixth: a machine that is late now and then moves the rest."""
    return quantile(ascending, 0.6) - quantile(ascending, 0.1)


def spread(way: Impairment, sent_ns: Sequence[int], size: int) -> Spread:
    """What delays of frames of `size` bytes are like that are sent at these moments.

    None of them waits for another before the transmitter.
    """
    stray = strayer(way, Random("jitter"))  # noqa: S311 - chance, not secrets
    runs = [delays(way, sent_ns, size, stray) for _ in range(_RUNS)]
    ascending = [sorted(run) for run in runs]
    return Spread(
        _figure([quantile(run, 0.5) for run in ascending]),
        _figure([early_spread(run) for run in ascending]),
        _figure([likeness(list(pairwise(run))) for run in runs]),
    )


def likeness(pairs: Sequence[tuple[float, float]]) -> float:
    """How much the delays of neighbours are alike: 1 if both are always on one side of the median.

    Blomqvist's beta of the order 1 (1950), which a few late ones don't move; of a Gaussian
    process it is 2/pi of the arc sine of the correlation.
    """
    if not pairs:
        return 0.0
    middle = quantile(sorted(former for former, _ in pairs), 0.5)
    alike = sum((former > middle) == (later > middle) for former, later in pairs)
    return 2 * alike / len(pairs) - 1


def delays(
    way: Impairment, sent_ns: Sequence[int], size: int, stray: Callable[[], int]
) -> list[float]:
    """How long each is on its way by the model, seconds; none is lost, overtakes or waits.

    As `lab.fabric.links.line` has it, without what takes time there and says
    nothing of delays; `stray` is of its jitter.
    """
    serial_ns = serialisation_ns(size, way.rate_bit) if way.rate_bit else 0
    delay_ns, keeps = way.delay_us * 1000, way.order is Order.KEEP
    last_ns = 0
    found = []
    for at_ns in sent_ns:
        leaves_ns = at_ns + serial_ns + max(0, delay_ns + stray())
        if keeps:
            leaves_ns = last_ns = max(leaves_ns, last_ns)
        found.append((leaves_ns - at_ns) / 1e9)
    return found


def _figure(values: Sequence[float]) -> Figure:
    return Figure(statistics.mean(values), statistics.stdev(values))
