"""The STUN role: sockets for `lab.peer.stun.responder`."""

from __future__ import annotations

import asyncio
from typing import cast

from lab.peer.endpoint import Endpoint
from lab.peer.limits import Buckets, Doors, party
from lab.peer.stun.codec import MalformedError
from lab.peer.stun.framing import Splitter, frame
from lab.peer.stun.responder import Site, respond

MAX_STREAMS = 1024
MAX_PER_ADDRESS = 512
"""Many clients may share one address: behind a carrier's NAT all of them do."""
STREAM_IDLE_S = 30.0
"""Between two whole messages: bytes that make none keep no connection open."""
ANSWERS_PER_S = 1000.0
"""Datagrams to one address; twice as many at once.  An answer is up to three times as long
as its question, and who asks may have forged where the answer goes."""
MAX_UNREAD = 64 * 1024
"""Bytes that a client may leave unread before it is cut off."""


class StunService:
    """A STUN server on every endpoint of a site, UDP and TCP; each family is a site of its own."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.streams: set[_Stream] = set()
        self.doors = Doors(MAX_STREAMS, MAX_PER_ADDRESS)
        self._answers = Buckets(ANSWERS_PER_S, 2 * ANSWERS_PER_S)
        self._sockets: dict[Endpoint, asyncio.DatagramTransport] = {}
        self._listeners: list[asyncio.Server] = []

    async def start(self) -> None:
        """Listen; OSError if an endpoint is taken or not ours."""
        loop = asyncio.get_running_loop()
        for endpoint in self.site.endpoints:
            transport, _ = await loop.create_datagram_endpoint(
                lambda here=endpoint: _Socket(self, here),  # type: ignore[misc]  # bound early
                local_addr=endpoint,
            )
            self._sockets[endpoint] = transport
            self._listeners.append(
                await loop.create_server(
                    lambda here=endpoint: _Stream(self, here),  # type: ignore[misc]  # as above
                    endpoint.address,
                    endpoint.port,
                    backlog=512,
                )
            )

    def close(self) -> None:
        for transport in self._sockets.values():
            transport.close()
        for listener in self._listeners:
            listener.close()
        for stream in tuple(self.streams):
            stream.close()

    def answer(self, data: bytes, source: Endpoint, local: Endpoint) -> None:
        """Answer a datagram."""
        reply = respond(data, source, local, self.site)
        now = asyncio.get_running_loop().time()
        if reply and self._answers.take(party(source.address), now):
            self._sockets[reply.origin].sendto(reply.payload, reply.destination)


class _Socket(asyncio.DatagramProtocol):
    def __init__(self, service: StunService, local: Endpoint) -> None:
        self._service = service
        self._local = local

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._service.answer(data, Endpoint(addr[0], addr[1]), self._local)

    def error_received(self, exc: Exception) -> None:
        """A client that is gone: nobody to tell."""


class _Stream(asyncio.Protocol):
    """One TCP client, closed when it is idle or talks nonsense."""

    _transport: asyncio.Transport

    def __init__(self, service: StunService, local: Endpoint) -> None:
        self._service = service
        self._local = local
        self._splitter = Splitter(limit=1024)
        self._source = local
        self._idle: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._source = Endpoint(*transport.get_extra_info("peername")[:2])
        if not self._service.doors.enter(self._source.address):
            transport.abort()  # type: ignore[attr-defined]  # a stream's transport has it
            return
        self._service.streams.add(self)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._service.streams:
            self._service.streams.discard(self)
            self._service.doors.leave(self._source.address)
        if self._idle:
            self._idle.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._splitter.feed(data)
            for message in messages:
                reply = respond(message, self._source, self._local, self._service.site, stream=True)
                if reply:
                    self._transport.write(frame(reply.payload))
            if self._transport.get_write_buffer_size() > MAX_UNREAD:
                self._transport.abort()
        except MalformedError:
            self.close()
            return
        if messages:
            self._watch()

    def close(self) -> None:
        self._transport.close()

    def _watch(self) -> None:
        if self._idle:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(STREAM_IDLE_S, self.close)
