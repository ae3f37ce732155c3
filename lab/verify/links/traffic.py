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
import secrets
import select
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from typing import NamedTuple, Self

from lab.errors import LabError, MissingError
from lab.fabric import netns
from lab.paths import LabPaths
from lab.plan.model import End
from lab.verify.links import frames

_ETH_P_ALL = 3
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23
_SO_TIMESTAMPNS = 35
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_SIOCGIFMTU = 0x8921
_BUFFER_BYTES = 1 << 26
_ROUND = 64
"""Frames to send before looking whether some have come."""
_GRACE_S = 0.3
"""For the machine, on top of what the links take."""
_LONG_GRACE_S = 3.0
"""As that, while the last frames are missing."""
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
    foreign: int = 0
    """Bytes that others sent the same way meanwhile."""
    refused: int = 0
    """Frames longer than the interface takes."""


class Socket:
    """A packet socket at one end of a link."""

    def __init__(self, paths: LabPaths, end: End) -> None:
        self.end = end
        self.mac = bytes.fromhex(end.mac.replace(":", ""))
        self.flows: dict[int, Flow] = {}
        """Those that come here, by their number."""
        with netns.inside(paths.netns(end.node)):
            try:
                self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            except PermissionError as error:
                raise MissingError(
                    "not allowed to look at packets", remedy="run as root, or with CAP_NET_RAW"
                ) from error
        try:
            self._prepare()
        except OSError as error:
            self._socket.close()
            raise LabError(
                f"can't look at interface {end.interface} of {end.node}: {error.strerror}",
                remedy="something removed it; take the lab down and up again",
            ) from error

    def _prepare(self) -> None:
        handle = self._socket
        handle.setblocking(False)
        handle.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        handle.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _BUFFER_BYTES)
        handle.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        handle.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        handle.bind((self.end.interface, _ETH_P_ALL))

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
                seen = frames.read(frame)
                flow = self.flows.get(seen.flow) if seen else None
                if flow is None or seen is None:
                    for one in self.flows.values():
                        one.foreign += len(frame)
                    continue
                seconds, nanoseconds = struct.unpack_from("qq", ancillary[0][2])
                at_ns = seconds * 1_000_000_000 + nanoseconds
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


def carry(flows: Sequence[Flow]) -> float:
    """Send all flows together and hear what comes; how late sends were, seconds (upper quarter).

    Raises LabError if an interface goes away.
    """
    sinks = {flow.sink for flow in flows}
    for flow in flows:
        flow.sink.hear()
    for flow in flows:
        flow.sink.flows[flow.number] = flow
    try:
        with select.epoll() as poll:
            by_number = {sink.fileno(): sink for sink in sinks}
            for number in by_number:
                poll.register(number, select.EPOLLIN)
            return _run(flows, by_number, poll)
    finally:
        for sink in sinks:
            sink.flows.clear()


def _run(flows: Sequence[Flow], sinks: dict[int, Socket], poll: select.epoll) -> float:
    clock, wall = time.monotonic_ns, time.time_ns
    makers = [frames.Maker(flow.source.mac, flow.number, flow.size) for flow in flows]
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
            _hear(poll, sinks, max(left, 0) / 1e9)
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
    _settle(flows, sinks, poll)
    late.sort()
    return late[len(late) * 3 // 4] / 1e9 if late else 0.0


def _settle(flows: Iterable[Flow], sinks: dict[int, Socket], poll: select.epoll) -> None:
    """Wait until everything has come, or would have."""
    left = [flow for flow in flows if flow.sent]
    while True:
        now = time.time_ns()
        left = [flow for flow in left if not _is_over(flow, now)]
        if not left:
            return
        _hear(poll, sinks, 0.02)


def _is_over(flow: Flow, now_ns: int) -> bool:
    count = len(flow.sent) - flow.refused
    if len(flow.arrivals) >= count:
        # Each once, or nearly: doubles come right behind.
        return now_ns > flow.arrivals[-1].at_ns + 30_000_000 if flow.arrivals else True
    since_s = (now_ns - flow.sent[-1][1]) / 1e9 - flow.settle_s
    recent = any(one.number >= len(flow.sent) - _LAST for one in flow.arrivals[-2 * _LAST :])
    return since_s > (_GRACE_S if recent or not flow.arrivals else _LONG_GRACE_S)


def _hear(poll: select.epoll, sinks: dict[int, Socket], seconds: float) -> None:
    # A poll knows milliseconds; what is left of one is slept away.
    whole, rest = divmod(seconds, 0.001)
    if not whole and rest:
        time.sleep(rest)
    for number, event in poll.poll(whole / 1000):
        if event & ~select.EPOLLIN:
            raise LabError(f"interface {sinks[number].end.interface} went away")
        sinks[number].hear()
