"""A volunteer's sockets: one port, UDP and TCP, for pairs that it carries and for its tests."""

from __future__ import annotations

import asyncio
import hmac
import struct
from typing import cast

from lab.peer.endpoint import Endpoint
from lab.peer.streams import Packets
from lab.peer.volunteer.carrier import Carrier, Client, Send
from lab.peer.volunteer.wire import Type, parse

BURST = 128 * 1024
"""Bytes by which a line is tested, in each direction."""
MAX_STREAMS = 64
MAX_UNSENT = 64 * 1024
"""Bytes that wait for a client; a relay does not store, so what is more is dropped."""
STRANGER_S = 10.0
"""How long a TCP client may stay without being one of a pair."""


class Arrivals:
    """What came of one test: the service's packets, and how long the bursts took."""

    def __init__(self, token: bytes) -> None:
        self.token = token
        self.udp = asyncio.Event()
        self.tcp = asyncio.Event()
        self.measured = asyncio.Event()
        self.line_bps = 0.0


class Volunteer:
    """The sockets of one volunteer."""

    def __init__(self, carrier: Carrier) -> None:
        self.carrier = carrier
        self.streams: dict[Client, _Stream] = {}
        self.open = 0
        """TCP connections, whoever's."""
        self.expected: Arrivals | None = None
        """The test that is under way."""
        self._sockets: dict[int, asyncio.DatagramTransport] = {}
        self._listeners: list[asyncio.Server] = []
        self._timer: asyncio.TimerHandle | None = None

    async def start(self, addresses: tuple[str, ...], port: int) -> None:
        """Listen; OSError if the port is taken."""
        loop = asyncio.get_running_loop()
        for address in addresses:
            local = Endpoint(address, port)
            transport, _ = await loop.create_datagram_endpoint(
                lambda: _Socket(self), local_addr=local
            )
            self._sockets.setdefault(local.family, transport)
            self._listeners.append(
                await loop.create_server(lambda: _Stream(self), address, port, backlog=64)
            )
        self._tick()

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()
        for transport in self._sockets.values():
            transport.close()
        for listener in self._listeners:
            listener.close()
        for stream in tuple(self.streams.values()):
            stream.close()

    def received(self, client: Client, data: bytes) -> None:
        """A packet came, by whatever transport."""
        for send in self.carrier.received(client, data, asyncio.get_running_loop().time()):
            self._send(send)

    def reached(self, data: bytes) -> Arrivals | None:
        """The test that a packet of the service belongs to."""
        packet = parse(data)
        if packet is None or packet.type is not Type.REACH or self.expected is None:
            return None
        right = hmac.compare_digest(packet.more, self.expected.token)
        return self.expected if right else None

    def _send(self, send: Send) -> None:
        transport, endpoint = send.client
        if transport == "tcp":
            if stream := self.streams.get(send.client):
                stream.send(send.data)
        elif sock := self._sockets.get(endpoint.family):
            sock.sendto(send.data, endpoint)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self.carrier.tick(loop.time())
        self._timer = loop.call_later(1.0, self._tick)


class _Socket(asyncio.DatagramProtocol):
    def __init__(self, service: Volunteer) -> None:
        self._service = service

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if test := self._service.reached(data):
            test.udp.set()
        elif data:
            self._service.received(Client("udp", Endpoint(addr[0], addr[1])), data)

    def error_received(self, exc: Exception) -> None:
        """A client that is gone: its pair expires."""


class _Stream(asyncio.Protocol):
    """One TCP connection: a client's, or the service's that tests the line."""

    _transport: asyncio.Transport

    def __init__(self, service: Volunteer) -> None:
        self._service = service
        self._client = Client("tcp", Endpoint("0.0.0.0", 0))
        self._packets = Packets()
        self._test: Arrivals | None = None
        self._began = self._first = 0.0
        self._got = 0
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._client = Client("tcp", Endpoint(*transport.get_extra_info("peername")[:2]))
        self._service.open += 1
        if self._service.open > MAX_STREAMS:
            self._transport.abort()
            return
        self._service.streams[self._client] = self
        loop = asyncio.get_running_loop()
        self._patience = loop.call_later(STRANGER_S, self._stranger)

    def data_received(self, data: bytes) -> None:
        if self._test:
            self._count(len(data))
            return
        try:
            packets = self._packets.feed(data)
        except ValueError:
            self._transport.abort()
            return
        for packet in packets:
            if test := self._service.reached(packet):
                self._begin(test)
                return
            self._service.received(self._client, packet)

    def connection_lost(self, exc: Exception | None) -> None:
        self._service.open -= 1
        if self._patience:
            self._patience.cancel()
        if self._service.streams.get(self._client) is self:
            del self._service.streams[self._client]
            self._service.carrier.gone(self._client)

    def send(self, packet: bytes) -> None:
        if self._transport.get_write_buffer_size() < MAX_UNSENT:
            self._transport.write(struct.pack("!H", len(packet)) + packet)

    def close(self) -> None:
        self._transport.abort()

    def _stranger(self) -> None:
        if not self._service.carrier.seats(self._client):
            self._transport.abort()

    def _begin(self, test: Arrivals) -> None:
        """Send a burst; when the other end has it all, it sends one back."""
        test.tcp.set()
        self._test = test
        self._began = asyncio.get_running_loop().time()
        self._transport.write(bytes(BURST))

    def _count(self, size: int) -> None:
        now = asyncio.get_running_loop().time()
        if not self._got:
            self._first = now
        self._got += size
        if self._got >= BURST and self._test:
            slower = max(self._first - self._began, now - self._first, 1e-6)
            self._test.line_bps = BURST * 8 / slower
            self._test.measured.set()
            self._transport.close()
