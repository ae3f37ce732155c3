"""The sockets by which a peer hears and asks its network."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import ipaddress
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from lab.peer.endpoint import Endpoint

MAX_BYTES = 8192
"""Of a datagram that is read."""
_SIOCGIFADDR = 0x8915
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
        with _datagrams() as sock:
            for index, name in socket.if_nameindex():
                # Of several addresses the one that is asked for is given (devinet_ioctl).
                wanted = socket.inet_aton(address)
                request = struct.pack("=16sHH4s8x", name.encode(), socket.AF_INET, 0, wanted)
                with contextlib.suppress(OSError):  # It has none, or is gone by now.
                    answer = fcntl.ioctl(sock, _SIOCGIFADDR, request)
                    if socket.inet_ntoa(answer[20:24]) == address:
                        return cls(address, index)
        return cls()


def member(group: Endpoint, address: str) -> socket.socket:
    """A socket that hears what is sent to a group on the network of `address`; OSError."""
    sock = _datagrams()
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((group.address, group.port))
        joined = socket.inet_aton(group.address) + socket.inet_aton(address)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
        _near(sock, address, _RESPONDER_TTL)
    except BaseException:
        sock.close()
        raise
    return sock


def bound(address: str) -> socket.socket:
    """A socket at a free port of `address`, whose multicast goes out there; OSError."""
    sock = _datagrams()
    try:
        sock.bind((address, 0))
        _near(sock, address, _ASKER_TTL)
    except BaseException:
        sock.close()
        raise
    return sock


def _datagrams() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)


def _near(sock: socket.socket, address: str, ttl: int) -> None:
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
    # Nothing else of this crosses a router, so that nobody beyond one is answered.
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)


class Ear(asyncio.DatagramProtocol):
    """Hands what comes to `heard`, with where it came from."""

    def __init__(self, heard: Callable[[bytes, Endpoint], None]) -> None:
        self._heard = heard

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if len(data) <= MAX_BYTES and not ipaddress.ip_address(addr[0]).is_unspecified:
            self._heard(data, Endpoint(addr[0], addr[1]))

    def error_received(self, exc: Exception) -> None:
        """A neighbour that is gone."""
