"""Requests about the queueing disciplines of one interface, each answered before the next.

The messages (linux/rtnetlink.h) are sent on a socket of the calling thread's
namespace.  What stands where is `lab.fabric.links.kernel`'s.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from lab.errors import LabError, MissingError
from lab.fabric.messages import RTM_NEWLINK, ifinfo
from lab.fabric.netlink import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_REPLACE,
    NLM_F_REQUEST,
    Request,
    Session,
    attribute,
    attributes,
)

ROOT = 0xFFFFFFFF

_RTM_NEWQDISC = 36
_RTM_DELQDISC = 37
_RTM_GETQDISC = 38
_NLM_F_ECHO = 0x8
_TCMSG = struct.Struct("=BxxxiIII")

_TCA_KIND = 1
_TCA_OPTIONS = 2
_TCA_STATS2 = 7
_TCA_STATS_QUEUE = 3
_IFLA_GSO_MAX_SEGS = 40
_NETEM_OPTIONS = 24
"""Bytes of struct tc_netem_qopt, before its attributes."""

_ABSENT = (errno.ENOENT, errno.EINVAL, errno.EEXIST)
"""What the kernel says to a change of a discipline that is not there, or not the one meant."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A discipline that is there."""

    kind: str
    waiting: int
    """Packets in it and in those below it."""
    options: bytes

    def has(self, option: int) -> bool:
        """Whether the kernel names `option` among those of this netem."""
        return option in dict(attributes(self.options[_NETEM_OPTIONS:]))


class Disciplines:
    """Those of `interface`, in the calling thread's namespace; a context manager."""

    def __init__(self, interface: str) -> None:
        self._interface = interface
        self._kernel: Session

    def __enter__(self) -> Self:
        try:
            self._index = socket.if_nametoindex(self._interface)
        except OSError as error:
            raise LabError(
                f"there is no interface {self._interface} to shape",
                remedy="something removed it; take the lab down and up again",
            ) from error
        self._kernel = Session()
        return self

    def __exit__(self, *_: object) -> None:
        self._kernel.close()

    def put(self, parent: int, handle: int, kind: str, options: bytes = b"") -> None:
        """Make the discipline `handle` below `parent`, or change it in place.

        Raises MissingError if this kernel has no such kind, LabError if it refuses.
        """
        with self._explained(kind):
            self._qdisc(NLM_F_CREATE | NLM_F_REPLACE, parent, handle, kind, options)

    def change(self, parent: int, handle: int, kind: str, options: bytes) -> None:
        """Change the discipline `handle` below `parent`; fine if it is not there.

        Raises as `put` does.
        """
        with self._explained(kind):
            self._qdisc(0, parent, handle, kind, options, _ABSENT)

    def remove(self, parent: int, handle: int) -> None:
        """Remove the discipline `handle` below `parent`, with what is in it; fine if not there."""
        with self._explained("qdisc"):
            self._ask(_RTM_DELQDISC, 0, self._about(parent, handle), _ABSENT)

    def find(self, handle: int) -> Standing | None:
        """The discipline of that handle, if there is one."""
        # An echo: before Linux 6.7 the answer goes to none but listeners without it.
        flags = NLM_F_REQUEST | _NLM_F_ECHO
        question = Request(_RTM_GETQDISC, flags, self._about(0, handle), "asking")
        (answer,) = self._kernel.read([question])
        for body in answer.bodies:
            told = dict(attributes(body[_TCMSG.size :]))
            numbers = dict(attributes(told.get(_TCA_STATS2, b"")))
            (waiting,) = struct.unpack_from("=I", numbers.get(_TCA_STATS_QUEUE, bytes(4)))
            kind = told[_TCA_KIND].rstrip(b"\0").decode()
            return Standing(kind, waiting, told.get(_TCA_OPTIONS, b""))
        return None

    def send_single_segments(self) -> None:
        """Let the stack hand over packets of at most the MTU."""
        most = attribute(_IFLA_GSO_MAX_SEGS, struct.pack("=I", 1))
        with self._explained("gso_max_segs"):
            self._ask(RTM_NEWLINK, 0, ifinfo(self._index) + most)

    def _about(self, parent: int, handle: int) -> bytes:
        return _TCMSG.pack(0, self._index, handle, parent, 0)

    def _qdisc(  # noqa: PLR0917 - they are the message's fields, in its order
        self,
        flags: int,
        parent: int,
        handle: int,
        kind: str,
        options: bytes,
        tolerated: tuple[int, ...] = (),
    ) -> None:
        body = self._about(parent, handle) + attribute(_TCA_KIND, kind.encode() + b"\0")
        if options:
            body += attribute(_TCA_OPTIONS, options)
        self._ask(_RTM_NEWQDISC, flags, body, tolerated)

    def _ask(self, kind: int, flags: int, body: bytes, tolerated: tuple[int, ...] = ()) -> None:
        """Send one request and wait for its acknowledgement; OSError if it is refused."""
        request = Request(kind, NLM_F_REQUEST | NLM_F_ACK | flags, body, "", tolerated)
        (refusal,) = self._kernel.ask([request])
        if refusal is not None:
            raise OSError(refusal.number, refusal.words or os.strerror(refusal.number))

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EOPNOTSUPP):
                raise MissingError(
                    f"this kernel has no {what}",
                    remedy=f"load it (modprobe sch_{what}), or use the link backend `ferry`",
                ) from error
            if error.errno in (errno.EPERM, errno.EACCES):
                raise MissingError(
                    f"not allowed to shape {self._interface}",
                    remedy="run as root, or with CAP_NET_ADMIN",
                ) from error
            raise LabError(f"{what} on {self._interface}: {error.strerror}") from error
