"""The links that the ferry carries: attached, changed, drained, detached, counted."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from functools import partial
from random import Random

from lab.errors import LabError
from lab.fabric.links.ferry.loop import Loop
from lab.fabric.links.ferry.port import Port
from lab.fabric.links.ferry.protocol import FerryStats, LinkStats
from lab.fabric.links.tap import RING_PACKETS
from lab.plan.model import Link
from lab.seeds import stream
from lab.topology.datafiles import load

_FRAME_OVERHEAD = 18
"""Ethernet header and a VLAN tag, on top of the MTU."""


class Carried:
    """A link that is carried."""

    __slots__ = ("alive", "link", "ports")

    def __init__(self, link: Link, ports: tuple[Port, Port]) -> None:
        self.link = link
        self.ports = ports
        """From a to b, and from b to a."""
        self.alive = True

    @property
    def empty(self) -> bool:
        """Whether nothing is on it; so it is when it is cut."""
        return not self.alive or not any(port.waiting for port in self.ports)

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
        self._loop = Loop(self._cut, real_time=real_time)
        self._links: dict[str, Carried] = {}
        self._owners: dict[Port, Carried] = {}
        self._draining: list[tuple[Carried, Callable[[], None]]] = []
        self._numbers = 0
        self.watch = self._loop.watch
        self.stop = self._loop.stop
        self.run = self._loop.run

    def attach(self, link: Link, end_a: int, end_b: int) -> None:
        """Carry `link` between the devices `end_a` and `end_b`, which are the engine's now.

        Raises LabError, and closes both, if a link of that name is carried, or
        a file that its impairments are read from is gone or has changed.
        """
        try:
            if link.name in self._links:
                raise LabError(f"link {link.name} is attached already", remedy="detach it first")
            forth = self._port(link, "a-to-b", (end_a, end_b))
            back = self._port(link, "b-to-a", (end_b, end_a))
        except LabError:
            os.close(end_a)
            os.close(end_b)
            raise
        carried = self._links[link.name] = Carried(link, (forth, back))
        for port in carried.ports:
            self._owners[port] = carried
            self._loop.add(port)

    def shape(self, link: Link) -> None:
        """From now on `link` has these impairments; frames on their way are not touched.

        On their way are those that its devices hold, too: they were sent before.
        Raises LabError if no link of that name is carried, or a file that
        they are read from is gone or has changed.
        """
        carried = self._carried(link.name)
        carried.check_files(link)
        self._take_in(carried)
        for port, impairment in zip(carried.ports, (link.a_to_b, link.b_to_a), strict=True):
            port.change(impairment)
            port.frame_bytes = max(port.frame_bytes, link.mtu + _FRAME_OVERHEAD)
            if carried.alive:
                self._loop.schedule(port)
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
        self._take_in(carried)
        self._draining.append((carried, told))
        self._tell_drained()

    def detach(self, name: str) -> None:
        """Close the devices of a link; LabError if no link of that name is carried."""
        self._silence(self._carried(name))
        del self._links[name]

    def stats(self) -> FerryStats:
        """What was carried since the beginning."""
        return FerryStats(
            links=tuple(
                LinkStats(
                    name=name,
                    a_to_b=carried.ports[0].stats(),
                    b_to_a=carried.ports[1].stats(),
                    alive=carried.alive,
                )
                for name, carried in self._links.items()
            ),
            lateness=self._loop.tally.lateness(),
            cpu_s=time.process_time(),
            wakeups=self._loop.wakeups,
            real_time=self._real_time,
        )

    def _port(self, link: Link, way: str, ends: tuple[int, int]) -> Port:
        self._numbers += 1
        impairment = link.a_to_b if way == "a-to-b" else link.b_to_a
        lots = partial(self._lots, link.name, way)
        return Port(self._numbers, ends, link.mtu + _FRAME_OVERHEAD, impairment, lots)

    def _lots(self, name: str, way: str, purpose: str) -> Random:
        """The random numbers of one direction for one purpose."""
        return stream(self._seed, "link", name, way, *(() if purpose == "loss" else (purpose,)))

    def _take_in(self, carried: Carried) -> None:
        """Read what the devices of a link hold."""
        for port in carried.ports:
            held = select.poll()
            if carried.alive:
                held.register(port.source, select.POLLIN)
            for _ in range(RING_PACKETS):
                if not (carried.alive and held.poll(0)):
                    break
                self._loop.collect(port)

    def _carried(self, name: str) -> Carried:
        try:
            return self._links[name]
        except KeyError:
            raise LabError(
                f"link {name} is not carried by the ferry", remedy="attach it first"
            ) from None

    def _tell_drained(self) -> None:
        drained = [told for carried, told in self._draining if carried.empty]
        self._draining = [each for each in self._draining if not each[0].empty]
        self._loop.on_delivered = self._tell_drained if self._draining else None
        for told in drained:
            told()

    def _cut(self, port: Port) -> None:
        self._silence(self._owners[port])

    def _silence(self, carried: Carried) -> None:
        """Take a link's devices away; what was on its way is dropped, as on a cut wire."""
        if not carried.alive:
            return
        carried.alive = False
        self._loop.remove(*carried.ports)
        for port in carried.ports:
            del self._owners[port]
            port.clear()
            os.close(port.source)
        self._tell_drained()
