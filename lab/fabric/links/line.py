"""One direction of a link with everything in the model, for those that a `Direction` is not enough.

A line holds the frames themselves: an active queue decides about a packet
when it is its turn, jitter may let packets overtake, and a frame may be
damaged or doubled.  The theory of operation is in `lab.fabric.links.model`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heappop, heappush

from lab.fabric.links.aqm import Aqm, Waiting, queue_of
from lab.fabric.links.jitter import strayer
from lab.fabric.links.model import Direction, Lots
from lab.fabric.links.transmitter import queue_packets
from lab.topology.character import Discipline, Impairment, Order, QueueUnit


class Line:
    """A direction in full.  Counters are of packets since the beginning."""

    def __init__(
        self,
        direction: Direction,
        impairment: Impairment,
        lots: Lots,
        now_ns: int = 0,
        on_their_way: Iterable[tuple[int, bytes]] = (),
    ) -> None:
        """Go on where `direction`, which has `impairment`, is, with its frames."""
        self._direction = direction
        self._streams = {what: lots(what) for what in ("jitter", "reorder", "duplicate", "corrupt")}
        self._reorder = self._streams["reorder"].random
        self._duplicate = self._streams["duplicate"].random
        self._corrupt = self._streams["corrupt"]
        self._last_ns = direction.last_ns
        self._numbers = 0
        self._wire: list[tuple[int, int, bytes]] = []
        """Departure, order of coming, frame: a heap."""
        for departure_ns, frame in on_their_way:
            self._launch(departure_ns, frame)
        self._aqm: Aqm | None = None
        self._free_ns = 0
        """When the transmitter is free; only where there is an active queue."""
        self._jitter: tuple[Impairment, Callable[[], int]] | None = None
        self._dropped = 0
        self.duplicated = 0
        self.corrupted = 0
        self.reordered = 0
        """Packets that did not wait for the delay."""
        self._impairment = impairment
        self._adopt(impairment, now_ns)

    def change(self, impairment: Impairment, now_ns: int) -> None:
        """From the next packet on, be like `impairment`, as in `Direction.change`.

        What waits in an active queue is kept, and goes on in the new one.
        """
        self._advance(now_ns)
        self._direction.change(impairment, now_ns)
        self._adopt(impairment, now_ns)

    def _adopt(self, impairment: Impairment, now_ns: int) -> None:
        former, self._impairment = self._impairment, impairment
        self._stray = self._strayer(impairment)
        self._delay_ns = impairment.delay_us * 1000
        self._keeps_order = impairment.order is Order.KEEP
        self._in_bytes = impairment.queue.unit is QueueUnit.BYTES
        self._limit = (
            int(impairment.queue.length)
            if self._in_bytes
            else queue_packets(impairment, self._direction.mean_rate_bit)
        )
        active = impairment.limited and impairment.discipline is not Discipline.DROP_TAIL
        before = self._aqm
        if before is not None and (not active or former.discipline is not impairment.discipline):
            self._dropped += before.drops
            self._aqm = None
        if active and self._aqm is None:
            if before is None:
                self._free_ns = self._direction.queue.free_ns(now_ns)
                self._direction.queue.waiting.clear()
            self._aqm = queue_of(impairment.discipline)
            for one in before or ():
                self._aqm.put(one)
        elif not active and before is not None:
            queue = self._direction.queue
            if self._free_ns > now_ns:
                queue.waiting.append((self._free_ns, 0))
            for one in before:
                done_ns = queue.admit(now_ns, len(one.frame), forced=True)
                self._travel(now_ns if done_ns is None else done_ns, one.frame)

    def _strayer(self, impairment: Impairment) -> Callable[[], int] | None:
        """The present one, if the jitter is what it was: its correlation goes on."""
        if not impairment.jitter_us:
            self._jitter = None
            return None
        about = Impairment(
            jitter_us=impairment.jitter_us,
            distribution=impairment.distribution,
            table=impairment.table,
            correlation=impairment.correlation,
        )
        if self._jitter is None or self._jitter[0] != about:
            self._jitter = (about, strayer(about, self._streams["jitter"]))
        return self._jitter[1]

    @property
    def early(self) -> int:
        """Packets that an active queue dropped."""
        return self._dropped + (self._aqm.drops if self._aqm is not None else 0)

    @property
    def waiting(self) -> int:
        """Frames in it."""
        return len(self._wire) + (len(self._aqm) if self._aqm is not None else 0)

    def put(self, now_ns: int, frame: bytes) -> None:
        """A frame arrives; `now_ns` never decreases from call to call."""
        copies = 1
        if self._impairment.duplicate and self._duplicate() < self._impairment.duplicate:
            copies = 2
            self.duplicated += 1
        if self._direction.loses():
            copies -= 1
        for _ in range(copies):
            self._enter(now_ns, self._damaged(frame))

    def next_ns(self) -> int | None:
        """When `take` has something to do; None while nothing is in it."""
        times = [self._wire[0][0]] if self._wire else []
        if self._aqm:
            times.append(self._free_ns)
        return min(times, default=None)

    def take(self, now_ns: int) -> list[tuple[int, bytes]]:
        """Frames that are due, and when each was."""
        self._advance(now_ns)
        wire = self._wire
        due = []
        while wire and wire[0][0] <= now_ns:
            departure_ns, _, frame = heappop(wire)
            due.append((departure_ns, frame))
        return due

    def _damaged(self, frame: bytes) -> bytes:
        share = self._impairment.corrupt
        if not share or self._corrupt.random() >= share:
            return frame
        self.corrupted += 1
        damaged = bytearray(frame)
        bit = int(self._corrupt.random() * len(damaged) * 8)
        damaged[bit // 8] ^= 1 << bit % 8
        return bytes(damaged)

    def _enter(self, now_ns: int, frame: bytes) -> None:
        if self._aqm is None:
            done_ns = self._direction.queue.admit(now_ns, len(frame))
            if done_ns is None:
                self._direction.overflowed += 1
            else:
                self._travel(done_ns, frame)
            return
        self._advance(now_ns)
        if not self._aqm:
            self._free_ns = max(self._free_ns, now_ns)
        self._aqm.put(Waiting(now_ns, frame))
        self._make_room(self._aqm, len(frame))
        self._advance(now_ns)

    def _make_room(self, aqm: Aqm, size: int) -> None:
        """Drop what is too much; hardly more than came, as a change may have shortened the queue.

        It may take several: fq_codel drops the oldest of another flow, which may be small.
        """
        until = aqm.bytes - size
        while self._is_full(aqm) and aqm.bytes > until:
            aqm.drop_one()
            self._direction.overflowed += 1

    def _is_full(self, aqm: Aqm) -> bool:
        return (aqm.bytes if self._in_bytes else len(aqm)) > self._limit

    def _advance(self, now_ns: int) -> None:
        """Let the transmitter take from the active queue what it could until now."""
        aqm, finish = self._aqm, self._direction.finish
        if aqm is None or finish is None:
            return
        while aqm and self._free_ns <= now_ns:
            one = aqm.take(self._free_ns)
            if one is None:
                return
            self._free_ns = finish(self._free_ns, len(one.frame))
            self._travel(self._free_ns, one.frame)

    def _travel(self, start_ns: int, frame: bytes) -> None:
        """Over the wire, from when the transmitter has done with it."""
        if self._impairment.reorder and self._reorder() < self._impairment.reorder:
            self.reordered += 1
            self._launch(start_ns, frame)
            return
        delay_ns = self._delay_ns
        if self._stray is not None:
            delay_ns = max(0, delay_ns + self._stray())
        departure_ns = start_ns + delay_ns
        if self._keeps_order:
            departure_ns = self._last_ns = max(departure_ns, self._last_ns)
        self._launch(departure_ns, frame)

    def _launch(self, departure_ns: int, frame: bytes) -> None:
        self._numbers += 1
        heappush(self._wire, (departure_ns, self._numbers, frame))
