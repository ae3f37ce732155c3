"""When to load which link: as many at once as the machine can serve, and none for longer: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

MOST_FRAMES_S = 15_000.0
"""Frames a second that pass all links under load at one time."""
_BESIDE = 0.2
"""Share of that beside which a link is loaded that needs more than all of it."""


@dataclass(frozen=True, slots=True)
class Task:
    """Something that occupies the machine for a time."""

    frames_s: float
    busy_s: float


def begins(tasks: Sequence[Task]) -> list[float]:
    """When to begin each, seconds; in that order, the slow ones first.

    What takes a little of the machine for long goes beside what takes much of
    it for a moment.  What needs more than there is goes beside next to nothing.
    """
    order = sorted(range(len(tasks)), key=lambda place: tasks[place].frames_s)
    starts = [0.0] * len(tasks)
    running: list[tuple[float, float]] = []
    now = total = 0.0
    for place in order:
        task = tasks[place]
        room = max(MOST_FRAMES_S - task.frames_s, _BESIDE * MOST_FRAMES_S)
        while running and total > room:
            now, frames_s = heappop(running)
            total -= frames_s
        starts[place] = now
        heappush(running, (now + task.busy_s, task.frames_s))
        total += task.frames_s
    return starts
