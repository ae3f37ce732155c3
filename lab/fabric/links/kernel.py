"""The link model carried out by the kernel: netem, or TBF where a rate is all there is.

A direction is the egress queueing discipline of the interface that sends:

    1: netem   delay, loss          (root; a delay line, practically unbounded)
    2: netem   rate, queue          (its child; only where there is a rate)

Two of them, because netem's one limit counts what waits and what is on its
way alike, and a queue that is long enough for the one is wrong for the other.
netem's own rate and not a TBF child, because a token bucket lets a packet
that finds it full pass at once, and the model (a real wire) does not.

netem keeps its order only where a rate is set, so both always have one; the
"none" of it is too fast to matter.  A change is made in place (the same
handle and kind: the kernel keeps what is queued), so nothing on its way is
lost or overtaken.

The messages (linux/pkt_sched.h, linux/rtnetlink.h) are encoded here, and not
by pyroute2: its netem has neither rates above 32 bits nor delays finer than a
clock tick, and it takes longer to encode a message than the kernel to carry
it out.  They are sent on a socket of the calling thread's namespace.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Self

from lab.errors import LabError, MissingError
from lab.fabric.links.transmitter import FULL_FRAME, queue_packets
from lab.topology.behaviour import Impairment

DELAY_LINE_PACKETS = 1_000_000
"""What the delay line holds: more than any sender here can put on its way in a second."""

_UNLIMITED_BYTES_S = 1 << 50
"""The rate of a netem that has none: a full frame takes less than a nanosecond."""

_LONGEST_BURST = 1 << 24

_RTM_NEWLINK = 16
_RTM_NEWQDISC = 36
_RTM_DELQDISC = 37
_NLM_F_REQUEST = 0x1
_NLM_F_ACK = 0x4
_NLM_F_REPLACE = 0x100
_NLM_F_CREATE = 0x400
_NLMSG_ERROR = 2

_TC_H_ROOT = 0xFFFFFFFF
_DELAY_HANDLE = 0x00010000
_DELAY_CLASS = 0x00010001
_RATE_HANDLE = 0x00020000
_TBF_HANDLE = 0x00030000
_CUT_HANDLE = 0x00040000

_TCA_KIND = 1
_TCA_OPTIONS = 2
_NETEM_RATE = 6
_NETEM_RATE64 = 8
_NETEM_LATENCY64 = 10
_TBF_PARMS = 1
_TBF_RATE64 = 4
_TBF_BURST = 6
_IFLA_GSO_MAX_SEGS = 40
_LINKLAYER_ETHERNET = 1

_CLONE_NEWNET = 0x40000000
_ABSENT = (errno.ENOENT, errno.EINVAL, errno.EEXIST)
"""What the kernel says to a change of a discipline that is not there, or not the one meant."""


def shape(interface: str, impairment: Impairment) -> None:
    """Give what leaves `interface` the character `impairment`, in place if it had one.

    The calling thread is in the interface's namespace.  Segmentation offload
    is switched off on the way: netem would lose, delay and count a batch of
    64 KB as one packet.  Without an impairment a discipline that exists is
    made transparent rather than removed, because removing it would drop what
    is on its way (`clear` does); where there is none, none is made.

    Raises MissingError if this kernel can't do it, LabError if it refuses.
    """
    with _Conversation(interface) as kernel:
        if impairment.none:
            kernel.relax_netem(_TC_H_ROOT, _DELAY_HANDLE)
            kernel.relax_netem(_DELAY_CLASS, _RATE_HANDLE)
            kernel.relax_tbf()
            return
        kernel.send_single_segments()
        line = Impairment(delay_us=impairment.delay_us, loss=impairment.loss)
        try:
            kernel.netem(_TC_H_ROOT, _DELAY_HANDLE, line, DELAY_LINE_PACKETS)
        except MissingError:
            if not line.none:
                raise
            kernel.tbf(impairment)
            return
        if impairment.rate_bit:
            rate = Impairment(rate_bit=impairment.rate_bit)
            kernel.netem(_DELAY_CLASS, _RATE_HANDLE, rate, queue_packets(impairment))
        else:
            kernel.relax_netem(_DELAY_CLASS, _RATE_HANDLE)


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
    answer: list[bool] = []

    def probe() -> None:
        # The namespace is this thread's alone, and goes when the thread ends.
        if ctypes.CDLL(None).unshare(_CLONE_NEWNET) != 0:
            answer.append(False)
            return
        try:
            shape("lo", Impairment(delay_us=1, rate_bit=1_000_000))
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

    def netem(self, parent: int, handle: int, impairment: Impairment, limit: int) -> None:
        """Add the netem `handle`, or change it in place."""
        with self._explained("netem", "sch_netem"):
            self._qdisc(
                _NLM_F_CREATE | _NLM_F_REPLACE,
                parent,
                handle,
                "netem",
                _netem_options(impairment, limit),
            )

    def relax_netem(self, parent: int, handle: int) -> None:
        """Let the netem `handle`, if it is there, pass everything, in order."""
        with self._explained("netem", "sch_netem"):
            options = _netem_options(Impairment(), DELAY_LINE_PACKETS)
            self._qdisc(0, parent, handle, "netem", options, _ABSENT)

    def tbf(self, impairment: Impairment) -> None:
        """Add the TBF, or change it in place."""
        with self._explained("TBF", "sch_tbf"):
            self._qdisc(
                _NLM_F_CREATE | _NLM_F_REPLACE,
                _TC_H_ROOT,
                _TBF_HANDLE,
                "tbf",
                _tbf_options(impairment),
            )

    def relax_tbf(self) -> None:
        """Let the TBF, if it is there, pass everything."""
        with self._explained("TBF", "sch_tbf"):
            options = _tbf_options(Impairment())
            self._qdisc(0, _TC_H_ROOT, _TBF_HANDLE, "tbf", options, _ABSENT)

    def blackhole(self) -> None:
        """Make the root discipline one that drops everything (sch_blackhole, always built in)."""
        body = struct.pack("=BxxxiIII", 0, self._index, _CUT_HANDLE, _TC_H_ROOT, 0)
        with self._explained("blackhole", "sch_blackhole"):
            kind = _attribute(_TCA_KIND, b"blackhole\0")
            self._ask(_RTM_NEWQDISC, _NLM_F_CREATE | _NLM_F_REPLACE, body + kind)

    def delete(self, handle: int) -> None:
        """Remove the root discipline if it is `handle`."""
        body = struct.pack("=BxxxiIII", 0, self._index, handle, _TC_H_ROOT, 0)
        with self._explained("qdisc", "sch_netem"):
            self._ask(_RTM_DELQDISC, 0, body, _ABSENT)

    def send_single_segments(self) -> None:
        """Let the stack hand over packets of at most the MTU."""
        body = struct.pack("=BxHiII", 0, 0, self._index, 0, 0)
        with self._explained("gso_max_segs", "veth"):
            self._ask(_RTM_NEWLINK, 0, body + _attribute(_IFLA_GSO_MAX_SEGS, struct.pack("=I", 1)))

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
            + _attribute(_TCA_KIND, kind.encode() + b"\0")
            + _attribute(_TCA_OPTIONS, options)
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


def _attribute(kind: int, value: bytes) -> bytes:
    """A netlink attribute, padded."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _bytes_s(impairment: Impairment) -> int:
    return max(1, impairment.rate_bit // 8) if impairment.rate_bit else _UNLIMITED_BYTES_S


def _netem_options(impairment: Impairment, limit: int) -> bytes:
    """The kernel's struct tc_netem_qopt and what goes beyond it."""
    loss = round(impairment.loss * 0xFFFFFFFF)
    rate = _bytes_s(impairment)
    return (
        struct.pack("=IIIIII", 0, limit, loss, 0, 0, 0)
        + _attribute(_NETEM_LATENCY64, struct.pack("=q", impairment.delay_us * 1000))
        # Rates that don't fit into 32 bits are at the ceiling in the old attribute.
        + _attribute(_NETEM_RATE, struct.pack("=IiIi", min(rate, 0xFFFFFFFF), 0, 0, 0))
        + (_attribute(_NETEM_RATE64, struct.pack("=Q", rate)) if rate > 0xFFFFFFFF else b"")
    )


def _tbf_options(impairment: Impairment) -> bytes:
    """The kernel's struct tc_tbf_qopt and what goes beyond it.

    The bucket holds one full frame, or a millisecond's worth for rates at
    which the kernel's timers would not keep up with single frames.
    """
    rate = _bytes_s(impairment)
    burst = min(max(FULL_FRAME + 4, rate // 1000), _LONGEST_BURST)
    limit = (queue_packets(impairment) or DELAY_LINE_PACKETS) * FULL_FRAME
    # A struct tc_ratespec each for the rate and the (absent) peak rate; with a
    # link layer given, no table of 256 times is needed.
    spec = struct.pack("=BBHhHI", 0, _LINKLAYER_ETHERNET, 0, 0, 0, min(rate, 0xFFFFFFFF))
    peak = bytes(12)
    parameters = spec + peak + struct.pack("=III", min(limit, 0xFFFFFFFF), 0, 0)
    return (
        _attribute(_TBF_PARMS, parameters)
        + _attribute(_TBF_BURST, struct.pack("=I", burst))
        + (_attribute(_TBF_RATE64, struct.pack("=Q", rate)) if rate > 0xFFFFFFFF else b"")
    )
