"""Datagrams to the router and back: what NAT-PMP, PCP and a search for UPnP have in common.

A router that does not speak a protocol says so at once, because its port is
closed; one that says nothing is asked three times in 1.75 s.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from lab.peer.portmap.lease import ClosedError, MalformedAnswerError, SilentError
from lab.peer.record import Tally

_T = TypeVar("_T")

PAUSES_S = (0.25, 0.5, 1.0)
"""After each try (RFC 6886, section 3.1: 250 ms, doubled)."""


@dataclass(frozen=True, slots=True)
class Host:
    """Who asks, whom, and where it is counted."""

    address: str
    gateway: str
    tally: Tally


def open_socket(address: str) -> socket.socket:
    """A UDP socket of that address, for groups on its network too."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.bind((address, 0))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
    except BaseException:
        sock.close()
        raise
    return sock


async def exchange(
    host: Host,
    port: int,
    request: bytes,
    parse: Callable[[bytes], _T],
    kind: str,
    *,
    quick: bool = False,
) -> _T:
    """The router's answer to a datagram.  What is not an answer is not looked at.

    SilentError if there is none, ClosedError if the port is closed; PortmapError
    for a refusal.  `quick`: one try, and what `parse` makes of nothing counts as one.
    """
    loop = asyncio.get_running_loop()
    asked = _Asked()
    sock = open_socket(host.address)
    sock.connect((host.gateway, port))
    transport, _ = await loop.create_datagram_endpoint(lambda: asked, sock=sock)
    try:
        for pause in PAUSES_S[:1] if quick else PAUSES_S:
            host.tally.count(kind, len(request))
            transport.sendto(request)
            deadline = loop.time() + pause
            while True:
                try:
                    async with asyncio.timeout_at(deadline):
                        data = await asked.queue.get()
                except TimeoutError:
                    break
                if not data:
                    raise ClosedError(f"the router {host.gateway} does not speak it")
                host.tally.count(kind, len(data))
                try:
                    return parse(data)
                except MalformedAnswerError:
                    continue
    finally:
        transport.close()
    if quick:
        return parse(b"")
    raise SilentError(f"the router {host.gateway} does not answer")


class _Asked(asyncio.DatagramProtocol):
    """Answers as they come; b"" if the port is closed."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes] = asyncio.Queue(16)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if data and not self.queue.full():
            self.queue.put_nowait(data)

    def error_received(self, exc: Exception) -> None:
        if not self.queue.full():
            self.queue.put_nowait(b"")
