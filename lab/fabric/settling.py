"""Waiting until what was configured carries packets: the kernel puts off some of the work.

Interfaces: the end of a veth pair that is taken up first has no carrier yet, and
the kernel gives it the queue by which it sends only when its link watch gets
round to it: a moment later, on a busy machine up to a second later, because
between ends of one number in two namespaces it takes its time.  Until then
everything sent is dropped without a word.  Asking for the interface makes
kernels from 6.8 on catch up before they answer; with others the answer says that
the carrier is there and the interface not up, and a notice comes when it is.

IPv6 addresses: the route by which a node takes what comes for an address as its
own is made by the worker of duplicate address detection, also where detection is
off.  What comes before that is for nobody.  A notice tells of the route.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from lab.errors import LabError
from lab.fabric.messages import RTM_GETLINK, about_interface, ask_way, ifinfo, leads_home
from lab.fabric.netlink import NLM_F_REQUEST, Request, Session, attribute, open_socket

Item = TypeVar("Item", int, str)
"""An interface's number, or an address."""

_RTMGRP_LINK = 1
_RTMGRP_IPV6_ROUTE = 0x400
_IFLA_OPERSTATE = 16
_IFLA_EXT_MASK = 29
_WITHOUT_STATISTICS = struct.pack("=I", 1 << 3)
"""RTEXT_FILTER_SKIP_STATS."""
_IFLA_CARRIER = 33
_OPERSTATES_DOWN = (b"\2", b"\3")
"""IF_OPER_DOWN, IF_OPER_LOWERLAYERDOWN."""

_DEADLINE_S = 10.0
_BUFFER = 1 << 16


def settle(indexes: Sequence[int], addresses: Sequence[str], node: str) -> None:
    """Return when what the calling thread's namespace was given works.

    That is when each interface in `indexes` sends, or has no carrier, and what
    comes for each of the IPv6 `addresses` ("2001:db8::1/64") is taken.  Raises
    LabError if one of them takes too long.
    """
    _wait(
        indexes,
        _unsettled,
        _RTMGRP_LINK,
        f"{node}: interface {{}} got a carrier, but the kernel does not take it up",
    )
    _wait(
        addresses,
        _unheard,
        _RTMGRP_IPV6_ROUTE,
        f"{node}: {{}} was given, but the kernel does not take what comes for it",
    )


def _wait(
    these: Sequence[Item], waiting: Callable[[Sequence[Item]], list[Item]], groups: int, late: str
) -> None:
    """Return when `waiting` finds none of `these`; asked of those left after notices to `groups`.

    There are many notices where much was configured: each time all that have come are read.
    """
    left = waiting(these)
    if not left:
        return
    with open_socket(groups=groups) as notices:
        deadline = time.monotonic() + _DEADLINE_S
        while left := waiting(left):
            if not select.select([notices], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise LabError(
                    late.format(", ".join(map(str, left))),
                    remedy="see `dmesg`, then take the lab down and up again",
                )
            _take_all(notices)


def _take_all(notices: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            try:
                notices.recv(_BUFFER, socket.MSG_DONTWAIT)
            except OSError as error:
                # More than there was room for came: so something did.
                if error.errno != errno.ENOBUFS:
                    raise


def _unheard(addresses: Sequence[str]) -> list[str]:
    """Those of the addresses that are not the namespace's own yet."""
    if not addresses:
        return []
    with Session() as session:
        answers = session.read([ask_way(address.partition("/")[0]) for address in addresses])
    return [
        address
        for address, answer in zip(addresses, answers, strict=True)
        if not any(leads_home(body) for body in answer.bodies)
    ]


def _unsettled(indexes: Sequence[int]) -> list[int]:
    """Those of the interfaces that have a carrier and do not send yet."""
    if not indexes:
        return []
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
