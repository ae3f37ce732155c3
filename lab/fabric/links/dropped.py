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
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

from lab.errors import LabError
from lab.fabric import netns
from lab.fabric.links.qdisc import attribute
from lab.fabric.netlink import attributes

_TUNGETIFF = 0x800454D2
_TUNGETDEVNETNS = 0x54E3
_RTM_NEWLINK = 16
_RTM_GETLINK = 18
_RTM_NEWNSID = 88
_RTM_GETNSID = 90
_NLM_F_REQUEST = 0x1
_NLM_F_ACK = 0x4
_NETNSA_NSID = 1
_NETNSA_FD = 3
_IFLA_IFNAME = 3
_IFLA_STATS64 = 23
_IFLA_TARGET_NETNSID = 46
_HEADER = struct.Struct("=IHHII")
_IFINFO = struct.Struct("=BxHiII")
_RTGEN_BYTES = 4
_TX_DROPPED = 7 * 8
"""Where it stands in struct rtnl_link_stats64."""

_AT_ONCE = 16
"""Questions in one buffer: the answers (some 2 KiB each) fit into the socket's."""

_UNKNOWN = -1


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
        self._socket: socket.socket | None = None
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
            if self._socket is not None:
                self._socket.close()
                self._socket = None
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
            body = _in_namespace(number, 0) + attribute(_IFLA_IFNAME, name.rstrip(b"\0") + b"\0")
            (answer,) = self._ask([(_RTM_GETLINK, 0, body)])
        except (OSError, LabError):
            return None
        finally:
            os.close(namespace)
        if answer is None:
            return None
        return _Device(number, _IFINFO.unpack_from(answer)[2], _dropped(answer) or 0)

    def _number(self, namespace: int) -> int:
        """The number of an open namespace file here; given to it if it has none."""
        file = bytes(_RTGEN_BYTES) + attribute(_NETNSA_FD, struct.pack("=i", namespace))
        any_number = attribute(_NETNSA_NSID, struct.pack("=i", _UNKNOWN))
        answers = self._ask(
            [(_RTM_NEWNSID, _NLM_F_ACK, file + any_number), (_RTM_GETNSID, 0, file)]
        )
        told = dict(attributes((answers[1] or b"")[_RTGEN_BYTES:]))
        return struct.unpack("=i", told[_NETNSA_NSID])[0] if _NETNSA_NSID in told else _UNKNOWN

    def _read(self, devices: Sequence[_Device]) -> None:
        """Bring `devices` up to date; one that is gone keeps what it had."""
        for start in range(0, len(devices), _AT_ONCE):
            part = devices[start : start + _AT_ONCE]
            questions = [
                (_RTM_GETLINK, 0, _in_namespace(device.namespace, device.index)) for device in part
            ]
            try:
                answers = self._ask(questions)
            except OSError:
                return
            for device, answer in zip(part, answers, strict=True):
                now = _dropped(answer) if answer is not None else None
                # A number that was freed may stand for another namespace by now.
                device.dropped = max(device.dropped, now or 0)

    def _ask(self, questions: Sequence[tuple[int, int, bytes]]) -> list[bytes | None]:
        """The body of each answer; None for a refusal or a mere acknowledgement."""
        if self._socket is None:
            with netns.scratch():
                self._socket = socket.socket(
                    socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
                )
        self._socket.send(
            b"".join(
                _HEADER.pack(_HEADER.size + len(body), kind, _NLM_F_REQUEST | flags, i, 0) + body
                for i, (kind, flags, body) in enumerate(questions)
            )
        )
        answers: list[bytes | None] = [None] * len(questions)
        missing = len(questions)
        while missing:
            data = self._socket.recv(1 << 16)
            at = 0
            while at + _HEADER.size <= len(data):
                length, kind, _, number, _ = _HEADER.unpack_from(data, at)
                if kind in (_RTM_NEWLINK, _RTM_NEWNSID):
                    answers[number] = data[at + _HEADER.size : at + length]
                missing -= 1
                at += (length + 3) & ~3
        return answers


def _in_namespace(number: int, index: int) -> bytes:
    target = attribute(_IFLA_TARGET_NETNSID, struct.pack("=i", number))
    return _IFINFO.pack(0, 0, index, 0, 0) + target


def _dropped(answer: bytes) -> int | None:
    for kind, value in attributes(answer[_IFINFO.size :]):
        if kind == _IFLA_STATS64:
            return int(struct.unpack_from("=Q", value, _TX_DROPPED)[0])
    return None
