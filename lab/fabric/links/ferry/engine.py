"""The ferry's event loop: frames in, a time for each from the model, frames out.

Theory of operation.  Each direction keeps its frames in a queue (the model
keeps their order, so the first is always due first), and a heap holds the
directions by the time of their first frame.  The loop sleeps in epoll until a
device has a frame or the timer fires; the timer is a timerfd because epoll's
own timeout has a grain of a millisecond.  Frames are read in batches that
grow while a device has more, and due frames are written between batches, so
that a flood on one link does not hold up the others.

This is the one hot path of the lab: a frame costs a read, a write and some
three microseconds between them.  Hence the local names, and the loop in one
function.
"""

from __future__ import annotations

import ctypes
import os
import select
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush, heapreplace
from random import Random

from lab.errors import LabError
from lab.fabric.links.ferry.protocol import (
    BUCKETS,
    FINEST_SHIFT,
    DirectionStats,
    FerryStats,
    Lateness,
    LinkStats,
)
from lab.fabric.links.line import Line
from lab.fabric.links.model import Direction, Lots, straight
from lab.fabric.links.tap import RING_PACKETS
from lab.plan.model import Link
from lab.seeds import stream
from lab.topology.behaviour import Impairment
from lab.topology.datafiles import load

_BATCH = 32
"""Frames read from one device before others have their turn."""

_FRAME_OVERHEAD = 18
"""Ethernet header and a VLAN tag, on top of the MTU."""

_TFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_TFD_TIMER_ABSTIME = 1


class Port:
    """One direction of a link: a device that is read, one that is written, the model between."""

    __slots__ = (
        "batch",
        "bytes",
        "direction",
        "frame_bytes",
        "line",
        "lots",
        "number",
        "packets",
        "pending",
        "refused",
        "round",
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
        """Raises LabError if a file that `impairment` names is gone or changed."""
        self.number = number
        """Orders ports in the heap that are due at the same time."""
        self.source, self.sink = ends
        self.frame_bytes = frame_bytes
        self.lots = lots
        now_ns = time.monotonic_ns()
        self.direction = Direction(impairment, lots, now_ns)
        self.pending: deque[tuple[int, bytes]] = deque()
        """Frames and when they are due, as long as a `Direction` is all it takes."""
        self.line: Line | None = None
        """The frames and the rest of the model, where it is not."""
        self.scheduled_ns = 0
        """The time of its entry in the heap, with a line; 0 for none."""
        if not straight(impairment):
            self.line = Line(self.direction, impairment, lots, now_ns)
        self.batch = 1
        self.round = 0
        """The last wakeup in which it was read."""
        self.packets = 0
        self.bytes = 0
        self.refused = 0

    def change(self, impairment: Impairment) -> None:
        """From the next packet on, be like `impairment`; LabError as in the beginning."""
        now_ns = time.monotonic_ns()
        if self.line is not None:
            self.line.change(impairment, now_ns)
            return
        self.direction.change(impairment, now_ns)
        if not straight(impairment):
            self.scheduled_ns = self.pending[0][0] if self.pending else 0
            self.line = Line(self.direction, impairment, self.lots, now_ns, self.pending)
            self.pending.clear()

    @property
    def waiting(self) -> int:
        """How many frames are on their way."""
        return len(self.pending) + (self.line.waiting if self.line else 0)

    def stats(self) -> DirectionStats:
        line = self.line
        return DirectionStats(
            packets=self.packets,
            bytes=self.bytes,
            lost=self.direction.lost,
            overflowed=self.direction.overflowed,
            early=line.early if line else 0,
            duplicated=line.duplicated if line else 0,
            corrupted=line.corrupted if line else 0,
            reordered=line.reordered if line else 0,
            refused=self.refused,
            waiting=self.waiting,
        )


class Carried:
    """A link that is carried."""

    __slots__ = ("a_to_b", "alive", "b_to_a", "link")

    def __init__(self, link: Link, a_to_b: Port, b_to_a: Port) -> None:
        self.link = link
        self.a_to_b = a_to_b
        self.b_to_a = b_to_a
        self.alive = True

    @property
    def empty(self) -> bool:
        """Whether nothing is on it; so it is when it is cut."""
        return not self.alive or not (self.a_to_b.waiting or self.b_to_a.waiting)

    def check_files(self, link: Link) -> None:
        """Raise LabError if a file that `link` reads besides those in use is gone or changed."""
        for new, old in ((link.a_to_b, self.link.a_to_b), (link.b_to_a, self.link.b_to_a)):
            for file in (new.trace, new.table):
                if file is not None and file not in (old.trace, old.table):
                    load(file)


class Engine:
    """Carries links until `stop` is called; all calls from one thread."""

    def __init__(self, seed: int, *, real_time: bool = False) -> None:
        self._seed = seed
        self._real_time = real_time
        self._epoll = select.epoll()
        self._timer = _Timer()
        self._epoll.register(self._timer.descriptor, select.EPOLLIN | select.EPOLLET)
        self._links: dict[str, Carried] = {}
        self._ports: dict[int, Port] = {}
        self._owners: dict[int, Carried] = {}
        self._watched: dict[int, Callable[[], None]] = {}
        self._due: list[tuple[int, int, Port]] = []
        self._draining: list[tuple[Carried, Callable[[], None]]] = []
        self._numbers = 0
        self._running = True
        self._late = [0] * 64
        """By the bit length of the lateness, in the histogram's finest unit."""
        self._late_total_ns = 0
        self._late_worst_ns = 0
        self._wakeups = 0

    # --- links ------------------------------------------------------------

    def attach(self, link: Link, end_a: int, end_b: int) -> None:
        """Carry `link` between the devices `end_a` and `end_b`, which are the engine's now.

        Raises LabError, and closes both, if a link of that name is carried, or
        a file that its impairments are read from is gone or has changed.
        """
        if link.name in self._links:
            os.close(end_a)
            os.close(end_b)
            raise LabError(f"link {link.name} is attached already", remedy="detach it first")
        frame_bytes = link.mtu + _FRAME_OVERHEAD
        try:
            forth, back = (
                Port(
                    self._numbers + i,
                    ends,
                    frame_bytes,
                    impairment,
                    partial(self._lots, link.name, way),
                )
                for i, (ends, impairment, way) in enumerate(
                    (
                        ((end_a, end_b), link.a_to_b, "a-to-b"),
                        ((end_b, end_a), link.b_to_a, "b-to-a"),
                    )
                )
            )
        except LabError:
            os.close(end_a)
            os.close(end_b)
            raise
        self._numbers += 2
        carried = self._links[link.name] = Carried(link, forth, back)
        for port in (forth, back):
            self._ports[port.source] = port
            self._owners[port.source] = carried
            self._epoll.register(port.source, select.EPOLLIN)

    def shape(self, link: Link) -> None:
        """From now on `link` has these impairments; frames on their way are not touched.

        Raises LabError if no link of that name is carried, or a file that
        they are read from is gone or has changed.
        """
        carried = self._carried(link.name)
        carried.check_files(link)
        for port, impairment in ((carried.a_to_b, link.a_to_b), (carried.b_to_a, link.b_to_a)):
            port.change(impairment)
            port.frame_bytes = max(port.frame_bytes, link.mtu + _FRAME_OVERHEAD)
            self._schedule(port)
        carried.link = link

    def drain(self, name: str, told: Callable[[], None]) -> None:
        """Call `told` once nothing is on a link, what its devices hold now included.

        Raises LabError, after that call, if no link of that name is carried.
        """
        try:
            carried = self._carried(name)
        except LabError:
            told()
            raise
        if carried.alive:
            for port in (carried.a_to_b, carried.b_to_a):
                held = select.poll()
                held.register(port.source, select.POLLIN)
                for _ in range(RING_PACKETS):
                    if not (carried.alive and held.poll(0)):
                        break
                    self._collect(port, time.monotonic_ns)
        self._draining.append((carried, told))
        self._tell_drained()

    def _tell_drained(self) -> None:
        drained = [told for carried, told in self._draining if carried.empty]
        self._draining = [each for each in self._draining if not each[0].empty]
        for told in drained:
            told()

    def detach(self, name: str) -> None:
        """Close the devices of a link; LabError if no link of that name is carried."""
        carried = self._carried(name)
        self._silence(carried)
        del self._links[name]

    def stats(self) -> FerryStats:
        return FerryStats(
            links=tuple(
                LinkStats(
                    name=name,
                    a_to_b=carried.a_to_b.stats(),
                    b_to_a=carried.b_to_a.stats(),
                    alive=carried.alive,
                )
                for name, carried in self._links.items()
            ),
            lateness=Lateness(
                counts=(*self._late[: BUCKETS - 1], sum(self._late[BUCKETS - 1 :])),
                total_ns=self._late_total_ns,
                worst_ns=self._late_worst_ns,
            ),
            cpu_s=time.process_time(),
            wakeups=self._wakeups,
            real_time=self._real_time,
        )

    def _lots(self, name: str, way: str, purpose: str) -> Random:
        """The random numbers of one direction for one purpose."""
        return stream(self._seed, "link", name, way, *(() if purpose == "loss" else (purpose,)))

    def _carried(self, name: str) -> Carried:
        try:
            return self._links[name]
        except KeyError:
            raise LabError(
                f"link {name} is not carried by the ferry", remedy="attach it first"
            ) from None

    def _silence(self, carried: Carried) -> None:
        """Take a link's devices away; what was on its way is dropped, as on a cut wire."""
        if not carried.alive:
            return
        carried.alive = False
        for port in (carried.a_to_b, carried.b_to_a):
            del self._ports[port.source], self._owners[port.source]
            port.pending.clear()
        gone = (carried.a_to_b, carried.b_to_a)
        self._due = [entry for entry in self._due if entry[2] not in gone]
        self._due.sort()
        for port in (carried.a_to_b, carried.b_to_a):
            self._epoll.unregister(port.source)
            os.close(port.source)
        self._tell_drained()

    # --- the loop ---------------------------------------------------------

    def watch(self, descriptor: int, on_readable: Callable[[], None]) -> None:
        """Call `on_readable` whenever `descriptor` can be read."""
        self._watched[descriptor] = on_readable
        self._epoll.register(descriptor, select.EPOLLIN)

    def stop(self) -> None:
        """Let `run` return after the present round."""
        self._running = False

    def run(self) -> None:
        """Carry until `stop`."""
        poll = self._epoll.poll
        clock = time.monotonic_ns
        ports = self._ports
        timer = self._timer
        while self._running:
            due = self._due
            if due and due[0][0] <= clock():
                self._deliver(clock)
            # Frames that came due meanwhile are found by the timer, which
            # fires at once if it is set to a time that has passed.
            if due:
                timer.set(due[0][0])
            called = []
            for descriptor, event in poll():
                port = ports.get(descriptor)
                if port is None:
                    if descriptor in self._watched:
                        called.append(self._watched[descriptor])
                elif event & ~select.EPOLLIN:
                    self._silence(self._owners[descriptor])
                else:
                    self._collect(port, clock)
                    due = self._due
                    if due and due[0][0] <= clock():
                        self._deliver(clock)
            # Last, so that no event of this round is taken for one of a link
            # that was attached in it and got the same descriptor.
            for on_readable in called:
                on_readable()
            self._wakeups += 1

    def _collect(self, port: Port, clock: Callable[[], int]) -> None:
        """Read a batch of frames from the port's device and give each its time."""
        if port.line is not None:
            self._collect_for(port.line, port, clock)
            return
        read = os.read
        source = port.source
        frame_bytes = port.frame_bytes
        offer = port.direction.offer
        pending = port.pending
        idle = not pending
        accept = pending.append
        try:
            for _ in range(port.batch):
                frame = read(source, frame_bytes)
                # One reading of the clock for each frame: with one for the
                # batch, later frames of it would seem to have come earlier.
                departure = offer(clock(), len(frame))
                if departure is not None:
                    accept((departure, frame))
        except BlockingIOError:
            port.batch = 1
        except OSError:
            # The namespace was deleted, and the device with it.
            self._silence(self._owners[source])
            return
        else:
            # Only a device that is ready round after round is likely to have
            # more; asking the others in vain costs as much as a frame.
            if port.round == self._wakeups - 1 and port.batch < _BATCH:
                port.batch *= 2
        port.round = self._wakeups
        if idle and pending:
            heappush(self._due, (pending[0][0], port.number, port))

    def _deliver(self, clock: Callable[[], int]) -> None:
        """Write every frame that is due."""
        write = os.write
        late = self._late
        due = self._due
        now = clock()
        while due and due[0][0] <= now:
            port = due[0][2]
            if port.line is not None:
                self._deliver_from(port.line, port, clock)
                continue
            pending = port.pending
            take = pending.popleft
            sink = port.sink
            packets = size = 0
            while pending and pending[0][0] <= now:
                departure, frame = take()
                try:
                    size += write(sink, frame)
                    packets += 1
                except OSError:
                    port.refused += 1
                late_ns = clock() - departure
                late[(late_ns >> FINEST_SHIFT).bit_length()] += 1
                self._late_total_ns += late_ns
                if late_ns > self._late_worst_ns:  # noqa: PLR1730 - a call costs more than it says
                    self._late_worst_ns = late_ns
            port.packets += packets
            port.bytes += size
            if pending:
                heapreplace(due, (pending[0][0], port.number, port))
            else:
                heappop(due)
        if self._draining:
            self._tell_drained()

    # --- links that need the whole model ------------------------------------

    def _collect_for(self, line: Line, port: Port, clock: Callable[[], int]) -> None:
        """Read a batch of frames from the port's device into its line."""
        read, source, size = os.read, port.source, port.frame_bytes
        try:
            for _ in range(_BATCH):
                frame = read(source, size)
                line.put(clock(), frame)
        except BlockingIOError:
            pass
        except OSError:
            self._silence(self._owners[source])
            return
        self._schedule(port)

    def _schedule(self, port: Port) -> None:
        """See to it that the port's line is looked at in time.

        An entry that it had for later stays in the heap, and finds nothing.
        """
        if port.line is None:
            return
        at_ns = port.line.next_ns()
        if at_ns is not None and (not port.scheduled_ns or at_ns < port.scheduled_ns):
            port.scheduled_ns = at_ns
            heappush(self._due, (at_ns, port.number, port))

    def _deliver_from(self, line: Line, port: Port, clock: Callable[[], int]) -> None:
        """Write what is due of the port at the head of the heap."""
        at_ns, _, _ = heappop(self._due)
        if at_ns != port.scheduled_ns:
            return
        port.scheduled_ns = 0
        for departure_ns, frame in line.take(clock()):
            try:
                port.bytes += os.write(port.sink, frame)
                port.packets += 1
            except OSError:
                port.refused += 1
            late_ns = clock() - departure_ns
            self._late[(late_ns >> FINEST_SHIFT).bit_length()] += 1
            self._late_total_ns += late_ns
            self._late_worst_ns = max(self._late_worst_ns, late_ns)
        self._schedule(port)


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


class _Timer:
    """A timerfd on the monotonic clock; wakes an edge-triggered epoll, never read."""

    __slots__ = ("_reference", "_set", "_set_ns", "_spec", "descriptor")

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor: int = libc.timerfd_create(time.CLOCK_MONOTONIC, _TFD_FLAGS)
        if self.descriptor < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        self._set = libc.timerfd_settime
        self._set.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
        self._spec = _TimerSpec()
        self._reference = ctypes.addressof(self._spec)
        self._set_ns = 0

    def set(self, at_ns: int) -> None:
        """Fire at `at_ns`."""
        if at_ns == self._set_ns:
            return
        self._set_ns = at_ns
        value = self._spec.value
        value.seconds, value.nanoseconds = divmod(at_ns, 1_000_000_000)
        self._set(self.descriptor, _TFD_TIMER_ABSTIME, self._reference, None)
