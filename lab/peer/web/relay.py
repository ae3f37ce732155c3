"""The web relay: it joins the two ends of a session, whatever way each of them came.

`GET /join/<session>` with an upgrade makes a WebSocket of the connection;
`POST /join/<session>/<end>` brings packets, `GET` of the same waits for them.
Nobody joins without credentials, a session has two ends and no more, and what
one end may keep waiting is bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from lab.peer.limits import Doors
from lab.peer.streams import MAX_PACKET, Packets
from lab.peer.web import websocket
from lab.peer.web.message import HttpError, Message, Parser, response
from lab.peer.web.tunnel import PATH, basic, parcel

MAX_SESSIONS = 2048
MAX_CONNECTIONS = 4096
MAX_PER_ADDRESS = 256
"""Many peers may share one address: behind a proxy all of them do."""
MAX_WAITING = 256
"""Packets for an end that does not take them; the oldest are lost."""
POLL_S = 20.0
"""How long a GET waits: less than the patience of proxies."""
IDLE_S = 60.0
"""For a whole request, and for an end to say something; by then a WebSocket is asked."""
MAX_REQUEST = 64 * 1024
"""Bytes of a body; our own clients send half of that."""
MAX_UNREAD = 512 * 1024
"""Bytes that an end may leave unread; more packets are lost, as on a network."""
_TARGET = re.compile(re.escape(PATH) + r"([0-9a-f]{32})(?:/([0-9a-f]{16}))?\Z")
_READ = 64 * 1024


@dataclass(slots=True, eq=False)
class _End:
    """One end of a session: by WebSocket with `push`, else by polling."""

    push: Callable[[bytes], None] | None = None
    waiting: deque[bytes] = field(default_factory=lambda: deque(maxlen=MAX_WAITING))
    filled: asyncio.Event = field(default_factory=asyncio.Event)
    used_at: float = 0.0

    def give(self, packet: bytes) -> None:
        if self.push:
            self.push(packet)
        else:
            self.waiting.append(packet)
            self.filled.set()

    def take(self) -> bytes:
        body = b"".join(map(parcel, self.waiting))
        self.waiting.clear()
        self.filled.clear()
        return body


class WebRelay:
    """Sessions and the connections that belong to them."""

    def __init__(self, user: str, password: str) -> None:
        self._credentials = basic(user, password)
        self._sessions: dict[str, dict[str, _End]] = {}
        self._servers: list[asyncio.Server] = []
        self.doors = Doors(MAX_CONNECTIONS, MAX_PER_ADDRESS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def start(self, addresses: tuple[str, ...], ports: tuple[int, ...]) -> None:
        """Listen; OSError if that can't be."""
        for port in ports:
            self._servers.append(await asyncio.start_server(self._serve, addresses, port))
        self._tick()

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()
        for server in self._servers:
            server.close()
        for task in tuple(self._tasks):
            task.cancel()

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        for session, ends in tuple(self._sessions.items()):
            for name, end in tuple(ends.items()):
                if end.push is None and loop.time() - end.used_at > IDLE_S:
                    self._leave(session, name)
        self._timer = loop.call_later(IDLE_S / 4, self._tick)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = str(writer.get_extra_info("peername")[0])
        if not self.doors.enter(address):
            writer.transport.abort()
            return
        task = asyncio.current_task()
        if task:
            self._tasks.add(task)
        try:
            await self._requests(reader, writer)
        except (HttpError, websocket.FrameError):
            writer.write(response(400, "Bad Request", (("Connection", "close"),)))
        except (OSError, TimeoutError):
            pass  # whoever it was is gone
        finally:
            self.doors.leave(address)
            self._tasks.discard(task) if task else None
            writer.close()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = Parser(requests=True, max_body=MAX_REQUEST)
        while True:
            # One deadline for all of a request: who brings it by the byte gets no longer.
            async with asyncio.timeout(IDLE_S):
                while (message := parser.next()) is None:
                    data = await reader.read(_READ)
                    if not data:
                        return
                    parser.feed(data)
            found = _TARGET.match(_path(message.target))
            refusal = self._refusal(message, found)
            if refusal:
                writer.write(refusal)
                return
            assert found  # noqa: S101 - else it was refused
            session, end = found[1], found[2]
            if end is None:
                await self._websocket(session, message, parser.rest(), reader, writer)
                return
            writer.write(await self._poll(session, end, message))
            # Nothing more is done for who does not read what he asked for.
            async with asyncio.timeout(IDLE_S):
                await writer.drain()
            if message.says("Connection", "close"):
                return

    def _refusal(self, message: Message, found: re.Match[str] | None) -> bytes:
        close = ("Connection", "close")
        given = message.header("Authorization").encode("latin-1")
        if not hmac.compare_digest(given, self._credentials.encode()):
            return response(401, "Unauthorized", (("WWW-Authenticate", 'Basic realm="lab"'), close))
        if found is None:
            return response(404, "Not Found", (close,))
        session, end = found[1], found[2]
        if message.method not in (("GET", "POST") if end else ("GET",)):
            return response(405, "Method Not Allowed", (("Allow", "GET, POST"), close))
        if end is None and websocket.accept_headers(message) is None:
            needed = (("Upgrade", "websocket"), ("Connection", "Upgrade, close"))
            return response(426, "Upgrade Required", needed)
        ends = self._sessions.get(session, {})
        if end not in ends and (len(ends) >= 2 or len(self._sessions) >= MAX_SESSIONS):
            return response(403, "Forbidden", (close,))
        return b""

    def _join(self, session: str, name: str) -> _End:
        end = self._sessions.setdefault(session, {}).setdefault(name, _End())
        end.used_at = asyncio.get_running_loop().time()
        return end

    def _leave(self, session: str, name: str) -> None:
        ends = self._sessions.get(session, {})
        ends.pop(name, None)
        if not ends:
            self._sessions.pop(session, None)

    def _pass_on(self, session: str, sender: str, packet: bytes) -> None:
        if not 0 < len(packet) <= MAX_PACKET:
            return
        for name, end in self._sessions.get(session, {}).items():
            if name != sender:
                end.give(packet)

    async def _poll(self, session: str, name: str, message: Message) -> bytes:
        end = self._join(session, name)
        kind = ("Content-Type", "application/octet-stream")
        never = ("Cache-Control", "no-store")
        if message.method == "POST":
            try:
                for packet in Packets().feed(message.body):
                    self._pass_on(session, name, packet)
            except ValueError as error:
                raise HttpError(str(error)) from error
            return response(204, "No Content", (never,))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_S):
                await end.filled.wait()
        end.used_at = asyncio.get_running_loop().time()
        return response(200, "OK", (kind, never), end.take())

    async def _websocket(
        self,
        session: str,
        message: Message,
        data: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        headers = websocket.accept_headers(message)
        assert headers  # noqa: S101 - checked before
        writer.write(response(101, "Switching Protocols", headers))
        name = f"{id(writer):x}"
        end = self._join(session, name)

        def say(opcode: websocket.Opcode, payload: bytes) -> None:
            if writer.transport.get_write_buffer_size() < MAX_UNREAD:
                writer.write(websocket.encode(opcode, payload))

        end.push = lambda packet: say(websocket.Opcode.BINARY, packet)
        decoder = websocket.Decoder(masked=True)
        try:
            while True:
                for frame in decoder.feed(data):
                    match frame.opcode:
                        case websocket.Opcode.BINARY:
                            self._pass_on(session, name, frame.payload)
                        case websocket.Opcode.PING:
                            say(websocket.Opcode.PONG, frame.payload)
                        case websocket.Opcode.CLOSE:
                            say(websocket.Opcode.CLOSE, frame.payload)
                            return
                data = await _heard(reader, lambda: say(websocket.Opcode.PING, b""))
                if not data:
                    return
        except websocket.FrameError:
            say(websocket.Opcode.CLOSE, b"\x03\xea")  # 1002
        finally:
            self._leave(session, name)


async def _heard(reader: asyncio.StreamReader, ask: Callable[[], None]) -> bytes:
    """What comes next; who says nothing is asked once, and TimeoutError if that is in vain."""
    reading = asyncio.ensure_future(reader.read(_READ))
    try:
        done, _ = await asyncio.wait((reading,), timeout=IDLE_S)
        if not done:
            ask()
        async with asyncio.timeout(IDLE_S):
            return await reading
    finally:
        reading.cancel()


def _path(target: str) -> str:
    """The path of a target in origin or absolute form."""
    if target.startswith("http://"):
        _, slash, path = target[7:].partition("/")
        return slash + path
    return target
