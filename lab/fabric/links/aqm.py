"""Queues that drop before they are full: CoDel (RFC 8289) and FlowQueue-CoDel (RFC 8290).

Times are passed in, nanoseconds of a monotonic clock.  Nothing is marked
(ECN): what is to be signalled is dropped, as the kernel backend is told too.
"""

from __future__ import annotations

import math
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from lab.fabric.links.transmitter import FULL_FRAME
from lab.topology.character import Discipline

TARGET_NS = 5_000_000
"""The standing delay that is tolerated (RFC 8289, section 4.3)."""

INTERVAL_NS = 100_000_000
"""For how long it is tolerated (RFC 8289, section 4.2)."""

FLOWS = 1024
"""Queues of fq_codel (RFC 8290, section 4.1.1)."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A frame in a queue."""

    since_ns: int
    frame: bytes


class Aqm(Protocol):
    """A queue that drops by itself what has waited for too long."""

    bytes: int
    """Of the frames in it."""

    @property
    def drops(self) -> int:
        """How many it dropped by itself."""

    def put(self, one: Waiting) -> None: ...
    def take(self, now_ns: int) -> Waiting | None: ...
    def drop_one(self) -> None:
        """Make room where the queue is full; not one of its `drops`."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Waiting]: ...


def queue_of(discipline: Discipline) -> Aqm:
    """An empty queue; not for `drop-tail`, which needs none."""
    return FqCodel() if discipline is Discipline.FQ_CODEL else Codel()


class Codel:
    """One queue under CoDel: the pseudocode of RFC 8289, section 5."""

    def __init__(self) -> None:
        self._waiting: deque[Waiting] = deque()
        self.bytes = 0
        self.drops = 0
        self._first_above_ns = 0
        self._drop_next_ns = 0
        self._count = 0
        self._last_count = 0
        self._dropping = False

    def put(self, one: Waiting) -> None:
        self._waiting.append(one)
        self.bytes += len(one.frame)

    def drop_one(self) -> None:
        """The newest: a full CoDel queue drops its tail."""
        self.bytes -= len(self._waiting.pop().frame)

    def drop_head(self) -> None:
        """The oldest: what fq_codel does to the longest of its queues."""
        self.bytes -= len(self._waiting.popleft().frame)

    def take(self, now_ns: int) -> Waiting | None:
        one, may_drop = self._next(now_ns)
        if self._dropping:
            if not may_drop:
                self._dropping = False
            while self._dropping and now_ns >= self._drop_next_ns:
                self.drops += 1
                self._count += 1
                one, may_drop = self._next(now_ns)
                if may_drop:
                    self._drop_next_ns = self._control_law(self._drop_next_ns)
                else:
                    self._dropping = False
        elif may_drop:
            self.drops += 1
            one, _ = self._next(now_ns)
            self._dropping = True
            recent = self._count - self._last_count
            soon = now_ns - self._drop_next_ns < 16 * INTERVAL_NS
            self._count = recent if recent > 1 and soon else 1
            self._drop_next_ns = self._control_law(now_ns)
            self._last_count = self._count
        return one

    def _next(self, now_ns: int) -> tuple[Waiting | None, bool]:
        """The oldest, and whether it may be dropped."""
        if not self._waiting:
            self._first_above_ns = 0
            return None, False
        one = self._waiting.popleft()
        self.bytes -= len(one.frame)
        if now_ns - one.since_ns < TARGET_NS or self.bytes <= FULL_FRAME:
            self._first_above_ns = 0
        elif not self._first_above_ns:
            self._first_above_ns = now_ns + INTERVAL_NS
        elif now_ns >= self._first_above_ns:
            return one, True
        return one, False

    def _control_law(self, at_ns: int) -> int:
        return at_ns + int(INTERVAL_NS / math.sqrt(self._count))

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Waiting]:
        return iter(self._waiting)


class _Flow(Codel):
    """A CoDel queue and its credit in the round."""

    def __init__(self) -> None:
        super().__init__()
        self.credit = 0


class FqCodel:
    """A queue for each flow, served by deficit round robin, sparse ones first (RFC 8290)."""

    def __init__(self) -> None:
        self._flows: dict[int, _Flow] = {}
        self._new: deque[_Flow] = deque()
        self._old: deque[_Flow] = deque()
        self.bytes = 0
        self._count = 0

    @property
    def drops(self) -> int:
        return sum(flow.drops for flow in self._flows.values())

    def put(self, one: Waiting) -> None:
        number = zlib.crc32(flow_of(one.frame)) % FLOWS
        flow = self._flows.get(number)
        if flow is None:
            flow = self._flows[number] = _Flow()
        if flow not in self._new and flow not in self._old:
            flow.credit = FULL_FRAME
            self._new.append(flow)
        flow.put(one)
        self._count += 1
        self.bytes += len(one.frame)

    def drop_one(self) -> None:
        """From the head of the longest queue (RFC 8290, section 4.1.2)."""
        flow = max(self._flows.values(), key=lambda flow: flow.bytes)
        before = flow.bytes
        flow.drop_head()
        self._count -= 1
        self.bytes += flow.bytes - before

    def take(self, now_ns: int) -> Waiting | None:
        while self._new or self._old:
            flows = self._new or self._old
            flow = flows[0]
            if flow.credit <= 0:
                flow.credit += FULL_FRAME
                flows.popleft()
                self._old.append(flow)
                continue
            count, amount = len(flow), flow.bytes
            one = flow.take(now_ns)
            self._count += len(flow) - count
            self.bytes += flow.bytes - amount
            if one is None:
                flows.popleft()
                # Not forgotten at once, or a sparse flow would be new for ever.
                if flows is self._new and self._old:
                    self._old.append(flow)
                continue
            flow.credit -= len(one.frame)
            return one
        return None

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Waiting]:
        every = (one for flow in self._flows.values() for one in flow)
        return iter(sorted(every, key=lambda one: one.since_ns))


_ETHERNET = 14
_PORTS = (6, 17)


def flow_of(frame: bytes) -> bytes:
    """What tells the flow of a frame: protocol, addresses, ports; else its Ethernet header."""
    kind = frame[12:14]
    if kind == b"\x08\x00" and len(frame) >= _ETHERNET + 20:
        protocol, header = frame[23], (frame[14] & 15) * 4
        whole = not (frame[20] & 0x3F or frame[21])
        ports = frame[14 + header : 18 + header] if protocol in _PORTS and whole else b""
        return frame[23:24] + frame[26:34] + ports
    if kind == b"\x86\xdd" and len(frame) >= _ETHERNET + 40:
        ports = frame[54:58] if frame[20] in _PORTS else b""
        return frame[20:21] + frame[22:54] + ports
    return frame[:14]
