"""The rendezvous role: sockets for `lab.peer.rendezvous.broker`."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
from typing import cast

from lab.peer.endpoint import Endpoint
from lab.peer.limits import Doors
from lab.peer.rendezvous.broker import Broker
from lab.peer.rendezvous.commands import Close, Command, Reach, Send
from lab.peer.rendezvous.frames import encode
from lab.peer.rendezvous.parcels import ROOM
from lab.peer.rendezvous.reach import reach_back
from lab.peer.rendezvous.web import Asked, Stream, Streams

MAX_UNREAD = 2 * ROOM
"""Bytes that a client may leave unread before it is cut off."""
MAX_CONNECTIONS = 12288
MAX_PER_ADDRESS = 1024
"""Many peers may share one address: behind a carrier's NAT all of them do."""
_COUNT = struct.Struct("i")


class RendezvousService:
    """The service on one TCP port."""

    def __init__(self) -> None:
        self.broker = Broker(unread=self._unread)
        self.connections: dict[int, asyncio.Transport | Stream] = {}
        self.doors = Doors(MAX_CONNECTIONS, MAX_PER_ADDRESS)
        self._waiting: dict[int, int] = {}
        """Bytes for a connection that its kernel had not been given when that was last seen: a
        connection that breaks has no buffer any more, and nothing of what was in it arrives."""
        self._next = 0
        self._listeners: list[asyncio.Server] = []
        self._timer: asyncio.TimerHandle | None = None
        self._tests: set[asyncio.Task[None]] = set()
        self.streams = Streams(self)

    async def start(self, addresses: tuple[str, ...], port: int) -> None:
        """Listen; OSError if the port is taken."""
        loop = asyncio.get_running_loop()
        for address in addresses or ("0.0.0.0",):
            self._listeners.append(
                await loop.create_server(lambda: _Client(self), address, port, backlog=1024)
            )
        self._tick()

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()
        for test in tuple(self._tests):
            test.cancel()
        for listener in self._listeners:
            listener.close()
        for transport in tuple(self.connections.values()):
            transport.close()

    def admit(self, transport: asyncio.Transport | Stream) -> int:
        """Number a new connection."""
        self._next += 1
        self.connections[self._next] = transport
        self.carry_out(self.broker.opened(self._next, _now()))
        return self._next

    def heard(self, number: int, data: bytes) -> None:
        """Bytes of a connection."""
        self.carry_out(self.broker.received(number, data, _now()))

    def gone(self, number: int) -> None:
        """A connection has ended."""
        commands = self.broker.closed(number, _now())
        self.connections.pop(number, None)
        self._waiting.pop(number, None)
        self.carry_out(commands)

    def enter(self, address: str) -> bool:
        """Whether there is room for one more from that address; then `leave` has to follow."""
        return self.doors.enter(address)

    def leave(self, address: str) -> None:
        """One of that address has gone."""
        self.doors.leave(address)

    def carry_out(self, commands: list[Command]) -> None:
        """Do what the broker wants done."""
        for command in commands:
            transport = self.connections.get(command.connection)
            if transport is None:
                continue
            if isinstance(command, Send):
                self._write(command.connection, transport, command.data)
            elif isinstance(command, Close):
                transport.close()
            elif not transport.is_closing():
                self._reach(transport, command)

    def _write(self, number: int, transport: asyncio.Transport | Stream, data: bytes) -> None:
        waits = self._waiting.get(number, 0) + len(data)
        if not transport.is_closing():
            transport.write(data)
        if not transport.is_closing():
            waits = transport.get_write_buffer_size()
            if waits > MAX_UNREAD:
                transport.abort()
        self._waiting[number] = waits

    def _unread(self, number: int) -> int:
        transport = self.connections.get(number)
        if transport is None:
            return 0
        if not transport.is_closing():
            self._waiting[number] = transport.get_write_buffer_size()
        sock = transport.get_extra_info("socket")
        return self._waiting.get(number, 0) + (_unacknowledged(sock) if sock else 0)

    def _reach(self, transport: asyncio.Transport | Stream, command: Reach) -> None:
        address = transport.get_extra_info("peername")[0]
        own = transport.get_extra_info("sockname")[0]
        answer = {"t": "reaching", "id": command.number, "address": address}
        transport.write(encode(answer))
        test = asyncio.get_running_loop().create_task(
            reach_back(Endpoint(address, command.port), command.token, own)
        )
        self._tests.add(test)
        test.add_done_callback(self._tests.discard)

    def _tick(self) -> None:
        self.carry_out(self.broker.tick(_now()))
        self.streams.tick(_now())
        self._timer = asyncio.get_running_loop().call_later(1.0, self._tick)


class _Client(asyncio.Protocol):
    """A connection: frames, or requests that carry them.

    No frame is so long that its first byte is a letter, and every request begins with one.
    """

    _transport: asyncio.Transport

    def __init__(self, service: RendezvousService) -> None:
        self._service = service
        self._number = 0
        self._address = ""
        """Where it comes from; "" if it was not let in."""
        self._known = False
        """Which of the two it is."""
        self._asked: Asked | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        address = str(transport.get_extra_info("peername")[0])
        if not self._service.enter(address):
            self._transport.abort()
            return
        self._address = address
        self._number = self._service.admit(self._transport)

    def data_received(self, data: bytes) -> None:
        if not self._known and data[:1].isalpha():
            # What counts from now on are the streams that it brings.
            self._service.gone(self._number)
            self._asked = Asked(self._service.streams, self._transport)
        self._known = True
        if self._asked:
            self._asked.received(data)
        else:
            self._service.heard(self._number, data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._address:
            return
        self._service.leave(self._address)
        if self._asked:
            self._asked.lost()
        else:
            self._service.gone(self._number)


def _unacknowledged(sock: socket.socket) -> int:
    """Bytes that the kernel has sent, or will, and that were not acknowledged (tcp(7))."""
    try:
        answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(_COUNT.size))
    except (OSError, ValueError):
        return 0  # It is closed.
    return int(_COUNT.unpack(answer)[0])


def _now() -> float:
    return asyncio.get_running_loop().time()
