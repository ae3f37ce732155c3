"""What one direction of a link does to packets: a pure state machine.

Theory of operation.  A packet offered to a direction meets, in this order:

1. loss: one number is drawn for every packet offered, whether it is used or
   not.  So the n-th packet's fate depends on the seed and n alone: the same
   traffic loses the same packets, and those lost at 1 % are among those lost
   at 5 %.
2. the queue: drop-tail, counted in packets, the one in transmission among
   them.  There is a queue only where there is a rate.
3. the transmitter: `size * 8 / rate`, one packet after another.
4. the wire: a constant delay.

Packets leave in the order in which they came, also across a change.  netem
inside netem (`lab.fabric.links.kernel`) gives the same departures: delay and
transmitter commute as long as the delay is constant.

No clock is read and nothing is sent: the time comes in with the packet, and
the time at which it is to leave goes out.  The unit is the nanosecond of a
monotonic clock; a size is the frame's, Ethernet header included, check
sequence not, as the kernel counts.
"""

from __future__ import annotations

from collections import deque
from random import Random

from lab.topology.behaviour import Impairment

FULL_FRAME = 1514
"""Bytes of a full Ethernet frame without its check sequence: what a queue is measured in."""

MIN_QUEUE = 64
"""Packets that any queue holds: below that a slow link loses every burst of a few flows."""

MIN_ROUND_TRIP_US = 100_000
"""The round trip for which queues are sized, where the link itself is shorter.

The rule of one bandwidth-delay product (Villamizar and Song 1994) means the
round trip of the flows, and a flow's path is longer than one link.
"""

_BITS_NS = 8_000_000_000


def queue_packets(impairment: Impairment) -> int:
    """How many packets the queue before the transmitter holds; 0 where there is none.

    One bandwidth-delay product of full frames, for a round trip of twice the
    link's delay but at least `MIN_ROUND_TRIP_US`, and at least `MIN_QUEUE`.
    """
    if not impairment.rate_bit:
        return 0
    round_trip_us = max(2 * impairment.delay_us, MIN_ROUND_TRIP_US)
    product = impairment.rate_bit * round_trip_us
    return max(MIN_QUEUE, -(-product // (8_000_000 * FULL_FRAME)))


def serialisation_ns(size_bytes: int, rate_bit: int) -> int:
    """How long a frame of that size occupies the transmitter, rounded up; `rate_bit` > 0."""
    return -(-size_bytes * _BITS_NS // rate_bit)


class Direction:
    """One direction of a link.

    `rng` belongs to this direction alone (`lab.seeds.stream`).  The counters
    are of packets since the beginning.
    """

    __slots__ = (
        "_delay_ns",
        "_draw",
        "_finishing",
        "_last_ns",
        "_limit",
        "_loss",
        "_rate_bit",
        "lost",
        "overflowed",
    )

    def __init__(self, impairment: Impairment, rng: Random) -> None:
        self._draw = rng.random
        self._finishing: deque[int] = deque()
        """When each packet in the queue leaves the transmitter."""
        self._last_ns = 0
        self.lost = 0
        """Packets lost by chance."""
        self.overflowed = 0
        """Packets that found the queue full."""
        self.change(impairment)

    def change(self, impairment: Impairment) -> None:
        """From the next packet on, be like `impairment`.

        Packets accepted before keep the departure that they were given, so a
        change loses none and overtakes none: after a shorter delay, newer
        packets wait for the older ones.
        """
        self._loss = impairment.loss
        self._delay_ns = impairment.delay_us * 1000
        self._rate_bit = impairment.rate_bit
        self._limit = queue_packets(impairment)

    def offer(self, now_ns: int, size_bytes: int) -> int | None:
        """When a frame that arrives at `now_ns` leaves; None if it never does.

        `now_ns` never decreases from call to call.
        """
        if self._draw() < self._loss:
            self.lost += 1
            return None
        departure_ns = now_ns
        if self._rate_bit:
            finishing = self._finishing
            while finishing and finishing[0] <= now_ns:
                finishing.popleft()
            if finishing:
                if len(finishing) >= self._limit:
                    self.overflowed += 1
                    return None
                departure_ns = finishing[-1]
            # serialisation_ns, in place: this is the ferry's hot path.
            departure_ns -= -size_bytes * _BITS_NS // self._rate_bit
            finishing.append(departure_ns)
        departure_ns += self._delay_ns
        if departure_ns < self._last_ns:
            return self._last_ns
        self._last_ns = departure_ns
        return departure_ns
