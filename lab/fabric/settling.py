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
from lab.fabric.messages import RTM_GETLINK, about_interface, ifinfo
from lab.fabric.netlink import NLM_F_REQUEST, Request, Session, attribute, open_socket

_RTMGRP_LINK = 1
_IFLA_OPERSTATE = 16
_IFLA_EXT_MASK = 29
_WITHOUT_STATISTICS = struct.pack("=I", 1 << 3)
"""RTEXT_FILTER_SKIP_STATS."""
_IFLA_CARRIER = 33
_OPERSTATES_DOWN = (b"\2", b"\3")
"""IF_OPER_DOWN, IF_OPER_LOWERLAYERDOWN."""

_DEADLINE_S = 10.0


def settle(indexes: Sequence[int], node: str) -> None:
    """Return when each interface of the calling thread's namespace sends, or has no carrier.

    Raises LabError if one with a carrier does not come up in time.
    """
    waiting = _unsettled(indexes)
    if not waiting:
        return
    with open_socket(groups=_RTMGRP_LINK) as notices:
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
    with Session() as session:
        answers = session.read([_question(index) for index in indexes])
    # One that the kernel knows nothing of is gone: there is nothing to wait for.
    return [found for answer in answers for body in answer.bodies if (found := _waits(body))]


def _question(index: int) -> Request:
    body = ifinfo(index) + attribute(_IFLA_EXT_MASK, _WITHOUT_STATISTICS)
    return Request(RTM_GETLINK, NLM_F_REQUEST, body, f"asking for interface {index}")


def _waits(body: bytes) -> int:
    """The number of the interface, if it has a carrier and does not send yet; else 0."""
    index, told = about_interface(body)
    carrier = told.get(_IFLA_CARRIER, b"\0") != b"\0"
    return index if carrier and told.get(_IFLA_OPERSTATE) in _OPERSTATES_DOWN else 0
