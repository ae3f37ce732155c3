"""Whether a client can be reached from outside: the service sends to it, unasked, and sees.

Only the address that the client itself comes from is ever tried, from ports
that it never sent to, so that neither a NAT nor a stateful firewall takes the
packets for answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

from lab.peer.endpoint import Endpoint
from lab.peer.volunteer.service import BURST
from lab.peer.volunteer.wire import reach

DATAGRAMS = 3
APART_S = 0.1
LONGEST_S = 5.0


async def reach_back(to: Endpoint, token: bytes, own: str) -> None:
    """Send the token to `to` by UDP and by TCP from the address `own`, and test the line by TCP."""
    packet = reach(token)
    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
        async with asyncio.timeout(LONGEST_S):
            await asyncio.gather(_by_udp(to, packet, own), _by_tcp(to, packet, own))


async def _by_udp(to: Endpoint, packet: bytes, own: str) -> None:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if to.family == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind((own, 0))
        for _ in range(DATAGRAMS):
            await loop.sock_sendto(sock, packet, to)
            await asyncio.sleep(APART_S)


async def _by_tcp(to: Endpoint, packet: bytes, own: str) -> None:
    reader, writer = await asyncio.open_connection(to.address, to.port, local_addr=(own, 0))
    try:
        writer.write(struct.pack("!H", len(packet)) + packet)
        await reader.readexactly(BURST)
        writer.write(bytes(BURST))
        await writer.drain()
        await reader.read(1)  # the other end closes when it has everything
    finally:
        writer.transport.abort()
