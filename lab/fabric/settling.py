"""Waiting until interfaces that were taken up do send.

The end of a veth pair that is taken up first has no carrier yet, and the kernel
gives it the queue by which it sends only when its link watch gets round to it: a
moment later, on a busy machine up to a second later, because between ends of one
number in two namespaces it takes its time.  Until then everything sent is
dropped without a word.  Asking for the interface makes kernels from 6.8 on catch
up before they answer; with others the answer says that the carrier is there and
the interface not up, and a notice comes when it is.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Sequence

from lab.errors import LabError
from lab.fabric.netlink import attributes

_RTM_NEWLINK = 16
_RTM_GETLINK = 18
_NLM_F_REQUEST = 0x1
_RTMGRP_LINK = 1
_IFLA_OPERSTATE = 16
_IFLA_EXT_MASK = 29
_RTEXT_FILTER_SKIP_STATS = 1 << 3
_IFLA_CARRIER = 33
_OPERSTATES_DOWN = (b"\2", b"\3")
"""IF_OPER_DOWN, IF_OPER_LOWERLAYERDOWN."""

_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ASK = struct.Struct("=HHI")
_BATCH = 32
"""Questions at once: their answers (some 4 KiB each in kernel memory) fit a socket's 208 KiB."""
_DEADLINE_S = 10.0


def settle(indexes: Sequence[int], node: str) -> None:
    """Return when each interface of the calling thread's namespace sends, or has no carrier.

    Raises LabError if one with a carrier does not come up in time.
    """
    waiting = _unsettled(indexes)
    if not waiting:
        return
    with _socket(_RTMGRP_LINK) as notices:
        deadline = time.monotonic() + _DEADLINE_S
        while waiting := _unsettled(waiting):
            if not select.select([notices], [], [], max(0.0, deadline - time.monotonic()))[0]:
                names = ", ".join(socket.if_indextoname(index) for index in waiting)
                raise LabError(
                    f"{node}: {names} got a carrier, but the kernel does not take it up",
                    remedy="see `dmesg`, then take the lab down and up again",
                )
            notices.recv(1 << 16)


def _unsettled(indexes: Sequence[int]) -> list[int]:
    """Those of the interfaces that have a carrier and do not send yet."""
    found: list[int] = []
    with _socket() as session:
        for start in range(0, len(indexes), _BATCH):
            batch = indexes[start : start + _BATCH]
            session.send(b"".join(map(_question, batch)))
            for _ in batch:
                index, settled = _state(session.recv(1 << 16))
                if not settled:
                    found.append(index)
    return found


def _socket(groups: int = 0) -> socket.socket:
    it = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    )
    it.bind((0, groups))
    return it


def _question(index: int) -> bytes:
    body = _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0)
    body += _ASK.pack(_ASK.size, _IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS)
    return _HEADER.pack(_HEADER.size + len(body), _RTM_GETLINK, _NLM_F_REQUEST, 0, 0) + body


def _state(answer: bytes) -> tuple[int, bool]:
    """The interface in one answer, and whether there is nothing to wait for: it may be gone."""
    _, kind, *_ = _HEADER.unpack_from(answer)
    if kind != _RTM_NEWLINK:
        return 0, True
    _, _, index, _, _ = _LINK.unpack_from(answer, _HEADER.size)
    told = dict(attributes(answer[_HEADER.size + _LINK.size :]))
    carrier = told.get(_IFLA_CARRIER, b"\0") != b"\0"
    down = told.get(_IFLA_OPERSTATE) in _OPERSTATES_DOWN
    return index, not (carrier and down)
