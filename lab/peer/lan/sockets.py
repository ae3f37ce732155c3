"""The sockets by which a peer hears and asks its network."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import ipaddress
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.peer.endpoint import Endpoint

MAX_BYTES = 8192
"""Of a datagram that is read."""
SIGNAL_WAYS = "signal", "signal6"
"""The sockets for signals, by IPv4 and by IPv6."""
_SIOCGIFADDR = 0x8915
_INTERFACES6 = Path("/proc/self/net/if_inet6")
_RESPONDER_TTL = 255
"""Of multicast: that it is still that says that it crossed no router (RFC 6762, section 11)."""
_ASKER_TTL = 1
"""Of multicast from a port of one's own: SSDP's group would else be beyond a router, too."""


@dataclass(frozen=True, slots=True)
class Place:
    """An address and the number of the interface that has it: another one is another network."""

    address: str = ""
    index: int = 0

    @classmethod
    def of(cls, address: str) -> Place:
        """Where `address` is; nowhere if no interface has it."""
        if not address:
            return cls()
        if ipaddress.ip_address(address).is_loopback:
            return cls(address)  # The whole of 127.0.0.0/8 is, and one of it is named.
        index = _interface6(address) if ":" in address else _interface4(address)
        return cls(address, index) if index else cls()

    @property
    def family(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.address else 4


def _interface4(address: str) -> int:
    """The number of the interface that has the address; 0 if none has."""
    wanted = socket.inet_aton(address)
    with _datagrams() as sock:
        for index, name in socket.if_nameindex():
            # Of several addresses the one that is asked for is given (devinet_ioctl).
            request = struct.pack("=16sHH4s8x", name.encode(), socket.AF_INET, 0, wanted)
            with contextlib.suppress(OSError):  # It has none, or is gone by now.
                if fcntl.ioctl(sock, _SIOCGIFADDR, request)[20:24] == wanted:
                    return index
    return 0


def _interface6(address: str) -> int:
    wanted = socket.inet_pton(socket.AF_INET6, address).hex()
    with contextlib.suppress(OSError):
        for line in _INTERFACES6.read_text().splitlines():
            held, index, *_ = line.split()
            if held == wanted:
                return int(index, 16)
    return 0


def signal_way(family: int) -> str:
    """By which socket signals go to addresses of that family."""
    return SIGNAL_WAYS[family == 6]


def open_all(places: Iterable[Place], groups: Mapping[str, Endpoint]) -> dict[str, socket.socket]:
    """At each of the places the groups of its family, and a socket for signals; OSError.

    Searches go out from that, too, and answers to them come there.
    """
    opened: dict[str, socket.socket] = {}
    try:
        for place in places:
            for way, group in groups.items():
                if group.family == place.family:
                    opened[way] = member(group, place)
            opened[signal_way(place.family)] = _for_signals(place, opened.get(SIGNAL_WAYS[0]))
    except BaseException:
        for sock in opened.values():
            sock.close()
        raise
    return opened


def _for_signals(place: Place, other: socket.socket | None) -> socket.socket:
    """At the port of the one of the other family, if that is free: a service has one port."""
    if other is not None:
        with contextlib.suppress(OSError):
            return bound(place, other.getsockname()[1])
    return bound(place)


def member(group: Endpoint, place: Place) -> socket.socket:
    """A socket that hears what is sent to a group on the network of `place`; OSError."""
    sock = _datagrams(group.family)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if group.family == 6:
            # Bound to a group of one link, it hears and speaks there alone.
            sock.bind((group.address, group.port, 0, place.index))
            packed = socket.inet_pton(socket.AF_INET6, group.address)
            joined = packed + struct.pack("@I", place.index)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, joined)
        else:
            sock.bind((group.address, group.port))
            joined = socket.inet_aton(group.address) + socket.inet_aton(place.address)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
        _near(sock, place, _RESPONDER_TTL)
    except BaseException:
        sock.close()
        raise
    return sock


def bound(place: Place, port: int = 0) -> socket.socket:
    """A socket at a port of `place`, a free one unless told, whose multicast goes out there.

    Raises OSError.
    """
    sock = _datagrams(place.family)
    try:
        sock.bind((place.address, port))
        _near(sock, place, _ASKER_TTL)
    except BaseException:
        sock.close()
        raise
    return sock


def _datagrams(family: int = 4) -> socket.socket:
    kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
    return socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, kind)


def _near(sock: socket.socket, place: Place, ttl: int) -> None:
    # Nothing else of this crosses a router, so that nobody beyond one is answered.
    if place.family == 6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, place.index)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, ttl)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 1)
        return
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(place.address))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)


class Ear(asyncio.DatagramProtocol):
    """Hands what comes to `heard`, with where it came from."""

    def __init__(self, heard: Callable[[bytes, Endpoint], None]) -> None:
        self._heard = heard

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        if len(data) <= MAX_BYTES and not ipaddress.ip_address(addr[0]).is_unspecified:
            self._heard(data, Endpoint(addr[0], addr[1]))

    def error_received(self, exc: Exception) -> None:
        """A neighbour that is gone."""
