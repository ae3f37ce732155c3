"""Small BPF programs that divert what passes an interface: tcx(7) and XDP, by bpf(2).

tcx (Linux 6.6) and not filters of tc(8): with what those hang on (clsact)
made and removed on an interface in use, one to five packets were lost of a
thousand a second, each time (Linux 6.18).  A program of tcx begins, ends and
is exchanged between two packets.

A program is attached as long as the descriptor of its attachment is open, and
its interface is there.

bpf(2) and membarrier(2) have no name in the C library; their numbers depend on
the architecture.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from enum import IntEnum

from lab.errors import MissingError

_CALLS = {
    "x86_64": (321, 324),
    "aarch64": (280, 283),
    "riscv64": (280, 283),
    "ppc64le": (361, 365),
    "s390x": (351, 356),
}
_BPF_PROG_LOAD = 5
_BPF_PROG_QUERY = 16
_BPF_LINK_CREATE = 28
_BPF_LINK_UPDATE = 29
_SCHED_CLS = 3
_XDP = 6
_XDP_HAS_FRAGS = 1 << 5
"""A program that may stand before MTUs of more than a page."""
_XDP_BY_DRIVER = 1 << 2
_MEMBARRIER_CMD_GLOBAL = 1

_MOVE, _CALL, _EXIT = 0xB7, 0x85, 0x95
_CLONE_REDIRECT, _REDIRECT = 13, 23
_INGRESS = 1
_TCX_NEXT = -1
_XDP_DROP = 1
_ATTRIBUTES = 128
"""Bytes of the union bpf_attr that are passed; the kernel takes any length with zeros behind."""


class Hook(IntEnum):
    """Where at an interface a program is run (enum bpf_attach_type)."""

    RECEIVES = 46
    """What it has received, after all who look have seen it."""
    SENDS = 47
    """What it is to send, before its queue, and before anybody sees it."""
    DRIVER = 37
    """What its driver has, before anybody sees it (XDP)."""


def sending_by(other: int) -> int:
    """A program by which what is to be sent is sent by interface `other` instead.

    The descriptor of it, as of all programs here.  Raises MissingError if the
    kernel refuses it.
    """
    return _load(_SCHED_CLS, _line(_MOVE, 1, other), _line(_MOVE, 2, 0), *_END_REDIRECTED)


def sending_by_both(other: int) -> int:
    """A program by which what is to be sent is sent by interface `other` as well."""
    return _load(
        _SCHED_CLS,
        _line(_MOVE, 2, other),
        _line(_MOVE, 3, 0),
        _line(_CALL, 0, _CLONE_REDIRECT),
        _line(_MOVE, 0, _TCX_NEXT),
        _line(_EXIT, 0, 0),
    )


def receiving_by(other: int) -> int:
    """A program by which what was received is received by interface `other` instead."""
    return _load(_SCHED_CLS, _line(_MOVE, 1, other), _line(_MOVE, 2, _INGRESS), *_END_REDIRECTED)


def dropping() -> int:
    """A program for `Hook.DRIVER` that drops everything."""
    return _load(_XDP, _line(_MOVE, 0, _XDP_DROP), _line(_EXIT, 0, 0), flags=_XDP_HAS_FRAGS)


def attach(program: int, index: int, hook: Hook) -> int:
    """Have interface `index` of the calling thread's namespace run `program`, and close that.

    The attachment's descriptor: it ends when that is closed.  Raises
    MissingError if the kernel, or the interface, can't.
    """
    try:
        flags = _XDP_BY_DRIVER if hook is Hook.DRIVER else 0
        request = struct.pack("=IIII", program, index, hook, flags)
        return _demand(_BPF_LINK_CREATE, request, "attaches no BPF program here")
    finally:
        os.close(program)


def exchange(attachment: int, program: int) -> None:
    """Run `program` instead from the next packet on, and close it."""
    try:
        request = struct.pack("=IIII", attachment, program, 0, 0)
        _demand(_BPF_LINK_UPDATE, request, "exchanges no BPF program")
    finally:
        os.close(program)


def supported() -> bool:
    """Whether this kernel has tcx and lets us use it.

    Asked and not tried out: to attach a program takes hundredths of a second.
    """
    try:
        os.close(sending_by(1))
        request = ctypes.create_string_buffer(struct.pack("=II", 1, Hook.SENDS), _ATTRIBUTES)
        number, result = _call(0, _BPF_PROG_QUERY, ctypes.addressof(request), _ATTRIBUTES)
    except MissingError:
        return False
    # A kernel without tcx refuses the question (EINVAL).
    return result >= 0 or number in (errno.ENOENT, errno.ENODEV)


def settle() -> None:
    """Return when every processor is done with what it was doing in the kernel's network code.

    A packet that was past a program before that changed is at the end of its
    way then (an RCU grace period; a hundredth of a second).  Raises
    MissingError if the kernel can't be asked.
    """
    number, result = _call(1, _MEMBARRIER_CMD_GLOBAL, 0, 0)
    if result < 0:
        raise MissingError(f"membarrier: {os.strerror(number)}", remedy="run Linux 6.6 or later")


def _line(code: int, register: int, value: int) -> bytes:
    """A struct bpf_insn."""
    return struct.pack("=BBhi", code, register, 0, value)


_END_REDIRECTED = (_line(_CALL, 0, _REDIRECT), _line(_EXIT, 0, 0))


def _load(kind: int, *lines: bytes, flags: int = 0) -> int:
    code = ctypes.create_string_buffer(b"".join(lines))
    terms = ctypes.create_string_buffer(b"GPL")
    places = ctypes.addressof(code), ctypes.addressof(terms)
    request = struct.pack("=IIQQIIQII", kind, len(lines), *places, 0, 0, 0, 0, flags)
    return _demand(_BPF_PROG_LOAD, request, "loads no BPF program")


def _demand(command: int, request: bytes, otherwise: str) -> int:
    buffer = ctypes.create_string_buffer(request, _ATTRIBUTES)
    number, result = _call(0, command, ctypes.addressof(buffer), _ATTRIBUTES)
    if result < 0:
        raise MissingError(
            f"this kernel {otherwise}: {os.strerror(number)}", remedy="run Linux 6.6 or later"
        )
    return result


def _call(which: int, *arguments: int) -> tuple[int, int]:
    """Error number and result of system call `which` of `_CALLS`."""
    numbers = _CALLS.get(platform.machine())
    if numbers is None:
        raise MissingError(
            f"lab does not know the number of bpf(2) on {platform.machine()}",
            remedy=f"known are {', '.join(_CALLS)}",
        )
    libc = ctypes.CDLL(None, use_errno=True)
    words = (ctypes.c_ulong(argument) for argument in arguments)
    result: int = libc.syscall(ctypes.c_long(numbers[which]), *words)
    return ctypes.get_errno(), result
