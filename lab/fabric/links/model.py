"""What one direction of a link does to packets: a pure state machine.

Theory of operation.  A packet offered to a direction meets, in this order:

1. duplication and loss.  For the independent loss one number is drawn for
   every packet offered, whether it is used or not, and every kind of fate has
   a stream of its own.  So the n-th packet's fate depends on the seed and n
   alone: the same traffic loses the same packets, and those lost at 1 % are
   among those lost at 5 %.
2. corruption: one bit of the frame is inverted.
3. the queue, where there is a transmitter.
4. the transmitter: `size * 8 / rate`, one packet after another, or the moments
   of a trace.
5. the wire: the delay and its jitter.  A packet that overtakes skips it.

Packets leave in the order in which they came, also across a change, except
where the impairment says otherwise.  netem inside netem
(`lab.fabric.links.kernel`) gives the same departures: delay and transmitter
commute as long as the delay is constant.

`Direction` here is what most links need, and the fast path: at most one
departure for each packet, known at once and never before an earlier one's.
`lab.fabric.links.line` is the rest.

No clock is read and nothing is sent: the time comes in with the packet, and
the time at which it is to leave goes out.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from lab.fabric.links.losses import Loss, bursty, either, patterned
from lab.fabric.links.transmitter import (
    BITS_NS,
    FULL_FRAME,
    MIN_QUEUE,
    DropTail,
    Finish,
    queue_packets,
    serialisation_ns,
    transmitter,
)
from lab.topology.character import Bursts, DataFile, Discipline, Impairment, LossPattern, QueueUnit

__all__ = [
    "FULL_FRAME",
    "MIN_QUEUE",
    "Direction",
    "Lots",
    "queue_packets",
    "serialisation_ns",
    "straight",
]

Lots = Callable[[str], Random]
"""The stream of random numbers for a purpose; called once for each, and kept."""


def straight(impairment: Impairment) -> bool:
    """Whether a `Direction` is all it takes."""
    return not (
        impairment.jitter_us
        or impairment.altering
        or (impairment.limited and impairment.discipline is not Discipline.DROP_TAIL)
    )


class Direction:
    """One direction of a link.

    `lots` belong to this direction alone (`lab.seeds.stream`).  The counters
    are of packets since the beginning.
    """

    __slots__ = (
        "_bursts",
        "_delay_ns",
        "_draw",
        "_last_ns",
        "_limit",
        "_limited",
        "_loss",
        "_lots",
        "_more_loss",
        "_pattern",
        "_rate_bit",
        "_trace",
        "finish",
        "lost",
        "mean_rate_bit",
        "overflowed",
        "queue",
    )

    def __init__(self, impairment: Impairment, lots: Lots, now_ns: int = 0) -> None:
        self._lots = lots
        self._draw = lots("loss").random
        self._bursts: tuple[Bursts, Loss] | None = None
        self._pattern: tuple[LossPattern, Loss] | None = None
        self._trace: DataFile | None = None
        self.finish: Finish | None = None
        """The transmitter; None where there is none."""
        self.mean_rate_bit = 0
        self.queue = DropTail()
        self._last_ns = 0
        self.lost = 0
        """Packets lost by chance or by pattern."""
        self.overflowed = 0
        """Packets that found the queue full."""
        self.change(impairment, now_ns)

    def change(self, impairment: Impairment, now_ns: int = 0) -> None:
        """From the next packet on, be like `impairment`.

        Packets accepted before keep the departure that they were given, so a
        change loses none and overtakes none: after a shorter delay, newer
        packets wait for the older ones.  A chain of bursts, a pattern and a
        trace that stay the same go on where they are; a new trace begins at
        `now_ns`.

        Raises LabError if a file is gone or is not what it was; nothing has
        changed then.
        """
        if impairment.trace is None or impairment.trace != self._trace:
            self.finish, self.mean_rate_bit = transmitter(impairment, now_ns)
        self._trace = impairment.trace
        self._loss = impairment.loss
        self._more_loss = self._further_losses(impairment)
        self._delay_ns = impairment.delay_us * 1000
        self._limited = impairment.limited
        self.queue.change(impairment, self.finish, self.mean_rate_bit)
        counted = impairment.queue.unit is not QueueUnit.BYTES
        self._rate_bit = impairment.rate_bit if counted else 0
        self._limit = queue_packets(impairment)

    def _further_losses(self, impairment: Impairment) -> Loss | None:
        bursts, pattern = impairment.bursts, impairment.pattern
        if bursts is None:
            self._bursts = None
        elif self._bursts is None or self._bursts[0] != bursts:
            self._bursts = (bursts, bursty(bursts, self._lots("bursts")))
        if pattern is None:
            self._pattern = None
        elif self._pattern is None or self._pattern[0] != pattern:
            self._pattern = (pattern, patterned(pattern))
        if self._bursts and self._pattern:
            return either(self._bursts[1], self._pattern[1])
        both = self._bursts or self._pattern
        return both[1] if both else None

    @property
    def last_ns(self) -> int:
        """The latest departure given so far."""
        return self._last_ns

    def loses(self) -> bool:
        """Whether the next packet is lost; counted."""
        by_chance = self._draw() < self._loss
        if (self._more_loss is not None and self._more_loss()) or by_chance:
            self.lost += 1
            return True
        return False

    def offer(self, now_ns: int, size_bytes: int) -> int | None:
        """When a frame that arrives at `now_ns` leaves; None if it never does.

        `now_ns` never decreases from call to call.
        """
        # `loses` and `DropTail.admit` in place where a link is an ordinary
        # one: this is a hot path of the ferry.
        if self._more_loss is not None:
            if self.loses():
                return None
        elif self._draw() < self._loss:
            self.lost += 1
            return None
        departure_ns = now_ns
        if self._rate_bit:
            waiting = self.queue.waiting
            while waiting and waiting[0][0] <= now_ns:
                waiting.popleft()
            if waiting:
                if len(waiting) >= self._limit:
                    self.overflowed += 1
                    return None
                departure_ns = waiting[-1][0]
            departure_ns -= -size_bytes * BITS_NS // self._rate_bit
            waiting.append((departure_ns, size_bytes))
        elif self._limited:
            admitted = self.queue.admit(now_ns, size_bytes)
            if admitted is None:
                self.overflowed += 1
                return None
            departure_ns = admitted
        departure_ns += self._delay_ns
        if departure_ns < self._last_ns:
            return self._last_ns
        self._last_ns = departure_ns
        return departure_ns

    def offer_all(self, now_ns: int, frames: list[bytes]) -> list[tuple[int, list[bytes]]]:
        """As `offer` of each of `frames`, all of which arrive at `now_ns`.

        When some of them leave, and which, in order; what never does is left out.
        """
        if self._limited or self._more_loss is not None:
            offer = self.offer
            return [
                (departure_ns, [frame])
                for frame in frames
                if (departure_ns := offer(now_ns, len(frame))) is not None
            ]
        draw, loss = self._draw, self._loss
        kept = [frame for frame in frames if draw() >= loss]
        self.lost += len(frames) - len(kept)
        if not kept:
            return []
        self._last_ns = max(now_ns + self._delay_ns, self._last_ns)
        return [(self._last_ns, kept)]
