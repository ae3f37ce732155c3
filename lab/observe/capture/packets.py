"""Every IP packet on every interface of a namespace, both ways, with the kernel's time stamps."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from lab.errors import LabError, MissingError
from lab.fabric import netns
from lab.observe.explain.events import Sighting
from lab.plan.names import SPLICED

_ETH_P_ALL = 3
_PACKET_OUTGOING, _PACKET_OTHERHOST, _PACKET_LOOPBACK = 4, 3, 5
_SO_TIMESTAMPNS = 35
_SO_ATTACH_FILTER = 26
_SO_RCVBUFFORCE = 33
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_BUFFER = 8 << 20
_STAMP = struct.Struct("=qq")
SNAP = 2048
"""How much of a packet is kept."""

_LOAD_HALF, _LOAD_WORD, _EQUAL, _GIVE = 0x28, 0x20, 0x15, 0x06
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
        with netns.inside(path):
            try:
                # Cooked: a TUN device has no Ethernet header, and nobody asks for one here.
                self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
            except PermissionError as error:
                raise MissingError(
                    "not allowed to look at packets", remedy="run as root, or with CAP_NET_RAW"
                ) from error
            try:
                self._prepare(addresses)
                # Bound last: nothing is heard before the filter is there.
                self._listen()
            except OSError as error:
                self._socket.close()
                raise LabError(f"can't look at the packets of {node}: {error.strerror}") from error

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def missed(self) -> int:
        """How many packets did not fit since it was opened, or since it was last asked."""
        answer = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        return int(struct.unpack("=II", answer)[1])

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
                or kind in (_PACKET_OTHERHOST, _PACKET_LOOPBACK)
            ):
                continue
            stamp = next((value for _, what, value in extras if what == _SO_TIMESTAMPNS), None)
            if stamp is None:
                continue
            seconds, nanoseconds = _STAMP.unpack(stamp[: _STAMP.size])
            yield Sighting(
                at_ns=seconds * 10**9 + nanoseconds,
                node=self.node,
                interface=interface,
                outgoing=kind == _PACKET_OUTGOING,
                data=data,
            )

    def _prepare(self, addresses: Sequence[str]) -> None:
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        lines = _filter(addresses)
        program = b"".join(struct.pack("=HBBI", *line) for line in lines)
        buffer = ctypes.create_string_buffer(program, len(program))
        request = struct.pack("HL", len(lines), ctypes.addressof(buffer))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, request)

    def _listen(self) -> None:
        """Bind to all interfaces at once, those to come included, which Python's `bind` can't."""
        address = struct.pack(
            "=HHiHBB8s", socket.AF_PACKET, socket.htons(_ETH_P_ALL), 0, 0, 0, 0, b""
        )
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.bind(self._socket.fileno(), address, len(address)) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def _filter(addresses: Sequence[str]) -> list[tuple[int, int, int, int]]:
    """A classic BPF program: IPv6, and IPv4 from or to one of `addresses`."""
    words = [struct.unpack("!I", socket.inet_aton(one))[0] for one in addresses if ":" not in one]
    head = [(_LOAD_HALF, 0, 0, _PROTOCOL)]
    if not 0 < len(words) <= _MOST:
        wanted = [(_EQUAL, 2, 0, 0x86DD), (_EQUAL, 1, 0, 0x0800)]
        return [*head, *wanted, (_GIVE, 0, 0, 0), (_GIVE, 0, 0, SNAP)]
    count = len(words)
    tests = [
        (_LOAD_WORD, 0, 0, 12),
        *((_EQUAL, 2 * count + 1 - index, 0, word) for index, word in enumerate(words)),
        (_LOAD_WORD, 0, 0, 16),
        *((_EQUAL, count - index, 0, word) for index, word in enumerate(words)),
    ]
    return [
        *head,
        (_EQUAL, 2 * count + 4, 0, 0x86DD),
        (_EQUAL, 0, 2 * count + 2, 0x0800),
        *tests,
        (_GIVE, 0, 0, 0),
        (_GIVE, 0, 0, SNAP),
    ]
