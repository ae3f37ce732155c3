"""Flows of frames over many links at once, and when each frame left and came.

One thread does it all, so that nothing it does delays it unseen.  A frame that
is sent carries no time: the clock is read right before and right after the
call that sends it, and the kernel stamps it at the other end by the same clock
(SO_TIMESTAMPNS), so a delay is known to lie between two figures.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import select
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from typing import NamedTuple, Self

from lab.errors import LabError
from lab.fabric import packets
from lab.paths import LabPaths
from lab.plan.model import End
from lab.verify.links import frames
from lab.verify.links.toll import Read, Toll, Trail

_SO_SNDBUFFORCE = 32
_SIOCGIFMTU = 0x8921
_BUFFER_BYTES = 1 << 26
_ROUND = 64
"""Frames to send before looking whether some have come."""
_GRACE_S = 0.3
"""For the machine, on top of what the links take."""
_LONG_GRACE_S = 3.0
"""As that, while the last frames are missing."""
_SLICE_NS = 20_000_000
"""To listen for at a time, once all is sent."""
_LAST = 32
"""More frames than a burst of losses takes in a row, nearly ever."""


class Arrival(NamedTuple):
    """A frame that came."""

    number: int
    at_ns: int
    """The kernel's stamp, nanoseconds of Unix time."""
    intact: bool


@dataclass(slots=True)
class Flow:
    """Frames of one size in one direction of a link, and what became of them."""

    source: Socket
    sink: Socket
    size: int
    """Bytes of a frame, header included."""
    offsets_ns: Sequence[int]
    """When to send each, counted from the beginning; ascending."""
    settle_s: float
    """How long the last one may be on its way."""
    number: int = field(default_factory=lambda: secrets.randbits(32))
    sent: list[tuple[int, int]] = field(default_factory=list)
    """Before and after each was sent, Unix time in nanoseconds."""
    arrivals: list[Arrival] = field(default_factory=list)
    foreign: list[tuple[int, int]] = field(default_factory=list)
    """What others sent the same way meanwhile: when it came, and bytes."""
    refused: int = 0
    """Frames longer than the interface takes."""

    @property
    def span_ns(self) -> tuple[int, int]:
        """From the first frame sent to the last one that came, or was sent."""
        last = self.sent[-1][1]
        return self.sent[0][0], max(last, self.arrivals[-1].at_ns) if self.arrivals else last


class Socket:
    """A packet socket at one end of a link."""

    def __init__(self, paths: LabPaths, end: End) -> None:
        self.end = end
        self.mac = bytes.fromhex(end.mac.replace(":", ""))
        self.flows: dict[int, Flow] = {}
        """Those that come here, by their number."""
        what = f"interface {end.interface} of {end.node}"
        with packets.opening(
            paths.netns(end.node),
            socket.SOCK_RAW,
            what,
            room=_BUFFER_BYTES,
            outgoing=False,
            stamps=True,
        ) as self._socket:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _BUFFER_BYTES)
            self._socket.bind((end.interface, packets.ALL))

    @property
    def mtu(self) -> int:
        """What the interface says that it is, in bytes."""
        request = struct.pack("16s24x", self.end.interface.encode())
        answer = fcntl.ioctl(self._socket, _SIOCGIFMTU, request)
        return int(struct.unpack_from("i", answer, 16)[0])

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def send(self, frame: bytes) -> bool:
        """Put `frame` on the wire, if there is room in the queue; False if it is too long."""
        try:
            self._socket.send(frame)
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                return False
            if error.errno not in (errno.ENOBUFS, errno.EAGAIN):
                raise self._gone(error) from error
        return True

    def hear(self) -> None:
        """Note what has come."""
        receive = self._socket.recvmsg
        try:
            while True:
                frame, ancillary, _, _ = receive(65600, 64)
                seconds, nanoseconds = struct.unpack_from("qq", ancillary[0][2])
                at_ns = seconds * 1_000_000_000 + nanoseconds
                seen = frames.read(frame)
                flow = self.flows.get(seen.flow) if seen else None
                if flow is None or seen is None:
                    for one in self.flows.values():
                        one.foreign.append((at_ns, len(frame)))
                    continue
                intact = seen.intact and frame[6:12] == flow.source.mac
                flow.arrivals.append(Arrival(seen.number, at_ns, intact))
        except BlockingIOError:
            return
        except OSError as error:
            raise self._gone(error) from error

    def _gone(self, error: OSError) -> LabError:
        return LabError(
            f"interface {self.end.interface} of {self.end.node} went away: {error.strerror}"
        )


class Wire(contextlib.AbstractContextManager["Wire"]):
    """Both ends of a link; a context manager."""

    def __init__(self, paths: LabPaths, a: End, b: End) -> None:
        self.a = Socket(paths, a)
        try:
            self.b = Socket(paths, b)
        except BaseException:
            self.a.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.a.close()
        self.b.close()


def carry(flows: Sequence[Flow], read: Read = lambda: None) -> Toll:
    """Send all flows together and hear what comes; what that cost, `read` before and after.

    Raises LabError if an interface goes away.
    """
    sinks = {flow.sink for flow in flows}
    for flow in flows:
        flow.sink.hear()
    for flow in flows:
        flow.sink.flows[flow.number] = flow
    before = read()
    with contextlib.ExitStack() as stack:
        for sink in sinks:
            stack.callback(sink.flows.clear)
        ours = stack.enter_context(Trail(os.getpid()))
        worker = before.worker if before else None
        theirs = stack.enter_context(Trail(worker)) if worker else None
        poll = stack.enter_context(select.epoll())
        ear = _Ear(poll, {sink.fileno(): sink for sink in sinks}, ours, theirs)
        wakings = _run(flows, ear)
    return Toll(before, read(), wakings, ours, theirs)


class _Ear:
    """Hears what comes, and looks at those who work for it."""

    def __init__(self, poll: select.epoll, sinks: dict[int, Socket], *trails: Trail | None) -> None:
        self._poll = poll
        self._sinks = sinks
        self._trails = [trail for trail in trails if trail is not None]
        for number in sinks:
            poll.register(number, select.EPOLLIN)

    def hear(self, seconds: float) -> None:
        """For so long, or until something has come; LabError if an interface is gone."""
        # A poll knows milliseconds; what is left of one is slept away.
        whole, rest = divmod(seconds, 0.001)
        if not whole and rest:
            time.sleep(rest)
        for number, event in self._poll.poll(whole / 1000):
            if event & ~select.EPOLLIN:
                raise LabError(f"interface {self._sinks[number].end.interface} went away")
            self._sinks[number].hear()
        now_ns = time.time_ns()
        for trail in self._trails:
            trail.look(now_ns)


def _run(flows: Sequence[Flow], ear: _Ear) -> list[float]:
    """How late each waking was, ascending."""
    clock, wall = time.monotonic_ns, time.time_ns
    makers = [frames.Maker(flow.source.mac, flow.number, flow.size) for flow in flows]
    ear.hear(0)
    began = clock() + 1_000_000
    due = [(flow.offsets_ns[0], index, 0) for index, flow in enumerate(flows) if flow.offsets_ns]
    heapify(due)
    late: list[int] = []
    since_heard = 0
    while due:
        offset, index, number = due[0]
        left = began + offset - clock()
        if left > 0 or since_heard >= _ROUND:
            since_heard = 0
            waited = left > 0
            ear.hear(max(left, 0) / 1e9)
            if waited and (over := clock() - began - offset) >= 0:
                late.append(over)
            continue
        since_heard += 1
        flow = flows[index]
        frame = makers[index].frame(number)
        before = wall()
        if not flow.source.send(frame):
            flow.refused += 1
        flow.sent.append((before, wall()))
        number += 1
        if number < len(flow.offsets_ns):
            heapreplace(due, (flow.offsets_ns[number], index, number))
        else:
            heappop(due)
    _settle(flows, ear)
    return sorted(one / 1e9 for one in late)


def _settle(flows: Iterable[Flow], ear: _Ear) -> None:
    """Wait until everything has come, or would have.

    What this program overslept does not count: who carries the frames did not run either.
    """
    left = [flow for flow in flows if flow.sent]
    overslept_ns = 0
    ear.hear(0)
    while left := [flow for flow in left if not _is_over(flow, time.time_ns() - overslept_ns)]:
        began = time.monotonic_ns()
        ear.hear(_SLICE_NS / 1e9)
        overslept_ns += max(time.monotonic_ns() - began - _SLICE_NS, 0)


def _is_over(flow: Flow, now_ns: int) -> bool:
    count = len(flow.sent) - flow.refused
    if len(flow.arrivals) >= count:
        # Each once, or nearly: doubles come right behind.
        return now_ns > flow.arrivals[-1].at_ns + 30_000_000 if flow.arrivals else True
    since_s = (now_ns - flow.sent[-1][1]) / 1e9 - flow.settle_s
    recent = any(one.number >= len(flow.sent) - _LAST for one in flow.arrivals[-2 * _LAST :])
    return since_s > (_GRACE_S if recent or not flow.arrivals else _LONG_GRACE_S)
