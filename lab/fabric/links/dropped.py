"""What the kernel dropped at TAP devices because nobody fetched it in time.

A TAP keeps a few thousand frames for its reader (`tap.RING_PACKETS`) and
drops what comes on top.  No link asks for that: the ferry could not keep up.
Only the kernel counts it (`tx_dropped`), and the devices are in the
namespaces of nodes.

Looking enters no namespace: a socket in a namespace of its own, without a
name, knows each of the others by a number (RTM_NEWNSID) and asks there
(IFLA_TARGET_NETNSID, Linux 4.16).  Unlike an open file, a number does not
keep a namespace alive.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

from lab.errors import LabError
from lab.fabric import netns
from lab.fabric.messages import RTM_GETLINK, about_interface, ifinfo
from lab.fabric.netlink import (
    NLM_F_ACK,
    NLM_F_REQUEST,
    Answer,
    Request,
    Session,
    attribute,
    attributes,
)

_TUNGETIFF = 0x800454D2
_TUNGETDEVNETNS = 0x54E3
_RTM_NEWNSID = 88
_RTM_GETNSID = 90
_NETNSA_NSID = 1
_NETNSA_FD = 3
_IFLA_IFNAME = 3
_IFLA_STATS64 = 23
_IFLA_TARGET_NETNSID = 46
_RTGEN_BYTES = 4
_TX_DROPPED = 7 * 8
"""Where it stands in struct rtnl_link_stats64."""

_UNKNOWN = -1
_ORDER = NLM_F_REQUEST | NLM_F_ACK


@dataclass(slots=True)
class _Device:
    namespace: int
    """Its number in the namespace of the socket."""
    index: int
    dropped: int


class TapDrops:
    """Counts for the devices that it was told of; every method may be called from any thread.

    Where a kernel can't tell (no TUNGETDEVNETNS: before Linux 5.2), nothing is counted.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._kernel: Session | None = None
        self._links: dict[str, list[_Device]] = {}
        self._gone = 0
        """What devices had dropped that are no longer watched."""

    def watch(self, link: str, descriptors: Sequence[int]) -> None:
        """Count the TAPs open at `descriptors` from here on, as those of `link`."""
        with self._lock:
            found = [device for file in descriptors if (device := self._identified(file))]
            if found:
                self._links.setdefault(link, []).extend(found)

    def forget(self, link: str) -> None:
        """The TAPs of `link` are about to go; what they dropped stays counted."""
        with self._lock:
            devices = self._links.pop(link, [])
            self._read(devices)
            self._gone += sum(device.dropped for device in devices)

    def total(self) -> int:
        """How many frames all of them dropped since they were made."""
        with self._lock:
            devices = [device for devices in self._links.values() for device in devices]
            self._read(devices)
            return self._gone + sum(device.dropped for device in devices)

    def close(self) -> None:
        """Close the socket."""
        with self._lock:
            if self._kernel is not None:
                self._kernel.close()
                self._kernel = None
            self._links.clear()

    def _identified(self, descriptor: int) -> _Device | None:
        """The device behind `descriptor`, with what it has dropped so far."""
        try:
            name, _ = struct.unpack("16sH22x", fcntl.ioctl(descriptor, _TUNGETIFF, bytes(40)))
            namespace = fcntl.ioctl(descriptor, _TUNGETDEVNETNS)
        except OSError:
            return None
        try:
            number = self._number(namespace)
            if number == _UNKNOWN:
                return None
            (answer,) = self._ask([_in_namespace(number, name=name.rstrip(b"\0"))])
        except (OSError, LabError):
            return None
        finally:
            os.close(namespace)
        if not answer.bodies:
            return None
        index, _ = about_interface(answer.bodies[0])
        return _Device(number, index, _dropped(answer))

    def _number(self, namespace: int) -> int:
        """The number of an open namespace file here; given to it if it has none."""
        file = bytes(_RTGEN_BYTES) + attribute(_NETNSA_FD, struct.pack("=i", namespace))
        any_number = attribute(_NETNSA_NSID, struct.pack("=i", _UNKNOWN))
        _, found = self._ask(
            [
                Request(_RTM_NEWNSID, _ORDER, file + any_number, "numbering a namespace"),
                Request(_RTM_GETNSID, NLM_F_REQUEST, file, "asking for a namespace's number"),
            ]
        )
        told = dict(attributes(b"".join(found.bodies)[_RTGEN_BYTES:]))
        return struct.unpack("=i", told[_NETNSA_NSID])[0] if _NETNSA_NSID in told else _UNKNOWN

    def _read(self, devices: Sequence[_Device]) -> None:
        """Bring `devices` up to date; one that is gone keeps what it had."""
        try:
            answers = self._ask([_in_namespace(one.namespace, one.index) for one in devices])
        except (OSError, LabError):
            return
        for device, answer in zip(devices, answers, strict=True):
            # A number that was freed may stand for another namespace by now.
            device.dropped = max(device.dropped, _dropped(answer))

    def _ask(self, questions: Sequence[Request]) -> list[Answer]:
        if self._kernel is None:
            with netns.scratch():
                self._kernel = Session()
        return self._kernel.read(questions)


def _in_namespace(number: int, index: int = 0, name: bytes = b"") -> Request:
    """Asks for a device by its index or its name."""
    body = ifinfo(index) + attribute(_IFLA_TARGET_NETNSID, struct.pack("=i", number))
    if name:
        body += attribute(_IFLA_IFNAME, name + b"\0")
    return Request(RTM_GETLINK, NLM_F_REQUEST, body, "asking what was dropped")


def _dropped(answer: Answer) -> int:
    """What the device of an answer has dropped; 0 if there is none."""
    for body in answer.bodies:
        _, told = about_interface(body)
        if statistics := told.get(_IFLA_STATS64):
            return int(struct.unpack_from("=Q", statistics, _TX_DROPPED)[0])
    return 0
