"""The link model carried out by the kernel: netem, or TBF where a rate is all there is.

A direction is the egress queueing discipline of the interface that sends:

    1: netem   delay, jitter, loss    (root; a delay line, practically unbounded)
    2: netem   rate, queue            (its child; only where there is a rate)

Two of them, because netem's one limit counts what waits and what is on its
way alike, and a queue that is long enough for the one is wrong for the other.
netem's own rate and not a TBF child, because a token bucket lets a packet
that finds it full pass at once, and the model (a real wire) does not.  A
queue that netem has not is worth that one frame:

    3: TBF     rate, queue in bytes   (instead of 2)
    4: CoDel or fq_codel              (its child)

A change is made in place (the same handle and kind: the kernel keeps what is
queued), so nothing on its way is lost or overtaken; only another kind of
queue begins empty.  `lab.fabric.links.qdisc` has the options, and
`lab.plan.backends` what of the model is beyond all this.

The messages (linux/rtnetlink.h) are sent on a socket of the calling thread's
namespace.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Self

from lab.errors import LabError, MissingError
from lab.fabric.links import qdisc
from lab.fabric.links.qdisc import attribute
from lab.fabric.netlink import attributes
from lab.topology.behaviour import Discipline, Impairment, QueueUnit

_RTM_NEWLINK = 16
_RTM_NEWQDISC = 36
_RTM_DELQDISC = 37
_RTM_GETQDISC = 38
_NLM_F_REQUEST = 0x1
_NLM_F_ACK = 0x4
_NLM_F_REPLACE = 0x100
_NLM_F_DUMP = 0x300
_NLM_F_CREATE = 0x400
_NLMSG_ERROR = 2

_TC_H_ROOT = 0xFFFFFFFF
_DELAY_HANDLE = 0x00010000
_DELAY_CLASS = 0x00010001
_RATE_HANDLE = 0x00020000
_TBF_HANDLE = 0x00030000
_TBF_CLASS = 0x00030001
_ACTIVE_HANDLE = 0x00040000
_CUT_HANDLE = 0x00050000

_TCA_KIND = 1
_TCA_OPTIONS = 2
_IFLA_GSO_MAX_SEGS = 40
_NETEM_OPTIONS = 24
"""Bytes of struct tc_netem_qopt, before its attributes."""

_CLONE_NEWNET = 0x40000000
_ABSENT = (errno.ENOENT, errno.EINVAL, errno.EEXIST)
"""What the kernel says to a change of a discipline that is not there, or not the one meant."""


def shape(interface: str, impairment: Impairment, seed: int = 0) -> None:
    """Give what leaves `interface` the character `impairment`, in place if it had one.

    The calling thread is in the interface's namespace.  `seed` is what chance
    begins from, where the kernel takes one (`seeded`); 0 for none.
    Segmentation offload is switched off on the way: netem would lose, delay
    and count a batch of 64 KB as one packet.  Without an impairment a
    discipline that exists is made transparent rather than removed, because
    removing it would drop what is on its way (`clear` does); where there is
    none, none is made.

    Raises MissingError if this kernel can't do it, LabError if it refuses.
    """
    with _Conversation(interface) as kernel:
        if impairment.none:
            kernel.relax()
            return
        kernel.send_single_segments()
        try:
            kernel.netem(_TC_H_ROOT, _DELAY_HANDLE, qdisc.delay_line(impairment, seed))
        except MissingError:
            if impairment.beyond_rate:
                raise
            kernel.tbf(_TC_H_ROOT, impairment)
            return
        if not impairment.rate_bit:
            kernel.relax_rate(_DELAY_CLASS)
        elif _has_own_queue(impairment):
            kernel.tbf(_DELAY_CLASS, impairment)
        else:
            kernel.netem(_DELAY_CLASS, _RATE_HANDLE, qdisc.transmitter(impairment))


def _has_own_queue(impairment: Impairment) -> bool:
    """Whether the queue is one that netem has not."""
    drop_tail = impairment.discipline is Discipline.DROP_TAIL
    return not drop_tail or impairment.queue.unit is QueueUnit.BYTES


def clear(interface: str) -> None:
    """Remove whatever `shape` made, and what is queued in it; nothing there is fine."""
    with _Conversation(interface) as kernel:
        kernel.delete(_DELAY_HANDLE)
        kernel.delete(_TBF_HANDLE)


def cut(interface: str) -> None:
    """Let nothing leave `interface`; what waits in its queue is lost.

    The interface keeps its carrier, its addresses and its routes: it is as if
    somebody had cut the cable behind the next box.  In the calling thread's
    namespace, as `shape` is.  Raises LabError if the kernel refuses.
    """
    with _Conversation(interface) as kernel:
        kernel.blackhole()


def join(interface: str) -> None:
    """End a `cut`; `shape` says what passes then.  Fine if it was not cut."""
    with _Conversation(interface) as kernel:
        kernel.delete(_CUT_HANDLE)


def supported() -> bool:
    """Whether this kernel has netem: tried on the loopback of a scratch namespace.

    Takes a millisecond, or tens where the kernel loads the module first.
    """
    return _in_scratch(lambda: None)


def seeded() -> bool:
    """Whether this kernel's netem takes a seed (Linux 6.6); tried as `supported` does."""

    def has_seed() -> None:
        with _Conversation("lo") as kernel:
            if not kernel.shows(_DELAY_HANDLE, qdisc.NETEM_PRNG_SEED):
                raise MissingError("netem without a seed", remedy="Linux 6.6 has it")

    return _in_scratch(has_seed)


def _in_scratch(check: Callable[[], None]) -> bool:
    """Whether the loopback of a scratch namespace can be given a delay, and `check` passes then."""
    answer: list[bool] = []

    def probe() -> None:
        # The namespace is this thread's alone, and goes when the thread ends.
        if ctypes.CDLL(None).unshare(_CLONE_NEWNET) != 0:
            answer.append(False)
            return
        try:
            shape("lo", Impairment(delay_us=1, rate_bit=1_000_000), 1)
            check()
            answer.append(True)
        except LabError:
            answer.append(False)

    thread = threading.Thread(target=probe, name="netem-probe")
    thread.start()
    thread.join()
    return answer == [True]


class _Conversation:
    """Requests about one interface, each answered before the next."""

    def __init__(self, interface: str) -> None:
        self._interface = interface
        self._socket: socket.socket

    def __enter__(self) -> Self:
        try:
            self._index = socket.if_nametoindex(self._interface)
        except OSError as error:
            raise LabError(
                f"there is no interface {self._interface} to shape",
                remedy="something removed it; take the lab down and up again",
            ) from error
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def netem(self, parent: int, handle: int, options: bytes) -> None:
        """Add the netem `handle`, or change it in place."""
        with self._explained("netem", "sch_netem"):
            self._qdisc(_NLM_F_CREATE | _NLM_F_REPLACE, parent, handle, "netem", options)

    def tbf(self, parent: int, impairment: Impairment) -> None:
        """Add the TBF and the queue in it, or change them in place."""
        make = _NLM_F_CREATE | _NLM_F_REPLACE
        with self._explained("TBF", "sch_tbf"):
            options = qdisc.token_bucket(impairment)
            self._qdisc(make, parent, _TBF_HANDLE, "tbf", options)
        if impairment.discipline is Discipline.DROP_TAIL:
            with self._explained("queue", "sch_fifo"):
                self._remove(_TBF_CLASS, _ACTIVE_HANDLE)
            return
        kind, options = qdisc.active(impairment)
        with self._explained(kind, f"sch_{kind}"):
            self._qdisc(make, _TBF_CLASS, _ACTIVE_HANDLE, kind, options)

    def relax(self) -> None:
        """Let whatever is there pass everything, in order."""
        with self._explained("netem", "sch_netem"):
            line = qdisc.delay_line(Impairment(), 0)
            self._qdisc(0, _TC_H_ROOT, _DELAY_HANDLE, "netem", line, _ABSENT)
        self.relax_rate(_DELAY_CLASS)
        self.relax_rate(_TC_H_ROOT)

    def relax_rate(self, parent: int) -> None:
        """Let the transmitter below `parent`, if there is one, pass everything, in order."""
        with self._explained("netem", "sch_netem"):
            if parent != _TC_H_ROOT:
                options = qdisc.transmitter(Impairment())
                self._qdisc(0, parent, _RATE_HANDLE, "netem", options, _ABSENT)
            options = qdisc.token_bucket(Impairment())
            self._qdisc(0, parent, _TBF_HANDLE, "tbf", options, _ABSENT)

    def shows(self, handle: int, option: int) -> bool:
        """Whether the kernel names `option` among those of the netem `handle`."""
        body = struct.pack("=BxxxiIII", 0, self._index, 0, 0, 0)
        flags = _NLM_F_REQUEST | _NLM_F_DUMP
        header = struct.pack("=IHHII", 16 + len(body), _RTM_GETQDISC, flags, 1, 0)
        self._socket.send(header + body)
        answer = self._socket.recv(65536)
        at, found = 0, False
        while at + 36 <= len(answer):
            length, kind = struct.unpack_from("=IH", answer, at)
            if kind != _RTM_NEWQDISC:
                break
            (_, index, own) = struct.unpack_from("=BxxxiI", answer, at + 16)
            if index == self._index and own == handle:
                options = dict(attributes(answer[at + 36 : at + length]))[_TCA_OPTIONS]
                found = option in dict(attributes(options[_NETEM_OPTIONS:]))
            at += length
        return found

    def blackhole(self) -> None:
        """Make the root discipline one that drops everything (sch_blackhole, always built in)."""
        body = struct.pack("=BxxxiIII", 0, self._index, _CUT_HANDLE, _TC_H_ROOT, 0)
        with self._explained("blackhole", "sch_blackhole"):
            kind = attribute(_TCA_KIND, b"blackhole\0")
            self._ask(_RTM_NEWQDISC, _NLM_F_CREATE | _NLM_F_REPLACE, body + kind)

    def delete(self, handle: int) -> None:
        """Remove the root discipline if it is `handle`."""
        with self._explained("qdisc", "sch_netem"):
            self._remove(_TC_H_ROOT, handle)

    def _remove(self, parent: int, handle: int) -> None:
        body = struct.pack("=BxxxiIII", 0, self._index, handle, parent, 0)
        self._ask(_RTM_DELQDISC, 0, body, _ABSENT)

    def send_single_segments(self) -> None:
        """Let the stack hand over packets of at most the MTU."""
        body = struct.pack("=BxHiII", 0, 0, self._index, 0, 0)
        with self._explained("gso_max_segs", "veth"):
            self._ask(_RTM_NEWLINK, 0, body + attribute(_IFLA_GSO_MAX_SEGS, struct.pack("=I", 1)))

    def _qdisc(  # noqa: PLR0917 - they are the message's fields, in its order
        self,
        flags: int,
        parent: int,
        handle: int,
        kind: str,
        options: bytes,
        tolerated: tuple[int, ...] = (),
    ) -> None:
        body = (
            struct.pack("=BxxxiIII", 0, self._index, handle, parent, 0)
            + attribute(_TCA_KIND, kind.encode() + b"\0")
            + attribute(_TCA_OPTIONS, options)
        )
        self._ask(_RTM_NEWQDISC, flags, body, tolerated)

    def _ask(self, kind: int, flags: int, body: bytes, tolerated: tuple[int, ...] = ()) -> None:
        """Send one request and wait for its acknowledgement; OSError if it is refused."""
        header = struct.pack(
            "=IHHII", 16 + len(body), kind, _NLM_F_REQUEST | _NLM_F_ACK | flags, 1, 0
        )
        self._socket.send(header + body)
        answer = self._socket.recv(8192)
        _, answered, _, _, _, code = struct.unpack_from("=IHHIIi", answer)
        if answered != _NLMSG_ERROR:
            raise OSError(errno.EPROTO, "not an acknowledgement")
        if code and -code not in tolerated:
            raise OSError(-code, os.strerror(-code))

    @contextlib.contextmanager
    def _explained(self, what: str, module: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EOPNOTSUPP):
                raise MissingError(
                    f"this kernel has no {what}",
                    remedy=f"load it (modprobe {module}), or use the link backend `ferry`",
                ) from error
            if error.errno in (errno.EPERM, errno.EACCES):
                raise MissingError(
                    f"not allowed to shape {self._interface}",
                    remedy="run as root, or with CAP_NET_ADMIN",
                ) from error
            raise LabError(f"{what} on {self._interface}: {error.strerror}") from error
