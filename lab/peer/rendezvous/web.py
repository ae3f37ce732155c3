"""Streams of the service that come by requests (`lab.peer.rendezvous.polling`).

`Streams` is told of each request and answers with a response, at once or when
there is something to say.  Each of its streams looks to the service like one
more connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from lab.peer.rendezvous.polling import MAX_BATCH, POLL_S, understood
from lab.peer.web.message import HttpError, Message, Parser, response

LINGER_S = 5.0
"""A stream that nobody asks for so long is over."""
IDLE_S = 60.0
"""A connection that brings no whole request for so long is closed."""
_NEVER = ("Cache-Control", "no-store")
_CLOSE = ("Connection", "close")


class Members(Protocol):
    """What is told of streams, by number."""

    def admit(self, transport: Any) -> int: ...

    def heard(self, number: int, data: bytes) -> None: ...

    def gone(self, number: int) -> None: ...

    def enter(self, address: str) -> bool: ...

    def leave(self, address: str) -> None: ...


class Stream:
    """One client's, in place of a connection: what transports of asyncio do, as far as needed."""

    def __init__(self, own: asyncio.Transport) -> None:
        self._about = {name: own.get_extra_info(name) for name in ("peername", "sockname")}
        self.number = 0
        self.heard = 0
        """Bytes that came."""
        self.base = 0
        """Bytes that arrived at the client."""
        self.unheard = bytearray()
        """What the client did not confirm yet."""
        self.give: Callable[[bytes], None] | None = None
        """Answers the GET that waits."""
        self.asked_at = 0.0
        self.over = False

    def write(self, data: bytes) -> None:
        self.unheard += data
        self.answer()

    def answer(self) -> None:
        """Answer the GET that waits, with what there is."""
        if give := self.give:
            self.give = None
            self.asked_at = asyncio.get_running_loop().time()
            give(bytes(self.unheard[:MAX_BATCH]))

    def close(self) -> None:
        """The client gets what is left, and no stream any more when it asks again."""
        self.over = True

    abort = close

    def is_closing(self) -> bool:
        return self.over

    def get_write_buffer_size(self) -> int:
        return len(self.unheard)

    def get_extra_info(self, name: str) -> Any:
        return self._about.get(name)


class Streams:
    """All streams of a service."""

    def __init__(self, members: Members) -> None:
        self._members = members
        self._streams: dict[str, Stream] = {}
        self.connections: set[Asked] = set()

    def tick(self, now: float) -> None:
        """Let GETs wait no longer than they may, and forget streams; to be called every second."""
        for name, stream in tuple(self._streams.items()):
            if stream.give and now - stream.asked_at > POLL_S:
                stream.answer()
                stream.asked_at = now
            if stream.over or (not stream.give and now - stream.asked_at > LINGER_S):
                stream.over = True
                stream.answer()
                del self._streams[name]
                self._members.leave(str(stream.get_extra_info("peername")[0]))
                self._members.gone(stream.number)
        for connection in tuple(self.connections):
            connection.tick(now)

    def post(self, name: str, offset: int, body: bytes, connection: asyncio.Transport) -> bytes:
        """Bytes of a stream, which may be a new one; the response."""
        stream = self._streams.get(name)
        if stream is None and offset == 0:
            stream = self._begin(name, connection)
        if stream is None or stream.over or offset > stream.heard:
            return response(404, "Not Found", (_NEVER,))
        stream.asked_at = asyncio.get_running_loop().time()
        if new := body[stream.heard - offset :]:
            stream.heard += len(new)
            self._members.heard(stream.number, new)
        return response(204, "No Content", (_NEVER,))

    def get(self, name: str, offset: int, give: Callable[[bytes], None]) -> Stream | None:
        """Have `give` called with what is said from `offset` on; None for no such stream."""
        stream = self._streams.get(name)
        if stream is None or not stream.base <= offset <= stream.base + len(stream.unheard):
            return None
        if stream.over and not stream.unheard[offset - stream.base :]:
            return None
        stream.answer()  # the GET before this one will not be read
        del stream.unheard[: offset - stream.base]
        stream.base = offset
        stream.asked_at = asyncio.get_running_loop().time()
        stream.give = give
        if stream.unheard:
            stream.answer()
        return stream

    def _begin(self, name: str, connection: asyncio.Transport) -> Stream | None:
        if not self._members.enter(str(connection.get_extra_info("peername")[0])):
            return None
        stream = self._streams[name] = Stream(connection)
        stream.asked_at = asyncio.get_running_loop().time()
        stream.number = self._members.admit(stream)
        return stream


class Asked:
    """One connection on which requests come."""

    def __init__(self, streams: Streams, connection: asyncio.Transport) -> None:
        self._streams = streams
        self._connection = connection
        self._parser = Parser(requests=True, max_body=MAX_BATCH)
        self._waits: Stream | None = None
        self._asked_at = asyncio.get_running_loop().time()
        streams.connections.add(self)

    def tick(self, now: float) -> None:
        """Close the connection if nothing is asked on it."""
        if not self._waits and now - self._asked_at > IDLE_S:
            self._connection.abort()

    def received(self, data: bytes) -> None:
        """Bytes have come."""
        try:
            self._parser.feed(data)
            while not self._connection.is_closing() and (message := self._parser.next()):
                self._request(message)
        except HttpError:
            self._connection.write(response(400, "Bad Request", (_CLOSE,)))
            self._connection.close()

    def lost(self) -> None:
        """The connection has ended: the stream may come by another."""
        self._streams.connections.discard(self)
        if self._waits:
            self._waits.give = None

    def _request(self, message: Message) -> None:
        self._asked_at = asyncio.get_running_loop().time()
        what = understood(message)
        if self._waits or what is None:
            self._connection.write(response(404, "Not Found", (_CLOSE,)))
            self._connection.close()
        elif what.posts:
            self._connection.write(
                self._streams.post(what.stream, what.offset, message.body, self._connection)
            )
        else:
            stream = self._streams.get(what.stream, what.offset, self._give)
            if stream is None:
                self._connection.write(response(404, "Not Found", (_NEVER,)))
            elif stream.give:
                self._waits = stream

    def _give(self, body: bytes) -> None:
        self._waits = None
        kind = ("Content-Type", "application/octet-stream")
        self._connection.write(response(200, "OK", (kind, _NEVER), body))
