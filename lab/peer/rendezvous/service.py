"""The rendezvous role: sockets for `lab.peer.rendezvous.broker`."""

from __future__ import annotations

import asyncio
from typing import cast

from lab.peer.endpoint import Endpoint
from lab.peer.limits import Doors
from lab.peer.rendezvous.broker import Broker, Close, Command, Reach
from lab.peer.rendezvous.frames import encode
from lab.peer.rendezvous.reach import reach_back

MAX_UNREAD = 512 * 1024
"""Bytes that a client may leave unread before it is cut off; of others' words, half of that."""
MAX_CONNECTIONS = 12288
MAX_PER_ADDRESS = 1024
"""Many peers may share one address: behind a carrier's NAT all of them do."""


class RendezvousService:
    """The service on one TCP port."""

    def __init__(self, broker: Broker | None = None) -> None:
        self.broker = broker or Broker()
        self.connections: dict[int, asyncio.Transport] = {}
        self.doors = Doors(MAX_CONNECTIONS, MAX_PER_ADDRESS)
        self._next = 0
        self._listeners: list[asyncio.Server] = []
        self._timer: asyncio.TimerHandle | None = None
        self._tests: set[asyncio.Task[None]] = set()

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

    def admit(self, transport: asyncio.Transport) -> int:
        """Number a new connection."""
        self._next += 1
        self.connections[self._next] = transport
        self.carry_out(self.broker.opened(self._next, _now()))
        return self._next

    def carry_out(self, commands: list[Command]) -> None:
        """Do what the broker wants done."""
        for command in commands:
            transport = self.connections.get(command.connection)
            if transport is None or transport.is_closing():
                continue
            if isinstance(command, Close):
                transport.close()
                continue
            if isinstance(command, Reach):
                self._reach(transport, command)
                continue
            if command.lossy and transport.get_write_buffer_size() > MAX_UNREAD // 2:
                continue
            transport.write(command.data)
            if transport.get_write_buffer_size() > MAX_UNREAD:
                transport.abort()

    def _reach(self, transport: asyncio.Transport, command: Reach) -> None:
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
        self._timer = asyncio.get_running_loop().call_later(1.0, self._tick)


class _Client(asyncio.Protocol):
    def __init__(self, service: RendezvousService) -> None:
        self._service = service
        self._number = 0
        self._address = ""
        """Where it comes from; "" if it was not let in."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast("asyncio.Transport", transport)
        address = str(transport.get_extra_info("peername")[0])
        if not self._service.doors.enter(address):
            stream.abort()
            return
        self._address = address
        self._number = self._service.admit(stream)

    def data_received(self, data: bytes) -> None:
        service = self._service
        service.carry_out(service.broker.received(self._number, data, _now()))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._address:
            return
        self._service.doors.leave(self._address)
        self._service.connections.pop(self._number, None)
        self._service.broker.closed(self._number, _now())


def _now() -> float:
    return asyncio.get_running_loop().time()
