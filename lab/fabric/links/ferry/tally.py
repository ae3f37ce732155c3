"""How late frames left, counted while they do."""

from __future__ import annotations

from lab.fabric.links.ferry.protocol import BUCKETS, FINEST_SHIFT, Lateness


class Tally:
    """Counts lateness in the buckets of `Lateness`, by its bit length."""

    __slots__ = ("_counts", "_total_ns", "_worst_ns")

    def __init__(self) -> None:
        self._counts = [0] * 64
        self._total_ns = 0
        self._worst_ns = 0

    def note(self, late_ns: int, frames: int) -> None:
        """So many `frames` have left, none of them later than `late_ns` after its time."""
        self._counts[(late_ns >> FINEST_SHIFT).bit_length()] += frames
        self._total_ns += late_ns * frames
        if late_ns > self._worst_ns:  # noqa: PLR1730 - a call costs more than it says
            self._worst_ns = late_ns

    def lateness(self) -> Lateness:
        """All that was noted."""
        return Lateness(
            counts=(*self._counts[: BUCKETS - 1], sum(self._counts[BUCKETS - 1 :])),
            total_ns=self._total_ns,
            worst_ns=self._worst_ns,
        )
