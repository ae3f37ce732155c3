"""What carries the links of a lab: pairs of veths, the kernel's disciplines on them, the ferry.

A link stays on the wire that it was made with, a pair of veths or two TAPs,
however it is changed (`Link.on_veth`): addresses, routes and bridges depend on
the interfaces, and packets are on their way.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from threading import Lock

from msgspec.structs import replace

from lab.errors import LabError
from lab.fabric import messages, netns
from lab.fabric.links.ferry import Ferry
from lab.fabric.netlink import Refusal, Request, Session
from lab.fabric.splice import Splices
from lab.paths import LabPaths
from lab.plan.model import End, Link
from lab.seeds import derive
from lab.topology.character import Backend, Impairment

_NONE = Impairment()
_LOOK_EACH_S = 0.002
_ETHERNET_BYTES = 14
_JITTERS = 4
"""How far a packet may stray, in jitters: a table of netem's ends there (2^15 / 2^13)."""
_LONGEST_WAIT_US = 5_000_000
"""A change is not to take longer for what waits before a very slow link."""


class Carriers:
    """The wires of one lab; every method may be called from any thread."""

    def __init__(self, paths: LabPaths, ferry: Ferry | None, seed: int) -> None:
        """`ferry` is for user-space links, if there are any; `seed` is the lab's."""
        self.ferry = ferry
        self._paths = paths
        self._seed = seed
        self._splices = Splices(paths.netns)
        self._disciplined: dict[str, Link] = {}
        """Links before whose wire the kernel has a queue, or has had one: as they were last."""
        self._lock = Lock()

    def make_pairs(self, home: str, links: Sequence[Link]) -> list[Refusal | None]:
        """Make the veths of `links`, which have an end in `home`, from there; what was refused."""
        requests: list[Request] = []
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._inside(home))
            session = stack.enter_context(Session())
            for link in links:
                here, there = (link.a, link.b) if link.a.node == home else (link.b, link.a)
                file = netns.open_file(self._paths.netns(there.node))
                stack.callback(os.close, file)
                requests += [
                    messages.veth(_device(here, link), _device(there, link), file),
                    messages.up(here.interface),
                ]
            answers = session.ask(requests)
        return [made or raised for made, raised in zip(answers[::2], answers[1::2], strict=True)]

    def make_taps(self, link: Link) -> None:
        """Make the two ends of a link that only the ferry carries, and have it carried."""
        from lab.fabric.links import tap  # noqa: PLC0415 - only where a link is ferried

        ferry = self._the_ferry(link)
        with contextlib.ExitStack() as stack:
            files = []
            for end in (link.a, link.b):
                with self._inside(end.node):
                    file = tap.create(end.interface, end.mac, link.mtu)
                stack.callback(os.close, file)
                files.append(file)
            stack.pop_all()  # The ferry closes them, whatever happens.
        ferry.attach(_carried(link), *files)

    def shape(self, link: Link) -> None:
        """Give the wire of `link` its character and its MTU; LabError if that is refused."""
        ferried, spliced = link.backend is Backend.FERRY, self._splices.holds(link)
        if ferried and link.on_veth and not spliced:
            # First: frames that are longer than the ferry expects would be cut off.
            self._resize(link)
            self._splice(link)
            self._end_cut(link)
            return
        if ferried:
            self._the_ferry(link).shape(_carried(link))
        elif spliced and link.down:
            self._discipline(link)
            self._splices.remove(_carried(link), self._the_ferry(link))
        elif spliced:
            self._splices.remove(replace(link, a_to_b=_NONE, b_to_a=_NONE), self._the_ferry(link))
            self._discipline(link)
        else:
            self._discipline(link)
        self._resize(link)

    def _splice(self, link: Link) -> None:
        """Put the ferry into the wire of `link`, behind what waits in a queue of the kernel's."""
        carried, ferry = _carried(link), self._the_ferry(link)
        with self._lock:
            before = self._disciplined.get(link.name)
        wait_us = self._drained_within_us(before) if before is not None else 0
        slow = Impairment(delay_us=wait_us)
        first = replace(carried, a_to_b=slow, b_to_a=slow) if wait_us else carried
        self._splices.insert(first, ferry, queued=before is not None)
        if before is not None and wait_us:
            deadline = time.monotonic() + wait_us / 1e6
            # What comes until then leaves after it; what comes later waits for that.
            while self._waiting(before) and time.monotonic() < deadline:
                time.sleep(_LOOK_EACH_S)
            ferry.shape(carried)

    def _drained_within_us(self, link: Link) -> int:
        """How long the kernel needs for what waits before the wire of `link`; bounded."""
        if not (waiting := self._waiting(link)):
            return 0
        frame_bit = 8 * (link.mtu + _ETHERNET_BYTES)
        longest = max(
            way.delay_us
            + _JITTERS * way.jitter_us
            + (waiting * frame_bit * 1_000_000 // way.rate_bit if way.rate_bit else 0)
            for way in (link.a_to_b, link.b_to_a)
        )
        return min(longest, _LONGEST_WAIT_US)

    def _waiting(self, link: Link) -> int:
        """Packets in the fuller one of the two queues of the kernel's."""
        from lab.fabric.links import kernel  # noqa: PLC0415 - only where a link is shaped

        found = []
        for end in (link.a, link.b):
            with self._inside(end.node):
                found.append(kernel.waiting(end.interface))
        return max(found)

    def _resize(self, link: Link) -> None:
        """Give both ends of `link` its MTU."""
        for end in (link.a, link.b):
            with self._inside(end.node), Session() as session:
                session.demand([messages.resize(end.interface, link.mtu)], end.node)

    def delete(self, link: Link) -> None:
        """Remove the wire of `link` and what is on it; gone already is fine."""
        with self._lock:
            self._disciplined.pop(link.name, None)
        if link.on_veth:
            self._delete_pair(link)
        if link.backend is Backend.FERRY:
            self._splices.forget(link)
            self._the_ferry(link).detach(link.name)

    def _delete_pair(self, link: Link) -> None:
        for end in (link.a, link.b):
            if self._paths.netns(end.node).exists():
                with self._inside(end.node), Session() as session:
                    session.demand([messages.delete_link(end.interface)], end.node)
                return

    def _discipline(self, link: Link) -> None:
        """Have the kernel shape, cut or leave alone a pair of veths."""
        from lab.fabric.links import kernel  # noqa: PLC0415 - ctypes: only where a link is shaped

        if link.backend is Backend.KERNEL:
            with self._lock:
                self._disciplined[link.name] = link
        for end, impairment, way in (
            (link.a, link.a_to_b, "a-to-b"),
            (link.b, link.b_to_a, "b-to-a"),
        ):
            with self._inside(end.node):
                if link.down:
                    kernel.cut(end.interface)
                else:
                    kernel.join(end.interface)
                    seed = derive(self._seed, "link", link.name, way)
                    kernel.shape(end.interface, impairment, seed)

    def _end_cut(self, link: Link) -> None:
        """Let the kernel pass what the ferry has to lose from now on, if the wire was cut."""
        from lab.fabric.links import kernel  # noqa: PLC0415 - ctypes: only where a link is shaped

        for end in (link.a, link.b):
            with self._inside(end.node):
                kernel.join(end.interface)

    def _the_ferry(self, link: Link) -> Ferry:
        if self.ferry is None:
            raise LabError(f"link {link.name} needs the user-space ferry, which is not running")
        return self.ferry

    def _inside(self, node: str) -> contextlib.AbstractContextManager[None]:
        return netns.inside(self._paths.netns(node))


def _carried(link: Link) -> Link:
    """`link` as the ferry is to carry it: one that is cut loses all that enters it."""
    if not link.down:
        return link
    nothing = Impairment(loss=1.0)
    return replace(link, a_to_b=nothing, b_to_a=nothing)


def _device(end: End, link: Link) -> messages.Device:
    return messages.Device(end.interface, end.mac, link.mtu)
