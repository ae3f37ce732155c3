"""What emulating links cost the machine while they were measured: how late it was, and how busy.

A frame that came late did so because of the link, or because of the machine
that plays the link.  What the machine can have done is known from outside of
the frames: the process that carries user-space links counts how late it sends
each (`Lateness` in the ferry's protocol), the kernel counts for every process
how long it ran and how long it waited for a processor
(Documentation/scheduler/sched-stats.rst), and what it dropped for want of time.

Of a direction it is assumed that all that was late, on any link, was of this
one.  So what is not explained by that is the link's.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

from lab.fabric.links.ferry.protocol import Lateness
from lab.topology.character import Backend
from lab.verify.links.intervals import quantile

BUSY = 0.6
"""Share of its time from which on a process that carries or offers packets may be what slows them:
it is not always its turn when there is something to do."""
_OURS = 0.9
"""Of our own wakings: that late, the kernel's timers may have been."""
_APART_NS = 5_000_000
"""Between two looks at how busy a process is."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Counters of a moment, since any beginning; two tell of the time between."""

    late: tuple[int, ...] = ()
    """How late the ferry sent frames: the counts of its `Lateness`; none without a ferry."""
    dropped: int = 0
    """Packets that the machine dropped as it had no time for them."""
    worker: int | None = None
    """The process that carries user-space links."""
    unfetched: int = 0
    """Frames that the ferry did not fetch in time, and that the kernel therefore dropped."""


Read = Callable[[], Reading | None]
"""Takes a reading; None where nobody can tell."""


class Trail:
    """How long a process has run or waited to run, along the time; a context manager."""

    def __init__(self, process: int) -> None:
        self._moments: list[int] = []
        self._efforts: list[int] = []
        try:
            self._file = os.open(f"/proc/{process}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            # It is gone, or the kernel counts none of it: nothing is known.
            self._file = -1

    def look(self, now_ns: int) -> None:
        """Note how it is now, unless that was noted a moment ago."""
        if self._file < 0 or (self._moments and now_ns - self._moments[-1] < _APART_NS):
            return
        try:
            ran, waited, _ = os.pread(self._file, 100, 0).split()
        except OSError:
            return
        self.note(now_ns, int(ran) + int(waited))

    def note(self, now_ns: int, effort_ns: int) -> None:
        """It has run or waited for so long by now."""
        self._moments.append(now_ns)
        self._efforts.append(effort_ns)

    def busy(self, from_ns: int, until_ns: int) -> float:
        """The share of that time in which it ran, or would have; 0 where nothing is known."""
        first = max(bisect_right(self._moments, from_ns) - 1, 0)
        last = min(bisect_left(self._moments, until_ns), len(self._moments) - 1)
        if last <= first:
            return 0.0
        span = self._moments[last] - self._moments[first]
        return min((self._efforts[last] - self._efforts[first]) / span, 1.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


@dataclass(frozen=True, slots=True)
class Toll:
    """What it cost to carry some flows."""

    before: Reading | None = None
    after: Reading | None = None
    wakings_s: Sequence[float] = ()
    """How late we ourselves woke each time, ascending."""
    ours: Trail | None = None
    theirs: Trail | None = None
    """Of who carries user-space links."""

    def felt(self, backend: Backend) -> Felt:
        """What of it a link of that backend may have felt."""
        dropped = unfetched = 0
        late: tuple[int, ...] = ()
        if self.before is not None and self.after is not None:
            dropped = max(self.after.dropped - self.before.dropped, 0)
            unfetched = max(self.after.unfetched - self.before.unfetched, 0)
            late = tuple(
                max(new - old, 0)
                for new, old in zip(
                    self.after.late, self.before.late or (0,) * len(self.after.late), strict=True
                )
            )
        if backend is Backend.FERRY:
            lost = dropped + unfetched
            return Felt(late=late, dropped=lost, worker=self.theirs, work="carrying links")
        # In the kernel nothing but its timers can be late: packets wait for no process.
        ours = quantile(self.wakings_s, _OURS) if self.wakings_s else 0.0
        return Felt(own_s=ours, dropped=dropped)


@dataclass(frozen=True, slots=True)
class Felt:
    """What the machine may have done to the frames of one link."""

    late: tuple[int, ...] = ()
    """Frames by how late the ferry was with them."""
    own_s: float = 0.0
    """How late the kernel may have been, where it carries the link."""
    dropped: int = 0
    worker: Trail | None = None
    """How busy the process was that packets wait for."""
    work: str = ""
    bounds_s: tuple[float, ...] = field(default_factory=Lateness.bounds_s)

    def late_s(self, frames: float) -> float:
        """By how much so many frames of a flow may all have come late, seconds.

        The ferry counts in powers of two: it is the larger one.
        """
        if not self.late:
            return self.own_s
        left = max(frames, 1.0)
        for place in range(len(self.late) - 1, -1, -1):
            left -= self.late[place]
            if left <= 0:
                return self.bounds_s[min(place, len(self.bounds_s) - 1)]
        return 0.0

    def saturated(self, from_ns: int, until_ns: int) -> str:
        """Why nothing faster than what was seen could be seen then; empty if it could."""
        busy = self.worker.busy(from_ns, until_ns) if self.worker else 0.0
        return f"{self.work} took a processor for {busy:.0%} of the time" if busy >= BUSY else ""

    def losses(self) -> str:
        """What of losses that nobody declared may be this machine's; empty if nothing."""
        return f"the machine dropped {self.dropped} packets meanwhile" if self.dropped else ""

    def lateness(self, frames: float) -> str:
        """What to say of the lateness that `late_s` gives."""
        return f"up to {self.late_s(frames) * 1000:.3g} ms of it are this machine's"
