"""Giving a wire that carries packets to the ferry, and taking it back, without losing one.

The pair of veths stays as it is, with its addresses, routes and neighbours:
the ferry is spliced in.  At each end there is a TAP besides, and

    what the veth is to send  -> the TAP sends it: to the ferry
    what the ferry gives it   -> the TAP receives it -> as if the veth had

A BPF program begins and ends between two packets, so each goes by the wire or
by the ferry, and never by both or none.

A diverted packet is not seen by those who look at what the veth sends
(tcpdump, `lab explain`).  So the veth then sends it as well, and at the other
one an XDP program drops what comes by the wire before anybody sees it.  Where
a driver runs no such program, and where packets may wait in a queue of the
kernel's before the wire, it stays at diverting.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock

from lab.errors import LabError
from lab.fabric import netns, sysctls
from lab.fabric.links import bpf, tap
from lab.fabric.links.bpf import Hook
from lab.fabric.links.ferry.client import Ferry
from lab.fabric.netlink import index_of
from lab.plan.model import End, Link
from lab.plan.names import SPLICED


class Splices:
    """The spliced wires of one lab; every method may be called from any thread."""

    def __init__(self, space: Callable[[str], Path]) -> None:
        """`space` tells the namespace of a node."""
        self._space = space
        self._spliced: dict[str, tuple[_Half, _Half]] = {}
        self._lock = Lock()

    def holds(self, link: Link) -> bool:
        """Whether that link is spliced."""
        with self._lock:
            return link.name in self._spliced

    def insert(self, link: Link, ferry: Ferry, *, queued: bool = False) -> None:
        """Let `ferry` carry `link`, whose wire is a pair of veths, from here on.

        `queued` says that packets may wait in a queue of the kernel's before
        the wire; they still go by it.  Raises LabError, with everything as it
        was, if the kernel refuses.
        """
        ends = (link.a, link.b)
        halves = _Half(), _Half()
        with contextlib.ExitStack() as undo:
            with contextlib.ExitStack() as taps:
                files = []
                for end, half in zip(ends, halves, strict=True):
                    undo.callback(half.close)
                    with self._at(end):
                        files.append(half.prepare(end, link.mtu))
                    taps.callback(os.close, files[-1])
                taps.pop_all()  # The ferry closes them, whatever happens.
            ferry.attach(link, *files)
            undo.callback(ferry.detach, link.name)
            for end, half in zip(ends, halves, strict=True):
                undo.callback(half.end_diverting)
                with self._at(end):
                    half.divert()
            if not queued:
                self._show(ends, halves)
            undo.pop_all()
        with self._lock:
            self._spliced[link.name] = halves

    def remove(self, link: Link, ferry: Ferry) -> None:
        """Let the wire of `link` carry by itself again, once the ferry has delivered what it has.

        Until then the ferry does what `link` says, and that is little: what is
        sent from here on waits for what was sent before.  Raises LabError if
        the kernel refuses, or the ferry is gone.
        """
        ferry.shape(link)
        ferry.drain(link.name)
        with self._lock:
            halves = self._spliced.pop(link.name)
        for half in halves:
            half.hide()
        # What was sent twice is dropped at the other end before that ends.
        bpf.settle()
        for half in halves:
            half.pass_wire()
        for half in halves:
            half.end_diverting()
        # A packet that was at the program before it went may reach the ferry yet.
        bpf.settle()
        ferry.drain(link.name)
        ferry.detach(link.name)
        for half in halves:
            half.close()

    def forget(self, link: Link) -> None:
        """Note that the wire of `link` is gone."""
        with self._lock:
            halves = self._spliced.pop(link.name, ())
        for half in halves:
            half.close()

    def _show(self, ends: tuple[End, End], halves: tuple[_Half, _Half]) -> None:
        """Let the veths send what is diverted, too, and drop it at the other one; if possible."""
        try:
            # What was past the program before it came is not to be dropped at the other end.
            bpf.settle()
            for end, half in zip(ends, halves, strict=True):
                with self._at(end):
                    half.drop_wire()
        except LabError:
            for half in halves:
                half.pass_wire()
            return
        for half in halves:
            half.show()

    @contextlib.contextmanager
    def _at(self, end: End) -> Iterator[None]:
        with netns.inside(self._space(end.node)):
            yield


class _Half:
    """What is at one end: descriptors of what is attached there."""

    def __init__(self) -> None:
        self._veth = self._tap = 0
        self._receives = self._sends = self._driver = -1

    def prepare(self, end: End, mtu: int) -> int:
        """Make the TAP; its descriptor.  In the namespace of `end`, as the next two."""
        self._veth = index_of(end.interface, end.node)
        name = f"{SPLICED}{self._veth}"
        # It has the veth's address, so that what is for the one is for the other.
        file = tap.create(name, end.mac, mtu)
        try:
            sysctls.apply(((f"ipv6/conf/{name}/disable_ipv6", "1"),), end.node)
            self._tap = index_of(name, end.node)
            program = bpf.receiving_by(self._veth)
            self._receives = bpf.attach(program, self._tap, Hook.RECEIVES)
        except BaseException:
            os.close(file)
            raise
        return file

    def divert(self) -> None:
        """Send by the TAP what the veth is to send."""
        self._sends = bpf.attach(bpf.sending_by(self._tap), self._veth, Hook.SENDS)

    def drop_wire(self) -> None:
        """Drop what comes by the wire."""
        self._driver = bpf.attach(bpf.dropping(), self._veth, Hook.DRIVER)

    def show(self) -> None:
        """Have the veth send what the TAP sends."""
        bpf.exchange(self._sends, bpf.sending_by_both(self._tap))

    def hide(self) -> None:
        """The reverse of `show`; fine without it."""
        bpf.exchange(self._sends, bpf.sending_by(self._tap))

    def pass_wire(self) -> None:
        """The reverse of `drop_wire`; fine without it."""
        self._driver = _closed(self._driver)

    def end_diverting(self) -> None:
        """The reverse of `divert`; fine without it."""
        self._sends = _closed(self._sends)

    def close(self) -> None:
        """Attach nothing any more."""
        self.end_diverting()
        self.pass_wire()
        self._receives = _closed(self._receives)


def _closed(descriptor: int) -> int:
    if descriptor >= 0:
        os.close(descriptor)
    return -1
