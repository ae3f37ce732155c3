"""Ways to the rendezvous service: straight, through a proxy's tunnel, or by whole requests."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from lab.peer.endpoint import Endpoint
from lab.peer.families import Embedding
from lab.peer.rendezvous.polling import PolledStream
from lab.peer.web.connection import RefusedError, open_connection
from lab.peer.web.message import HttpError

QUIET_S = 3
"""How long nothing is sent before TCP asks whether the way still works, in whole seconds.

Where a NAT on the way has restarted, what this end sends is the first that anybody
hears of it: for so long at most nobody can call this peer.
"""
AGAIN_S = 1
"""Between two such questions."""
SILENCE_S = 4.5
"""A connection on which nothing was acknowledged for so long is given up: its way is dead.

Two questions go before that: one may be lost, and its answer may take more than a
second, by satellite or where a modem has a full queue.
"""


class Incoming(Protocol):
    """What comes by a way."""

    async def read(self, most: int, /) -> bytes: ...


class Outgoing(Protocol):
    """What goes by a way."""

    def write(self, data: bytes, /) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Ways:
    """How this peer may reach the service."""

    source: Callable[[Endpoint], str]
    """By which address of its own."""
    nat64: Embedding | None = None
    proxy: Endpoint | None = None

    async def connect(self, server: Endpoint) -> tuple[Endpoint, Incoming, Outgoing]:
        """A way to `server`, by the proxy if there is one and it lets this peer; OSError."""
        if self.proxy:
            try:
                return server, *await _by_proxy(server, self.source(self.proxy), self.proxy)
            except (OSError, RefusedError, HttpError):
                pass  # not every firewall needs a proxy
        to = self.nat64.wrap(server) if self.nat64 else server
        own = self.source(server)
        reader, writer = await asyncio.open_connection(
            to.address, to.port, limit=64 * 1024, local_addr=(own, 0) if own else None
        )
        _watch(writer)
        return server, reader, writer


async def _by_proxy(server: Endpoint, source: str, proxy: Endpoint) -> tuple[Incoming, Outgoing]:
    """A tunnel, or whole requests where there is none; OSError, RefusedError or HttpError."""
    try:
        way = await open_connection(server, source, proxy)
    except RefusedError:
        stream = PolledStream(server, source, proxy)
        await stream.open()
        return stream, stream
    _watch(way.writer)
    return way.reader, way.writer


def _watch(writer: asyncio.StreamWriter) -> None:
    """Have the kernel end a connection whose way has died (RFC 5482), used or not."""
    sock: socket.socket = writer.get_extra_info("socket")
    for level, option, value in (
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(SILENCE_S * 1000)),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, QUIET_S),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, AGAIN_S),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    ):
        sock.setsockopt(level, option, value)
