"""One direction of a link: the device that is read, the one that is written, the model between.

Frames that arrive together and leave together stay together: all that is done
once for them and not once for each is what a flood costs less.  The clock is
read after a few frames were, so that none is ever sent before its time; it
counts as come by as much later as the others took to be read, some microseconds.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable

from lab.fabric.links.ferry.protocol import DirectionStats
from lab.fabric.links.ferry.tally import Tally
from lab.fabric.links.line import Line
from lab.fabric.links.model import Direction, Lots, straight
from lab.topology.character import Impairment

_BATCH = 32
"""Frames read from one device before others have their turn."""
_TOGETHER = 8
"""Frames that one reading of the clock is for."""

Clock = Callable[[], int]
"""The monotonic clock, in nanoseconds."""


class Port:
    """One direction of a link."""

    __slots__ = (
        "_batch",
        "_bytes",
        "_direction",
        "_line",
        "_lots",
        "_packets",
        "_pending",
        "_refused",
        "_round",
        "frame_bytes",
        "number",
        "scheduled_ns",
        "sink",
        "source",
    )

    def __init__(
        self,
        number: int,
        ends: tuple[int, int],
        frame_bytes: int,
        impairment: Impairment,
        lots: Lots,
    ) -> None:
        """From the first descriptor of `ends` to the second, in frames of `frame_bytes` at most.

        Raises LabError if a file that `impairment` names is gone or changed.
        """
        self.number = number
        """Orders ports that are due at the same time."""
        self.source, self.sink = ends
        self.frame_bytes = frame_bytes
        self.scheduled_ns = 0
        """When the loop is to see to it; 0 for not at all."""
        now_ns = time.monotonic_ns()
        self._lots = lots
        self._direction = Direction(impairment, lots, now_ns)
        self._pending: deque[tuple[int, list[bytes]]] = deque()
        """Frames and when they are due, as long as a `Direction` is all it takes."""
        self._line: Line | None = None
        """The frames and the rest of the model, where it is not."""
        if not straight(impairment):
            self._line = Line(self._direction, impairment, lots, now_ns)
        self._batch = 1
        self._round = 0
        """The last wakeup in which it was read."""
        self._packets = 0
        self._bytes = 0
        self._refused = 0

    def change(self, impairment: Impairment) -> None:
        """From the next packet on, be like `impairment`; LabError as in the beginning."""
        now_ns = time.monotonic_ns()
        if self._line is not None:
            self._line.change(impairment, now_ns)
            return
        self._direction.change(impairment, now_ns)
        if not straight(impairment):
            on_their_way = [(at_ns, frame) for at_ns, some in self._pending for frame in some]
            self._line = Line(self._direction, impairment, self._lots, now_ns, on_their_way)
            self._pending.clear()

    def clear(self) -> None:
        """Drop what waits here for its time, as on a cut wire."""
        self._pending.clear()

    def collect(self, clock: Clock, wakeup: int) -> None:
        """Read some frames from the device, and give each its time.

        `wakeup` is the number of this turn.  Raises OSError if the device is gone.
        """
        read, source, size = os.read, self.source, self.frame_bytes
        left = self._batch
        try:
            if left == 1 and self._line is None:
                # A frame by itself, as most are on a lab of many links.
                frame = read(source, size)
                departure_ns = self._direction.offer(clock(), len(frame))
                if departure_ns is not None:
                    self._pending.append((departure_ns, [frame]))
                left = 0
            while left > 0:
                frames: list[bytes] = []
                take = frames.append
                try:
                    for _ in range(min(left, _TOGETHER)):
                        take(read(source, size))
                finally:
                    if frames:
                        self._put(clock(), frames)
                left -= _TOGETHER
        except BlockingIOError:
            self._batch = 1
        else:
            # Only a device that is ready turn after turn is likely to have
            # more; asking the others in vain costs as much as a frame.
            if self._round == wakeup - 1 and self._batch < _BATCH:
                self._batch *= 2
        self._round = wakeup

    def _put(self, now_ns: int, frames: list[bytes]) -> None:
        """These frames have come."""
        line = self._line
        if line is None:
            self._pending += self._direction.offer_all(now_ns, frames)
            return
        for frame in frames:
            line.put(now_ns, frame)

    @property
    def in_order(self) -> bool:
        """Whether what comes is never due before what is on its way."""
        return self._line is None

    def next_ns(self) -> int | None:
        """When `deliver` has something to do; None while nothing is on its way."""
        if self._line is None:
            return self._pending[0][0] if self._pending else None
        return self._line.next_ns()

    def deliver(self, now_ns: int, clock: Clock, tally: Tally) -> int | None:
        """Write every frame that is due at `now_ns`; when to come again, as `next_ns`."""
        if self._line is not None:
            for departure_ns, frame in self._line.take(now_ns):
                self._write([frame])
                tally.note(clock() - departure_ns, 1)
            return self._line.next_ns()
        pending = self._pending
        while pending and pending[0][0] <= now_ns:
            departure_ns, frames = pending.popleft()
            self._write(frames)
            tally.note(clock() - departure_ns, len(frames))
        return pending[0][0] if pending else None

    def _write(self, frames: list[bytes]) -> None:
        write, sink = os.write, self.sink
        packets = size = 0
        for frame in frames:
            try:
                size += write(sink, frame)
                packets += 1
            except OSError:
                self._refused += 1
        self._packets += packets
        self._bytes += size

    @property
    def waiting(self) -> int:
        """How many frames are on their way."""
        pending = sum(len(frames) for _, frames in self._pending)
        return pending + (self._line.waiting if self._line else 0)

    def stats(self) -> DirectionStats:
        """What has become of all that came."""
        line = self._line
        return DirectionStats(
            packets=self._packets,
            bytes=self._bytes,
            lost=self._direction.lost,
            overflowed=self._direction.overflowed,
            early=line.early if line else 0,
            duplicated=line.duplicated if line else 0,
            corrupted=line.corrupted if line else 0,
            reordered=line.reordered if line else 0,
            refused=self._refused,
            waiting=self.waiting,
        )
