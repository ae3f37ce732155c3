"""What a path carries: packets sent as fast as they are acknowledged.

Each DATA packet is answered by an ACK that names it.  The window of packets
under way doubles with each round trip until one is lost, then shrinks by half
for each loss and grows by one packet a round trip (RFC 5681, section 3.1), so
that a measurement takes its share of a link and no more.  It stops growing
when packets begin to queue, as longer queues carry no more (the idea of RFC
9406).  Nothing is sent again: what is lost is not counted.

One packet goes ahead of the others, and again until one is acknowledged.  It
shows how long a packet of full size takes, which on a slow line is several
times as long as a small one, and lets routers say that it is too large for one
of their lines (RFC 1191), so that the measurement is not spent on that.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from lab.peer.endpoint import Endpoint
from lab.peer.machine import Datagram
from lab.peer.record import DATA
from lab.peer.sealed import WINDOW
from lab.peer.traversal.seal import MAX_PAYLOAD, Seal

FIRST_WINDOW = 10
"""Packets (RFC 6928)."""
MAX_WINDOW = WINDOW * 3 // 4
"""What is acknowledged late has to be within the receiver's replay window."""
REORDERED = 3
"""Acknowledgements that may overtake one before its packet counts as lost (RFC 5681)."""
QUEUED_S = 0.05
"""So much longer than half as long again as the shortest takes a packet that has queued."""
PATIENCE_S = 0.3
"""Without any acknowledgement for so long, or two round trips, everything under way is lost."""
FIRST_S = 5.0
"""For so long at most is the first acknowledgement waited for."""
ROUND_TRIPS = 4
"""For so many at least is measured: nothing is acknowledged in the first, and few packets in
the second."""
LONGEST_S = 5.0
"""For so long at most is measured."""


class Flow:
    """The sending end; the prober of the path lends it the socket and hands it the answers.

    It measures for `duration_s` from the first acknowledgement on, on a long path for
    `ROUND_TRIPS`.  `round_trip_s` is how long a small packet and its answer take while
    nothing queues.
    """

    def __init__(
        self,
        seal: Seal,
        remote: Endpoint,
        now: float,
        duration_s: float,
        *,
        round_trip_s: float = 0.0,
    ) -> None:
        self.started_at: float | None = None
        """When the first acknowledgement came: what is measured is what follows it."""
        self.last_at = now
        """When the last acknowledgement came."""
        self.until = now + FIRST_S
        """Nothing is sent or counted from then on."""
        self.received = 0
        """Bytes of payload that the other end acknowledged."""
        self.lost = 0
        """Packets."""
        self._seal = seal
        self._remote = remote
        self._duration_s = duration_s
        self._patience_s = max(PATIENCE_S, 2 * round_trip_s)
        self._window = 1.0
        self._threshold = float(MAX_WINDOW)
        self._under_way: OrderedDict[int, tuple[int, float]] = OrderedDict()
        """By sequence number: which packet of the flow, counted from 0, and when it was sent."""
        self._given_up: dict[int, float] = {}
        """By sequence number, when a packet was sent that was neither acknowledged nor waited for
        any longer."""
        self._recovered = 0
        """Losses of packets before this one have been paid for."""
        self._sent = 0
        self._now = now
        self._heard_at = now
        self._shortest = math.inf
        """The shortest round trip so far, in seconds."""

    @property
    def goodput_bps(self) -> float:
        """Bits of payload per second, from the first acknowledgement to the last."""
        elapsed = 0.0 if self.started_at is None else self.last_at - self.started_at
        return self.received * 8 / elapsed if elapsed > 0 else 0.0

    @property
    def over(self) -> bool:
        """Whether nothing will be sent, and nothing is waited for."""
        return self._now >= self.until and (self.started_at is None or not self._under_way)

    def acknowledged(self, sequence: int, now: float) -> None:
        """The other end has the packet `sequence`."""
        if sequence in self._under_way:
            place, sent_at = self._under_way.pop(sequence)
        elif sequence in self._given_up:
            # It was late, and not lost.
            place, sent_at = -1, self._given_up.pop(sequence)
            self.lost -= 1
        else:
            return
        self._heard_at = self._now = now
        if now > self.until:
            return
        if self.started_at is None:
            self._start(now, now - sent_at)
            return
        self.received += MAX_PAYLOAD
        self.last_at = now
        self._shortest = min(self._shortest, now - sent_at)
        if now - sent_at <= 1.5 * self._shortest + QUEUED_S:
            self._window += 1 if self._window < self._threshold else 1 / self._window
            self._window = min(self._window, MAX_WINDOW)
        while self._under_way and self._oldest()[0] < place - REORDERED:
            lost, (behind, at) = self._under_way.popitem(last=False)
            self._given_up[lost] = at
            self._lose(behind)

    @property
    def under_way(self) -> int:
        """Packets that were neither acknowledged nor given up."""
        return len(self._under_way)

    def tick(self, now: float) -> None:
        self._now = now
        if self._under_way and now >= self._quiet_until():
            self.lost += len(self._under_way)
            self._given_up |= {lost: sent_at for lost, (_, sent_at) in self._under_way.items()}
            self._under_way.clear()
            if self.started_at is None:
                # Each that is too large for a line tells of the first such line only.
                self._patience_s *= 2
                return
            self._threshold = max(2.0, self._window / 2)
            self._window = 2.0

    def deadline(self) -> float | None:
        if self._now >= self.until:
            return self._quiet_until() if self._under_way else None
        return min(self._quiet_until(), self.until) if self._under_way else self._now

    def take(self) -> list[Datagram]:
        out: list[Datagram] = []
        while self._now < self.until and len(self._under_way) < int(self._window):
            sequence, packet = self._seal.payload(MAX_PAYLOAD)
            self._under_way[sequence] = self._sent, self._now
            self._sent += 1
            out.append(Datagram(packet, self._remote, DATA))
        return out

    def _start(self, now: float, round_trip_s: float) -> None:
        """Measure from now on: a packet of full size is back after `round_trip_s`."""
        self.started_at = self.last_at = now
        self.until = now + min(max(self._duration_s, ROUND_TRIPS * round_trip_s), LONGEST_S)
        self._shortest = round_trip_s
        self._patience_s = max(PATIENCE_S, 2 * round_trip_s)
        self._window = float(FIRST_WINDOW)

    def _quiet_until(self) -> float:
        return max(self._oldest()[1], self._heard_at) + self._patience_s

    def _oldest(self) -> tuple[int, float]:
        return next(iter(self._under_way.values()))

    def _lose(self, place: int) -> None:
        self.lost += 1
        if place >= self._recovered:
            self._recovered = self._sent
            self._threshold = self._window = max(2.0, self._window / 2)
