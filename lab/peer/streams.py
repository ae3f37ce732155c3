"""TCP connections that carry datagrams: a driver for machines that know only packets.

One local port may have a connection to each of several endpoints of the other
peer, and whichever is proven first carries the path.  On the stream each
packet has its length before it, two bytes (RFC 4571, as RFC 6544, section 3).
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import cast

from lab.peer.driver import Driver
from lab.peer.endpoint import Endpoint
from lab.peer.families import Embedding
from lab.peer.record import Tally

MAX_PACKET = 2048
"""A longer one is none of ours, and ends the connection."""
MAX_STREAMS = 8
"""Connections of one port; a new one beyond it displaces the oldest that has proven nothing."""
MAX_UNSENT = 1 << 20
"""Bytes that wait for a receiver who does not read; more packets are lost, as on a network."""
_LENGTH = struct.Struct("!H")


class Packets:
    """Cuts a stream into packets; `feed` it what arrives."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The packets that are complete now, in order; ValueError if the stream is none of ours."""
        self._buffer += data
        found = []
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if not 0 < length <= MAX_PACKET:
                raise ValueError(f"a packet of {length} bytes")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                break
            found.append(bytes(self._buffer[_LENGTH.size : end]))
            del self._buffer[:end]
        return found


class StreamDriver(Driver):
    """Machines on the TCP connections of one local port.

    What a machine sends to an endpoint goes by the connection to it, and is
    lost if there is none.  `on_open` is told of each connection.  With `nat64`,
    who comes from behind its prefix has an IPv4 address.
    """

    transport = "tcp"

    def __init__(self, tally: Tally, local: Endpoint, nat64: Embedding | None = None) -> None:
        super().__init__(tally)
        self.local = local
        self._nat64 = nat64
        self.on_open: Callable[[Endpoint], None] | None = None
        self._streams: dict[Endpoint, _Stream] = {}

    @property
    def remotes(self) -> tuple[Endpoint, ...]:
        """The other ends of the connections that are open."""
        return tuple(self._streams)

    def local_to(self, remote: Endpoint) -> Endpoint:
        """Our end of the connection to `remote`; `local` if there is none."""
        stream = self._streams.get(remote)
        return stream.local if stream else self.local

    def proven(self, remote: Endpoint) -> bool:
        """Whether an authentic packet came by the connection to `remote`."""
        stream = self._streams.get(remote)
        return stream is not None and stream.proven

    def drop(self, remote: Endpoint) -> None:
        """Reset the connection to `remote`."""
        if stream := self._streams.pop(remote, None):
            stream.abort()

    async def adopt(self, sock: socket.socket) -> bool:
        """Carry packets over a connected socket; False if there is nothing to gain by it.

        The socket belongs to the driver from here on.
        """
        try:
            local, remote = (Endpoint(*end[:2]) for end in (sock.getsockname(), sock.getpeername()))
            if self._nat64 and remote.family == 6:
                remote = self._nat64.unwrap(remote)
        except OSError as error:
            sock.close()
            self.trouble = str(error)
            return False
        # asyncio does so only for sockets that name their protocol.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._closed or remote in self._streams or not self._room():
            sock.close()
            return False
        await self._loop.connect_accepted_socket(lambda: _Stream(self, local, remote), sock)
        return remote in self._streams

    def opened(self, remote: Endpoint, stream: _Stream) -> None:
        """A connection works; called by it."""
        self._streams[remote] = stream
        if self.on_open:
            self.on_open(remote)
        self.step()

    def lost(self, remote: Endpoint, stream: _Stream, trouble: str) -> None:
        """A connection has ended; called by it."""
        if self._streams.get(remote) is stream:
            del self._streams[remote]
            self.trouble = trouble or self.trouble
            self._wake()

    def arrived(self, packet: bytes, remote: Endpoint) -> bool:
        """A packet came; whether a machine knew it."""
        known = not self._closed and self._offer(packet, remote)
        self.step()
        return known

    def close(self) -> None:
        super().close()
        for stream in tuple(self._streams.values()):
            stream.close()
        self._streams.clear()

    def _room(self) -> bool:
        if len(self._streams) < MAX_STREAMS:
            return True
        idle = next((r for r, stream in self._streams.items() if not stream.proven), None)
        if idle is None:
            return False
        self._streams.pop(idle).close()
        return True

    def _transmit(self, data: bytes, destination: Endpoint) -> None:
        if stream := self._streams.get(destination):
            stream.send(data)


class _Stream(asyncio.Protocol):
    """One connection."""

    _transport: asyncio.Transport

    def __init__(self, driver: StreamDriver, local: Endpoint, remote: Endpoint) -> None:
        self.proven = False
        """Whether an authentic packet came by it."""
        self.local = local
        self._driver = driver
        self._remote = remote
        self._packets = Packets()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._driver.opened(self._remote, self)

    def data_received(self, data: bytes) -> None:
        try:
            for packet in self._packets.feed(data):
                self.proven |= self._driver.arrived(packet, self._remote)
        except ValueError:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        trouble = str(exc) if exc else f"{self._remote} closed the connection"
        self._driver.lost(self._remote, self, trouble)

    def send(self, packet: bytes) -> None:
        if self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size() < MAX_UNSENT:
            self._transport.write(_LENGTH.pack(len(packet)) + packet)

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()
