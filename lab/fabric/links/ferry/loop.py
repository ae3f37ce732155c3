"""The ferry's event loop: who is read, who is written, and when.

Theory of operation.  Each port keeps its frames in order of their time, and a
heap holds the ports by the time of their first frame.  The loop sleeps in
epoll until a device has a frame or the timer fires.  Frames are read in
batches that grow while a device has more, and due frames are written between
batches, so that a flood on one link does not hold up the others.

A program of real-time priority that never rested would be stopped by the kernel
for 50 ms of every second, so that others have their turn, and every frame
with it.  So the loop rests by itself, a little longer, in pieces that no frame
minds.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from heapq import heapify, heappop, heappush, heapreplace

from lab.fabric.links.ferry.port import Port
from lab.fabric.links.ferry.tally import Tally
from lab.fabric.links.ferry.timer import Timer

_SPELL_NS = 2_000_000
_REST_NS = 150_000
"""Of each spell so much at least is rest: 7 %, and the kernel would take 5 in one piece
(sched_rt_runtime_us, the fair server)."""
_ASLEEP_NS = 10_000
"""A call takes less that found something to do."""


class Loop:
    """Carries between ports until `stop` is called; all calls from one thread."""

    def __init__(self, on_gone: Callable[[Port], None], *, real_time: bool) -> None:
        """`on_gone` is told of a port whose device is gone, and removes it.

        `real_time` says that the process has such priority.
        """
        self._real_time = real_time
        self._on_gone = on_gone
        self._epoll = select.epoll()
        self._timer = Timer()
        self._epoll.register(self._timer.descriptor, select.EPOLLIN | select.EPOLLET)
        self._ports: dict[int, Port] = {}
        self._watched: dict[int, Callable[[], None]] = {}
        self._due: list[tuple[int, int, Port]] = []
        """A heap.  An entry whose time is not the port's own any more finds nothing."""
        self._running = True
        self.tally = Tally()
        self.wakeups = 0
        self.on_delivered: Callable[[], None] | None = None
        """Called after every delivery, while somebody waits for one."""

    def add(self, port: Port) -> None:
        """Read `port` from here on."""
        self._ports[port.source] = port
        self._epoll.register(port.source, select.EPOLLIN)

    def remove(self, *ports: Port) -> None:
        """Forget `ports`, whose descriptors are still open."""
        for port in ports:
            del self._ports[port.source]
            self._epoll.unregister(port.source)
        self._due[:] = [entry for entry in self._due if entry[2] not in ports]
        heapify(self._due)

    def watch(self, descriptor: int, on_readable: Callable[[], None]) -> None:
        """Call `on_readable` whenever `descriptor` can be read."""
        self._watched[descriptor] = on_readable
        self._epoll.register(descriptor, select.EPOLLIN)

    def schedule(self, port: Port) -> None:
        """See to it that `port` is looked at in time."""
        at_ns = port.next_ns()
        if at_ns is not None and (not port.scheduled_ns or at_ns < port.scheduled_ns):
            port.scheduled_ns = at_ns
            heappush(self._due, (at_ns, port.number, port))

    def collect(self, port: Port) -> None:
        """Read a batch of frames from the device of `port`."""
        try:
            port.collect(time.monotonic_ns, self.wakeups)
        except OSError:
            # The namespace was deleted, and the device with it.
            self._on_gone(port)
        else:
            if not (port.scheduled_ns and port.in_order):
                self.schedule(port)

    def stop(self) -> None:
        """Let `run` return after the present round."""
        self._running = False

    def run(self) -> None:
        """Carry until `stop`."""
        clock = time.monotonic_ns
        ports, due, timer = self._ports, self._due, self._timer
        spell_ns, rested_ns = clock(), 0
        while self._running:
            if due and due[0][0] <= clock():
                self._deliver()
            # Frames that came due meanwhile are found by the timer, which
            # fires at once if it is set to a time that has passed.
            if due:
                timer.set(due[0][0])
            asleep_ns = clock()
            events = self._epoll.poll()
            now_ns = clock()
            if now_ns - asleep_ns > _ASLEEP_NS:
                rested_ns += now_ns - asleep_ns
            if now_ns - spell_ns > _SPELL_NS:
                if rested_ns < _REST_NS and self._real_time:
                    time.sleep((_REST_NS - rested_ns) / 1e9)
                spell_ns, rested_ns = clock(), 0
            called = []
            for descriptor, event in events:
                port = ports.get(descriptor)
                if port is None:
                    if descriptor in self._watched:
                        called.append(self._watched[descriptor])
                elif event & ~select.EPOLLIN:
                    self._on_gone(port)
                else:
                    self.collect(port)
                    if due and due[0][0] <= clock():
                        self._deliver()
            # Last, so that no event of this round is taken for one of a link
            # that was attached in it and got the same descriptor.
            for on_readable in called:
                on_readable()
            self.wakeups += 1

    def _deliver(self) -> None:
        """Write every frame that is due."""
        due, tally = self._due, self.tally
        clock = time.monotonic_ns
        now_ns = clock()
        while due and due[0][0] <= now_ns:
            at_ns, number, port = due[0]
            if at_ns != port.scheduled_ns:
                heappop(due)
                continue
            next_ns = port.deliver(now_ns, clock, tally)
            if next_ns is None:
                port.scheduled_ns = 0
                heappop(due)
            else:
                port.scheduled_ns = next_ns
                heapreplace(due, (next_ns, number, port))
        if self.on_delivered is not None:
            self.on_delivered()
