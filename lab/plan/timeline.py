"""A timeline's entries as moments in order: pure, and the same for equal seeds.

Every random choice is a function of the seed, the entry's place in the file
and the number of the repetition, so that a repetition more or less, or an
entry added at the end, changes nothing else.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Sequence

from lab.seeds import stream
from lab.topology.behaviour import Frozen
from lab.topology.changes import AnyChange, Happening


class Moment(Frozen, frozen=True):
    """Something that happens, or ends, at one moment of the timeline."""

    at_us: int
    """Since the timeline began."""
    entry: int
    """The place in the timeline, from 0."""
    repetition: int
    """0 for the first time."""
    changes: tuple[AnyChange, ...]
    undo: bool = False
    """Whether `changes` come to their end."""
    lasts: bool = False
    """Whether they will be undone."""

    @property
    def key(self) -> tuple[int, int]:
        """What a change and its undoing have in common, and nothing else."""
        return self.entry, self.repetition


def moments(timeline: Sequence[Happening], seed: int) -> Iterator[Moment]:
    """All that happens, in order; without end if an entry repeats without end.

    At the same moment what ends comes before what begins, and what stands
    first in the file comes first.
    """
    return heapq.merge(
        *(_of(entry, happening, seed) for entry, happening in enumerate(timeline)),
        key=lambda moment: (moment.at_us, not moment.undo, moment.entry),
    )


def _of(entry: int, happening: Happening, seed: int) -> Iterator[Moment]:
    """The moments of one entry, in order: `for` and `jitter` fit between two repetitions."""
    for repetition in _repetitions(happening):
        at_us = happening.at_us + repetition * happening.every_us
        if happening.jitter_us:
            draw = stream(seed, "timeline", str(entry), str(repetition))
            at_us += draw.randint(0, happening.jitter_us)
        moment = Moment(
            at_us=at_us,
            entry=entry,
            repetition=repetition,
            changes=happening.changes,
            lasts=bool(happening.for_us),
        )
        yield moment
        if happening.for_us:
            yield Moment(
                at_us=at_us + happening.for_us,
                entry=entry,
                repetition=repetition,
                changes=happening.changes,
                undo=True,
            )


def _repetitions(happening: Happening) -> Iterator[int]:
    if not happening.every_us:
        return iter(range(1))
    return iter(range(happening.times)) if happening.times else itertools.count()
