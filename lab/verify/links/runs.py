"""Runs of losses: how long they are in the long run, and how sure that is of so many packets: pure.

In a chain whose states can be seen (a packet is lost in the bad state, always,
and in the good one never), each lost packet is the last of its burst with one
and the same probability, independently: a binomial matter.  Where chance
blurs the states, it is as sure as with fewer packets; how many fewer, the model
tells by being run.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from lab.fabric.links.losses import bursty
from lab.topology.character import Bursts

_RUNS = 60


@dataclass(frozen=True, slots=True)
class Chain:
    """What is to be expected of runs of losses."""

    length: float
    """Mean number of packets lost in a row."""
    plain: bool
    """Whether a loss is the end of its run independently of all before."""

    @classmethod
    def of(cls, bursts: Bursts, chance: float = 0.0) -> Chain:
        """Of a Gilbert-Elliott chain that has run for long, `chance` lost besides; exact."""
        falls = tuple(1 - (1 - one) * (1 - chance) for one in (bursts.good, bursts.bad))
        leave = bursts.p, bursts.r
        bad = bursts.p / (bursts.p + bursts.r) if bursts.p else 0.0
        one = both = 0.0
        for state, here in enumerate((1 - bad, bad)):
            after = (1 - leave[state]) * falls[state] + leave[state] * falls[1 - state]
            one += here * falls[state]
            both += here * falls[state] * after
        alone = 1 - both / one if one else 1.0
        plain = not bursts.p or (falls[0] <= 0.0 and falls[1] >= 1.0) or falls[0] == falls[1]
        return cls(1 / alone if alone else float("inf"), plain)


def ends(fates: Sequence[bool]) -> tuple[int, int]:
    """Of the losses that one more packet followed: how many, and how many of them ended a run."""
    losses = [after for lost, after in pairwise(fates) if lost]
    return len(losses), len(losses) - sum(losses)


def spread_of_ends(bursts: Bursts, chance: float, count: int) -> float:
    """How many packets are worth one, for how often a run ends: at least 1."""
    shares: list[float] = []
    sizes: list[int] = []
    for run in range(_RUNS):
        rng = Random(f"{run} bursts")  # noqa: S311 - chance, not secrets
        lost, besides = bursty(bursts, rng), rng.random
        begun, ended = ends([lost() | (besides() < chance) for _ in range(count)])
        if begun:
            shares.append(ended / begun)
            sizes.append(begun)
    if len(shares) < 2:
        return 1.0
    mean = statistics.mean(shares)
    binomial = mean * (1 - mean) / statistics.mean(sizes)
    return max(1.0, statistics.variance(shares, mean) / binomial) if binomial else 1.0
