"""What holds packets up: a rate, or the moments of a trace; and how much may wait for it.

The unit of time is the nanosecond of a monotonic clock; a size is the
frame's, Ethernet header included, check sequence not, as the kernel counts.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable

from lab.topology.character import Impairment, QueueUnit
from lab.topology.datafiles import OPPORTUNITY_BYTES, load, parse_trace

FULL_FRAME = 1514
"""Bytes of a full Ethernet frame without its check sequence: what a queue is measured in."""

MIN_QUEUE = 64
"""Packets that a queue of a bandwidth-delay product holds at least: below that a slow link loses
every burst of a few flows."""

MIN_ROUND_TRIP_US = 100_000
"""The round trip for which queues are sized, where the link itself is shorter.

The rule of one bandwidth-delay product (Villamizar and Song 1994) means the
round trip of the flows, and a flow's path is longer than one link.
"""

BITS_NS = 8_000_000_000
_MS = 1_000_000

Finish = Callable[[int, int], int]
"""When a packet that may begin at a time, and of a size, has left the transmitter."""


def queue_packets(impairment: Impairment, rate_bit: int = 0) -> int:
    """How many packets the queue before the transmitter holds; 0 where there is none.

    A queue in bandwidth-delay products is counted in full frames, for a round
    trip of twice the link's delay but at least `MIN_ROUND_TRIP_US`, and is at
    least `MIN_QUEUE`.  One in bytes holds that much in full frames.
    `rate_bit` is what a trace gives on average.
    """
    rate = impairment.rate_bit or rate_bit
    if not rate:
        return 0
    queue = impairment.queue
    if queue.unit is QueueUnit.PACKETS:
        return int(queue.length)
    if queue.unit is QueueUnit.BYTES:
        return max(1, int(queue.length) // FULL_FRAME)
    round_trip_us = max(2 * impairment.delay_us, MIN_ROUND_TRIP_US)
    product = rate * round_trip_us
    if queue.length != 1:
        product = round(product * queue.length)
    return max(MIN_QUEUE, -(-product // (8_000_000 * FULL_FRAME)))


def serialisation_ns(size_bytes: int, rate_bit: int) -> int:
    """How long a frame of that size occupies the transmitter, rounded up; `rate_bit` > 0."""
    return -(-size_bytes * BITS_NS // rate_bit)


def steady(rate_bit: int) -> Finish:
    """A transmitter of a rate."""
    return lambda start_ns, size: start_ns - (-size * BITS_NS // rate_bit)


class Trace:
    """A transmitter that lets 1504 bytes pass at each moment of a trace, over and over.

    Several packets may share a moment, and one may need several; what is not
    used at once is gone (mahimahi, section 4 of the paper by Netravali et al.,
    USENIX ATC 2015).  The trace begins at `origin_ns`.
    """

    def __init__(self, moments_ms: list[int], origin_ns: int) -> None:
        self._moments = moments_ms
        self._period = moments_ms[-1]
        self._origin = origin_ns
        self._next = 0
        """Which opportunity, counted through all repetitions, is the present one."""
        self._left = OPPORTUNITY_BYTES
        """What it still has room for."""

    @property
    def rate_bit(self) -> int:
        """The mean rate, bits per second."""
        return max(1, len(self._moments) * OPPORTUNITY_BYTES * 8_000 // self._period)

    def finish(self, start_ns: int, size: int) -> int:
        """When a packet that waits from `start_ns` has left; `start_ns` never decreases."""
        if self._when(self._next) < start_ns:
            self._next = self._first_from(start_ns)
            self._left = OPPORTUNITY_BYTES
        while not self._left or size > self._left:
            size -= self._left
            self._next += 1
            self._left = OPPORTUNITY_BYTES
        self._left -= size
        return self._when(self._next)

    def _when(self, number: int) -> int:
        turns, index = divmod(number, len(self._moments))
        return self._origin + (turns * self._period + self._moments[index]) * _MS

    def _first_from(self, at_ns: int) -> int:
        since_ms = -((self._origin - at_ns) // _MS)
        turns, within = divmod(since_ms, self._period)
        if not within and turns:
            # The end of a turn is the beginning of the next, and comes first.
            turns, within = turns - 1, self._period
        return turns * len(self._moments) + bisect_left(self._moments, within)


def transmitter(impairment: Impairment, origin_ns: int) -> tuple[Finish | None, int]:
    """The transmitter, and its mean rate; None and 0 where there is none.

    Raises LabError if a trace's file is gone or is not what it was.
    """
    if impairment.trace is not None:
        trace = Trace(list(parse_trace(load(impairment.trace))), origin_ns)
        return trace.finish, trace.rate_bit
    if impairment.rate_bit:
        return steady(impairment.rate_bit), impairment.rate_bit
    return None, 0


class DropTail:
    """A queue that is full or not; the packet in transmission counts."""

    __slots__ = ("_bytes", "_finish", "_in_bytes", "_limit", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[tuple[int, int]] = deque()
        """When each packet has left, and its size."""
        self._bytes = 0
        self._in_bytes = False
        self._limit = 0
        self._finish: Finish | None = None

    def change(self, impairment: Impairment, finish: Finish | None, rate_bit: int) -> None:
        """From the next packet on; what waits keeps its time."""
        self._finish = finish
        # Who counts packets alone (`Direction.offer`) does not count bytes.
        self._bytes = sum(size for _, size in self.waiting)
        self._in_bytes = impairment.queue.unit is QueueUnit.BYTES
        self._limit = (
            int(impairment.queue.length) if self._in_bytes else queue_packets(impairment, rate_bit)
        )

    def admit(self, now_ns: int, size: int, *, forced: bool = False) -> int | None:
        """When a packet has left the transmitter; None if it finds the queue full."""
        waiting = self.waiting
        while waiting and waiting[0][0] <= now_ns:
            self._bytes -= waiting.popleft()[1]
        if self._finish is None:
            return now_ns
        start_ns = now_ns
        if waiting:
            amount = (
                self._bytes + size > self._limit
                if self._in_bytes
                else (len(waiting) >= self._limit)
            )
            if amount and not forced:
                return None
            start_ns = waiting[-1][0]
        done_ns = self._finish(start_ns, size)
        waiting.append((done_ns, size))
        self._bytes += size
        return done_ns

    def free_ns(self, now_ns: int) -> int:
        """When the transmitter has nothing left to do."""
        return max(now_ns, self.waiting[-1][0]) if self.waiting else now_ns
