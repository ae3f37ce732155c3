"""Every IP packet on every interface of a namespace, both ways, with the kernel's time stamps."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from lab.fabric import packets as sockets
from lab.fabric.packets import EQUAL, GIVE, LOAD_HALF, LOAD_WORD
from lab.observe.explain.events import Sighting
from lab.plan.names import SPLICED

_BUFFER = 8 << 20
SNAP = 2048
"""How much of a packet is kept."""

_PROTOCOL = 0xFFFFF000
"""Where a filter finds the protocol of the link layer (SKF_AD_OFF + SKF_AD_PROTOCOL)."""
_MOST = 100
"""A jump reaches 255 lines."""


class Tap:
    """A packet socket in the namespace at `path`, which is that of `node`.

    Sees IPv4 from or to `addresses` (all of it if there are very many) and
    all IPv6.  It is open until it is closed, and changes nothing meanwhile.
    """

    def __init__(self, path: Path, node: str, addresses: Sequence[str]) -> None:
        self.node = node
        # Cooked: a TUN device has no Ethernet header, and nobody asks for one here.
        with sockets.opening(
            path,
            socket.SOCK_DGRAM,
            f"the packets of {node}",
            room=_BUFFER,
            stamps=True,
            program=_filter(addresses),
        ) as self._socket:
            self._listen()

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def widen(self, addresses: Sequence[str]) -> None:
        """See IPv4 from or to these from now on."""
        sockets.attach(self._socket, _filter(addresses))

    def missed(self) -> int:
        """How many packets did not fit since it was opened, or since it was last asked."""
        return sockets.missed(self._socket)

    def read(self) -> Iterator[Sighting]:
        """What has been seen since."""
        while True:
            try:
                data, extras, _, where = self._socket.recvmsg(SNAP, 64)
            except BlockingIOError:
                return
            interface, _, kind, *_ = where
            # What passes a TAP of the ferry's passes the interface beside it, too.
            if (
                interface == "lo"
                or interface.startswith(SPLICED)
                or kind in (sockets.OTHERHOST, sockets.LOOPBACK)
            ):
                continue
            at_ns = sockets.stamp(extras)
            if at_ns is None:
                continue
            yield Sighting(
                at_ns=at_ns,
                node=self.node,
                interface=interface,
                outgoing=kind == sockets.OUTGOING,
                data=data,
            )

    def _listen(self) -> None:
        """Bind to all interfaces at once, those to come included, which Python's `bind` can't."""
        address = struct.pack(
            "=HHiHBB8s", socket.AF_PACKET, socket.htons(sockets.ALL), 0, 0, 0, 0, b""
        )
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.bind(self._socket.fileno(), address, len(address)) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def _filter(addresses: Sequence[str]) -> sockets.Program:
    """A classic BPF program: IPv6, and IPv4 from or to one of `addresses`."""
    words = [struct.unpack("!I", socket.inet_aton(one))[0] for one in addresses if ":" not in one]
    head = [(LOAD_HALF, 0, 0, _PROTOCOL)]
    if not 0 < len(words) <= _MOST:
        wanted = [(EQUAL, 2, 0, 0x86DD), (EQUAL, 1, 0, 0x0800)]
        return [*head, *wanted, (GIVE, 0, 0, 0), (GIVE, 0, 0, SNAP)]
    count = len(words)
    tests = [
        (LOAD_WORD, 0, 0, 12),
        *((EQUAL, 2 * count + 1 - index, 0, word) for index, word in enumerate(words)),
        (LOAD_WORD, 0, 0, 16),
        *((EQUAL, count - index, 0, word) for index, word in enumerate(words)),
    ]
    return [
        *head,
        (EQUAL, 2 * count + 4, 0, 0x86DD),
        (EQUAL, 0, 2 * count + 2, 0x0800),
        *tests,
        (GIVE, 0, 0, 0),
        (GIVE, 0, 0, SNAP),
    ]
