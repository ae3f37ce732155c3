"""A histogram as a value: what was counted so far, in buckets with fixed bounds."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence

from lab.topology.behaviour import Frozen


class Histogram(Frozen, frozen=True):
    """Counts per bucket.  The difference of two readings is that of the time between them."""

    bounds: tuple[float, ...]
    """Upper bounds of the buckets, ascending; above the last there is one open bucket."""
    counts: tuple[int, ...]
    """One more than there are bounds."""
    total: float = 0.0
    """The sum of everything that was counted."""

    @classmethod
    def empty(cls, bounds: Sequence[float]) -> Histogram:
        """Nothing counted yet."""
        return cls(bounds=tuple(bounds), counts=(0,) * (len(bounds) + 1))

    def minus(self, earlier: Histogram) -> Histogram:
        """What was counted since `earlier`; all of it if `earlier` was of other buckets."""
        if earlier.bounds != self.bounds:
            return self
        pairs = zip(self.counts, earlier.counts, strict=True)
        return Histogram(
            bounds=self.bounds,
            counts=tuple(max(now - then, 0) for now, then in pairs),
            total=max(self.total - earlier.total, 0.0),
        )

    def quantile(self, q: float) -> float:
        """The upper bound of the bucket that holds quantile `q` (0 to 1).

        0 if nothing was counted; twice the last bound stands for the open
        bucket.
        """
        wanted = q * sum(self.counts)
        seen = 0
        for bound, count in zip((*self.bounds, 2 * self.bounds[-1]), self.counts, strict=True):
            seen += count
            if count and seen >= wanted:
                return bound
        return 0.0

    def buckets(self) -> list[tuple[str, float]]:
        """As Prometheus has it: (upper bound, how many are not above it), "+Inf" last."""
        bounds = (*(repr(float(bound)) for bound in self.bounds), "+Inf")
        return list(zip(bounds, map(float, itertools.accumulate(self.counts)), strict=True))


class Counting:
    """A histogram that is being counted; one thread adds, any thread reads."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._total = 0.0

    def add(self, value: float) -> None:
        """Count `value`."""
        self._counts[bisect.bisect_left(self._bounds, value)] += 1
        self._total += value

    def reading(self) -> Histogram:
        """What was counted so far."""
        return Histogram(bounds=self._bounds, counts=tuple(self._counts), total=self._total)
