"""The relay role: sockets for `lab.peer.relay.server`."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from lab.peer.endpoint import Endpoint
from lab.peer.limits import Doors
from lab.peer.relay.allocation import Client
from lab.peer.relay.commands import Command, Forward, Open, Reply, Shut
from lab.peer.relay.server import RelayServer
from lab.peer.stun.codec import MalformedError
from lab.peer.stun.framing import Splitter, frame

MAX_STREAMS = 4096
MAX_PER_ADDRESS = 1024
MAX_UNREAD = 1024 * 1024
"""Bytes that a TCP client may leave unread; beyond that packets are dropped, as a queue does."""
EVEN_TRIES = 32
"""Each finds an even port with probability one half."""
STRANGER_S = 60.0
"""How long a TCP client may stay without an allocation."""


class RelayService:
    """A TURN server on some addresses and one port, UDP and TCP."""

    def __init__(self, server: RelayServer) -> None:
        self.server = server
        self.streams: dict[Client, asyncio.Transport] = {}
        self.doors = Doors(MAX_STREAMS, MAX_PER_ADDRESS)
        self._sockets: dict[Endpoint, asyncio.DatagramTransport] = {}
        self._relays: dict[Endpoint, asyncio.DatagramTransport] = {}
        self._listeners: list[asyncio.Server] = []
        self._timer: asyncio.TimerHandle | None = None

    async def start(self, addresses: tuple[str, ...], port: int) -> None:
        """Listen; OSError if the port is taken."""
        loop = asyncio.get_running_loop()
        for address in addresses:
            local = Endpoint(address, port)
            transport, _ = await loop.create_datagram_endpoint(
                lambda here=local: _Socket(self, here),  # type: ignore[misc]  # bound early
                local_addr=local,
            )
            self._sockets[local] = transport
            self._listeners.append(
                await loop.create_server(
                    lambda here=local: _Stream(self, here),  # type: ignore[misc]  # as above
                    address,
                    port,
                    backlog=512,
                )
            )
        self._tick()

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()
        for transport in (*self._sockets.values(), *self._relays.values()):
            transport.close()
        for listener in self._listeners:
            listener.close()
        for stream in tuple(self.streams.values()):
            stream.close()

    def carry_out(self, commands: list[Command]) -> None:
        """Do what the server wants done."""
        for command in commands:
            match command:
                case Reply(client, data):
                    self._reply(client, data)
                case Forward(relayed, peer, data):
                    transport = self._relays.get(relayed)
                    if transport:
                        transport.sendto(data, peer)
                case Open(client, even, family):
                    self._open(client, even=even, family=family)
                case Shut(relayed):
                    transport = self._relays.pop(relayed, None)
                    if transport:
                        transport.close()

    def _reply(self, client: Client, data: bytes) -> None:
        if client.transport == "udp":
            self._sockets[client.server].sendto(data, client.endpoint)
            return
        stream = self.streams.get(client)
        if stream and stream.get_write_buffer_size() < MAX_UNREAD:
            stream.write(frame(data))

    def _open(self, client: Client, *, even: bool, family: int) -> None:
        loop = asyncio.get_running_loop()
        own = (client.server, *self._sockets)
        address = next(here.address for here in own if here.family == family)
        sock = _bound(address, even=even)
        if sock is None:
            self.carry_out(self.server.opened(client, None, loop.time()))
            return
        relayed = Endpoint(*sock.getsockname()[:2])
        task = loop.create_task(
            loop.create_datagram_endpoint(lambda: _Relay(self, relayed, client), sock=sock)
        )
        # The task ends within this turn of the loop; its result arrives by `relay_opened`.
        task.add_done_callback(lambda done: done.exception())

    def relay_opened(
        self, client: Client, relayed: Endpoint, transport: asyncio.DatagramTransport
    ) -> None:
        """A relayed endpoint's socket is ready."""
        self._relays[relayed] = transport
        self.carry_out(self.server.opened(client, relayed, _now()))

    def dismiss_stranger(self, client: Client) -> bool:
        """Close a TCP connection that has no allocation by now; whether it had none."""
        stream = self.streams.get(client)
        strange = client not in self.server.allocations
        if stream and strange:
            stream.close()
        return strange

    def _tick(self) -> None:
        self.carry_out(self.server.tick(_now()))
        self._timer = asyncio.get_running_loop().call_later(1.0, self._tick)


class _Socket(asyncio.DatagramProtocol):
    def __init__(self, service: RelayService, local: Endpoint) -> None:
        self._service = service
        self._local = local

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        client = Client("udp", Endpoint(addr[0], addr[1]), self._local)
        self._service.carry_out(self._service.server.from_client(client, data, _now()))

    def error_received(self, exc: Exception) -> None:
        """A client that is gone: its allocation expires."""


class _Relay(asyncio.DatagramProtocol):
    def __init__(self, service: RelayService, relayed: Endpoint, client: Client) -> None:
        self._service = service
        self._relayed = relayed
        self._client = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        datagrams = cast("asyncio.DatagramTransport", transport)
        self._service.relay_opened(self._client, self._relayed, datagrams)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        peer = Endpoint(addr[0], addr[1])
        commands = self._service.server.from_peer(self._relayed, peer, data, _now())
        self._service.carry_out(commands)

    def error_received(self, exc: Exception) -> None:
        """A peer that cannot be reached: TURN has no word for it here."""


class _Stream(asyncio.Protocol):
    _transport: asyncio.Transport

    def __init__(self, service: RelayService, local: Endpoint) -> None:
        self._service = service
        self._local = local
        self._client = Client("tcp", local, local)
        self._splitter = Splitter()
        self._probation: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        source = Endpoint(*transport.get_extra_info("peername")[:2])
        self._client = Client("tcp", source, self._local)
        if not self._service.doors.enter(source.address):
            self._transport.abort()
            return
        self._service.streams[self._client] = self._transport
        self._watch()

    def _watch(self) -> None:
        """See to it that it does not stay without an allocation, from now on or again."""
        self._probation = asyncio.get_running_loop().call_later(STRANGER_S, self._question)

    def _question(self) -> None:
        if not self._service.dismiss_stranger(self._client):
            self._watch()

    def data_received(self, data: bytes) -> None:
        service = self._service
        try:
            for message in self._splitter.feed(data):
                service.carry_out(service.server.from_client(self._client, message, _now()))
        except MalformedError:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._probation:
            self._probation.cancel()
        if self._service.streams.get(self._client) is not self._transport:
            return  # it was never let in
        del self._service.streams[self._client]
        self._service.doors.leave(self._client.endpoint.address)
        self._service.carry_out(self._service.server.gone(self._client))


def _bound(address: str, *, even: bool) -> socket.socket | None:
    """A UDP socket on a free port of `address`, an even one if asked; None if there is none."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for _ in range(EVEN_TRIES if even else 1):
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.bind((address, 0))
        except OSError:
            sock.close()
            return None
        if not even or sock.getsockname()[1] % 2 == 0:
            return sock
        sock.close()
    return None


def _now() -> float:
    return asyncio.get_running_loop().time()
