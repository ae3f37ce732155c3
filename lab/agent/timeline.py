"""Playing a timeline: each moment at its time, by one clock, so that nothing drifts.

A moment that comes late (the one before took long, or a command was changing
the lab) comes at once and in its order; those after it keep their times.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum

from lab.observe.histogram import Counting, Histogram
from lab.plan.timeline import Moment, moments
from lab.topology.changes import Happening


class Outcome(StrEnum):
    """What became of a moment; the label `outcome` of `lab_timeline_events_total`."""

    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    """It was to be undone, and somebody had changed it meanwhile."""


LATENESS_BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
"""Upper bounds of the buckets of `Player.lateness`."""

Enact = Callable[[Moment, Callable[[], float]], Awaitable[Outcome]]
"""Makes a moment happen; the function says how many seconds of the timeline have passed."""


class Player:
    """Plays one timeline at a time; belongs to the event loop."""

    def __init__(self, enact: Enact, ended: Callable[[], None]) -> None:
        """`ended` is called when nothing more will happen."""
        self._enact = enact
        self._ended = ended
        self._task: asyncio.Task[None] | None = None
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._lateness = Counting(LATENESS_BOUNDS_S)

    def begin(self, timeline: Sequence[Happening], seed: int) -> None:
        """Play `timeline` from its beginning, now, instead of what is being played.

        Not to be called from what a moment does.
        """
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if timeline:
            self._task = asyncio.create_task(self._play(timeline, seed))

    def counts(self) -> Mapping[str, int]:
        """How many moments there were, by outcome; any thread may ask."""
        with self._lock:
            return {outcome: self._counts[outcome] for outcome in Outcome}

    def began_late(self, seconds: float) -> None:
        """Take note of how long after its time a moment began."""
        self._lateness.add(max(seconds, 0.0))

    def lateness(self) -> Histogram:
        """How long after its time each moment began, in seconds; any thread may ask."""
        return self._lateness.reading()

    async def _play(self, timeline: Sequence[Happening], seed: int) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        for moment in moments(timeline, seed):
            while (left := began + moment.at_us / 1e6 - clock()) > 0:
                await asyncio.sleep(left)
            outcome = await self._enact(moment, lambda: clock() - began)
            with self._lock:
                self._counts[outcome] += 1
        self._ended()
