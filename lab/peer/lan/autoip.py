"""A link-local address on a real interface: ARP by a packet socket, the address by rtnetlink."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import ipaddress
import random
import socket
import struct
from collections.abc import Callable

from lab.peer.attended import Attended
from lab.peer.lan.claim import Action, Claim, Send, Take, parse

_ETH_ARP = 0x0806
_EVERYONE = b"\xff" * 6
_NEWADDR, _DELADDR = 20, 21
_REQUEST, _ACK, _CREATE = 0x1, 0x4, 0x400 | 0x200
_LINK_SCOPE, _PERMANENT, _BITS = 253, 0x80, 16
_ADDRESS, _LOCAL = 1, 2
_SIOCGIFADDR = 0x8915


class LinkLocal:
    """Claims an address of 169.254/16 and defends it; needs CAP_NET_RAW and CAP_NET_ADMIN.

    `first` is the address to try first, "" for one by chance.  `on_address` hears
    of the first one claimed, and of another that follows a conflict which could
    not be won.
    """

    def __init__(
        self, interface: str, seed: int, first: str, on_address: Callable[[str], None]
    ) -> None:
        self._interface = interface
        self._first = first
        self._seed = seed
        self._on_address = on_address
        self._loop = asyncio.get_running_loop()
        self._attended: Attended | None = None
        self._done = asyncio.Event()

    async def start(self) -> None:
        """Claim; returns when there is an address.  OSError without the right to."""
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_ARP))
        own = self._attended = Attended(sock, lambda: self._read(own, claim))
        sock.bind((self._interface, _ETH_ARP))
        mac = sock.getsockname()[4]
        # Hosts that are made alike draw different numbers by their MACs (section 2.1).
        draw = random.Random(f"{self._seed} {mac.hex()}")  # noqa: S311 - reproducible
        claim = Claim(mac, draw, self._loop.time(), self._first)
        self._wait(own, claim)
        await self._done.wait()

    def close(self) -> None:
        """Defend it no more; the address stays, as a host's does."""
        if self._attended:
            self._attended.close()

    def _read(self, own: Attended, claim: Claim) -> None:
        with contextlib.suppress(OSError):
            if packet := parse(own.socket.recv(1500)):
                self._do(own, claim.heard(packet, self._loop.time()))
                self._wait(own, claim)

    def _wait(self, own: Attended, claim: Claim) -> None:
        own.call_at(claim.due, lambda: self._tick(own, claim))

    def _tick(self, own: Attended, claim: Claim) -> None:
        # A timer may come a moment before its time.
        self._do(own, claim.tick(max(self._loop.time(), claim.due or 0.0)))
        self._wait(own, claim)

    def _do(self, own: Attended, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Send):
                to = (self._interface, _ETH_ARP, 0, 0, _EVERYONE)
                with contextlib.suppress(OSError):
                    own.socket.sendto(action.packet.encode(), to)
            elif isinstance(action, Take):
                with contextlib.suppress(FileExistsError):
                    _change(_NEWADDR, self._interface, action.address)
                self._on_address(action.address)
                self._done.set()
            else:
                with contextlib.suppress(OSError):
                    _change(_DELADDR, self._interface, action.address)


def address_of(interface: str) -> str:
    """The link-local address that `interface` has by now; "" if none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            answer = fcntl.ioctl(sock, _SIOCGIFADDR, struct.pack("32s", interface.encode()))
        except OSError:
            return ""
    address = ipaddress.IPv4Address(answer[20:24])
    return str(address) if address.is_link_local else ""


def _change(kind: int, interface: str, address: str) -> None:
    """Add or remove `address`/16 at `interface`; OSError if the kernel refuses."""
    packed = socket.inet_aton(address)
    index = socket.if_nametoindex(interface)
    body = struct.pack("=BBBBI", socket.AF_INET, _BITS, _PERMANENT, _LINK_SCOPE, index)
    for attribute in (_LOCAL, _ADDRESS):
        body += struct.pack("=HH4s", 8, attribute, packed)
    flags = _REQUEST | _ACK | (_CREATE if kind == _NEWADDR else 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as sock:
        sock.settimeout(1.0)
        sock.send(struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body)
        (error,) = struct.unpack_from("=i", sock.recv(4096), 16)
    if error:
        raise OSError(-error, f"{address} at {interface}")
