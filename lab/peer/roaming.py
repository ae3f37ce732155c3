"""Noticing that this node has other addresses: the kernel's word over rtnetlink.

Programs that go on when their host roams ask the kernel to be told, as these
do; nothing else in the lab tells them.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import struct
from collections.abc import Callable
from dataclasses import replace

from lab.peer.attended import Attended
from lab.peer.settings import Settings

_GROUPS = 0x10 | 0x100
"""RTMGRP_IPV4_IFADDR and RTMGRP_IPV6_IFADDR."""
_NEWADDR, _GETADDR = 20, 22
_DONE, _ERROR = 3, 2
_REQUEST_DUMP = 0x301
_HEADER = struct.Struct("=IHHII")
_IFADDR = struct.Struct("=BBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_ADDRESS, _LOCAL = 1, 2
_GLOBAL, _LINK = 0, 253
"""The scope of addresses that others than neighbours know, and of those that these do."""
SETTLE_S = 0.05
"""Addresses come and go in twos and threes: those that go together are looked at together."""


class AddressWatch:
    """Calls `on_change` a moment after this namespace's addresses have changed."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._attended: Attended | None = None

    def start(self) -> None:
        """Listen; OSError where the kernel does not let this program."""
        sock = _netlink(_GROUPS)
        self._attended = Attended(sock, lambda: self._read(sock))

    def close(self) -> None:
        """Listen no more."""
        if self._attended:
            self._attended.close()

    def _read(self, sock: socket.socket) -> None:
        # What it says does not matter: after an overflow (ENOBUFS) it would be incomplete.
        with contextlib.suppress(OSError):
            while sock.recv(65536):
                pass
        if self._attended and not self._attended.waiting:
            self._attended.call_at(self._loop.time() + SETTLE_S, self._on_change)


def present() -> tuple[str, ...]:
    """The addresses of this namespace that others may know, IPv4 first; OSError."""
    found: list[str] = []
    with _netlink(0) as sock:
        sock.settimeout(1.0)
        body = _IFADDR.pack(0, 0, 0, 0, 0)
        size = _HEADER.size + len(body)
        sock.send(_HEADER.pack(size, _GETADDR, _REQUEST_DUMP, 1, 0) + body)
        while True:
            data = sock.recv(1 << 18)
            while len(data) >= _HEADER.size:
                length, kind, *_ = _HEADER.unpack_from(data)
                if kind in (_DONE, _ERROR) or length < _HEADER.size:
                    return tuple(sorted(found, key=lambda address: ":" in address))
                if kind == _NEWADDR and (address := _address(data[_HEADER.size : length])):
                    found.append(address)
                data = data[(length + 3) & ~3 :]


def with_present(told: Settings, now: tuple[str, ...]) -> Settings:
    """What this peer was told, with the addresses that it has `now`.

    What it was told holds for as long as all of it is there: a peer may have
    been told one address of several on purpose.
    """
    everything = set(now)
    mine = _loopback_too(told.addresses)
    if not now or all(address in everything or address in mine for address in told.addresses):
        return told
    return replace(told, addresses=now)


def _loopback_too(addresses: tuple[str, ...]) -> set[str]:
    """Those that every host has, whatever its interfaces say (127.0.0.0/8)."""
    return {address for address in addresses if ipaddress.ip_address(address).is_loopback}


def _netlink(groups: int) -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    try:
        sock.bind((0, groups))
    except OSError:
        sock.close()
        raise
    return sock


def _address(message: bytes) -> str:
    """The global address in a RTM_NEWADDR, or one of IPv4 that a host claimed; "" if none."""
    family, _, _, scope, _ = _IFADDR.unpack_from(message)
    claimed = (family, scope) == (socket.AF_INET, _LINK)
    if (scope != _GLOBAL and not claimed) or family not in (socket.AF_INET, socket.AF_INET6):
        return ""
    attributes: dict[int, bytes] = {}
    rest = message[_IFADDR.size :]
    while len(rest) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(rest)
        if length < _ATTRIBUTE.size:
            break
        attributes[kind] = rest[_ATTRIBUTE.size : length]
        rest = rest[(length + 3) & ~3 :]
    packed = attributes.get(_LOCAL) or attributes.get(_ADDRESS)
    return str(ipaddress.ip_address(packed)) if packed else ""


def here() -> tuple[str, ...]:
    """As `present`, () where the kernel does not say."""
    with contextlib.suppress(OSError):
        return present()
    return ()
