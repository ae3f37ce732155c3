"""What the model itself makes of frames that are sent when these were: delays, and their spread.

With jitter the delays of one flow hang together (packets keep their order, and
may correlate), so what is to be expected of their quantiles, and how far these
stray by chance, is what the model gives when it is run again and again.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from random import Random

from msgspec.structs import replace

from lab.fabric.links.line import Line
from lab.fabric.links.losses import bursty
from lab.fabric.links.model import Direction
from lab.topology.behaviour import Bursts, Discipline, Impairment
from lab.verify.links.intervals import quantile

_RUNS = 24
_BURST_RUNS = 100
_FAR_NS = 1 << 62


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


def early_spread(ascending: Sequence[float]) -> float:
    """From the first tenth to the sixth: a machine that is late now and then moves the rest."""
    return quantile(ascending, 0.6) - quantile(ascending, 0.1)


def spread(way: Impairment, sent_ns: Sequence[int], size: int) -> Spread:
    """What delays of frames of `size` bytes are like that are sent at these moments."""
    like = replace(
        way,
        loss=0.0,
        bursts=None,
        pattern=None,
        reorder=0.0,
        duplicate=0.0,
        corrupt=0.0,
        discipline=Discipline.DROP_TAIL,
    )
    runs = [_delays(like, sent_ns, size, run) for run in range(_RUNS)]
    return Spread(
        _figure([quantile(run, 0.5) for run in runs]), _figure([early_spread(run) for run in runs])
    )


def burst_length(bursts: Bursts, count: int) -> Figure:
    """How long the bursts of lost packets among `count` are on average."""
    lengths = []
    for run in range(_BURST_RUNS):
        lost = bursty(bursts, _stream(run, "bursts"))
        if found := mean_run([lost() for _ in range(count)]):
            lengths.append(found)
    return _figure(lengths) if len(lengths) > 1 else Figure(0.0, 0.0)


def mean_run(fates: Sequence[bool]) -> float:
    """How many are lost in a row on average; 0 if none is."""
    begins = sum(fate and not former for former, fate in zip((False, *fates), fates, strict=False))
    return sum(fates) / begins if begins else 0.0


def _delays(way: Impairment, sent_ns: Sequence[int], size: int, run: int) -> list[float]:
    lots = partial(_stream, run)
    line = Line(Direction(way, lots, sent_ns[0]), way, lots, sent_ns[0])
    for number, at_ns in enumerate(sent_ns):
        line.put(at_ns, number.to_bytes(4, "big") + bytes(size - 4))
    left = ((at_ns, int.from_bytes(frame[:4], "big")) for at_ns, frame in line.take(_FAR_NS))
    return sorted((at_ns - sent_ns[number]) / 1e9 for at_ns, number in left)


def _stream(run: int, purpose: str) -> Random:
    return Random(f"{run} {purpose}")  # noqa: S311 - chance, not secrets


def _figure(values: Sequence[float]) -> Figure:
    return Figure(statistics.mean(values), statistics.stdev(values))
