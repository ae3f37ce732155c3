"""Datagrams through a web relay: by WebSocket, or by GET and POST where only they pass.

Both ends of an attempt name the same session, a secret number.  A tunnel's
`packets` are those that the other end sent; b"" is the end.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from lab.peer.endpoint import Endpoint
from lab.peer.streams import Packets
from lab.peer.web import websocket
from lab.peer.web.connection import READ, Connection, RefusedError, open_connection
from lab.peer.web.message import HttpError, Message, request
from lab.peer.web.requests import Requests

PATH = "/join/"
MAX_WAITING = 256
"""Packets that wait to be sent or read; more are lost, as on a network."""
MAX_BATCH = 32 * 1024
"""Bytes in the body of one POST."""


@dataclass(frozen=True, slots=True)
class Access:
    """How the relay is reached, and by what right."""

    server: Endpoint
    session: str
    user: str
    password: str
    source: str = ""
    proxy: Endpoint | None = None
    count: Callable[[int], None] = lambda _: None
    """Told the size of each HTTP message and frame."""

    @property
    def path(self) -> str:
        return f"{PATH}{self.session}"

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        return (("Authorization", basic(self.user, self.password)),)


class Tunnel(Protocol):
    """A way to the other end."""

    packets: asyncio.Queue[bytes]
    words: str
    """What carries the packets, for people."""

    def send(self, packet: bytes) -> None: ...

    async def close(self) -> None: ...


def basic(user: str, password: str) -> str:
    """The credentials in a header (RFC 7617)."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


async def by_websocket(access: Access) -> Tunnel:
    """A tunnel by WebSocket, within CONNECT if there is a proxy.

    OSError, HttpError or RefusedError if there is none.
    """
    connection = await open_connection(access.server, access.source, access.proxy)
    try:
        key = secrets.token_bytes(websocket.KEY_BYTES)
        headers = (*access.headers, *websocket.upgrade_headers(key))
        data = request("GET", access.path, str(access.server), headers)
        access.count(len(data))
        answer = await connection.ask(data)
        if not websocket.accepted(answer, key):
            raise _refused(access, answer)
    except BaseException:
        connection.close()
        raise
    return _WebSocket(access, connection)


async def by_polling(access: Access) -> Tunnel:
    """A tunnel by long polling, with whole requests, which any proxy passes on."""
    tunnel = _Polling(access)
    try:
        await tunnel.join()
    except BaseException:
        await tunnel.close()
        raise
    return tunnel


def _refused(access: Access, answer: Message) -> RefusedError:
    via = f" (by proxy {access.proxy})" if access.proxy else ""
    what = f"{answer.status} {answer.reason[:80]}"
    return RefusedError(answer.status, f"web relay {access.server}{via}: {what}")


class _WebSocket:
    def __init__(self, access: Access, connection: Connection) -> None:
        self.packets: asyncio.Queue[bytes] = asyncio.Queue(MAX_WAITING)
        self.words = f"WebSocket{' within CONNECT' if access.proxy else ''}"
        self._count = access.count
        self._connection = connection
        self._task = asyncio.get_running_loop().create_task(self._read())

    def send(self, packet: bytes) -> None:
        self._write(websocket.Opcode.BINARY, packet)

    async def close(self) -> None:
        self._write(websocket.Opcode.CLOSE, struct.pack("!H", 1000))
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._connection.close()

    def _write(self, opcode: websocket.Opcode, payload: bytes) -> None:
        writer = self._connection.writer
        full = writer.transport.get_write_buffer_size() > MAX_WAITING * 1500
        if not writer.is_closing() and not full:
            data = websocket.encode(opcode, payload, secrets.token_bytes(4))
            self._count(len(data))
            writer.write(data)

    async def _read(self) -> None:
        decoder = websocket.Decoder(masked=False)
        data = self._connection.rest()
        with contextlib.suppress(OSError, websocket.FrameError):
            while True:
                for frame in decoder.feed(data):
                    self._count(len(frame.payload) + 2)
                    if frame.opcode is websocket.Opcode.CLOSE:
                        return
                    if frame.opcode is websocket.Opcode.PING:
                        self._write(websocket.Opcode.PONG, frame.payload)
                    if frame.opcode is websocket.Opcode.BINARY and not self.packets.full():
                        self.packets.put_nowait(frame.payload)
                data = await self._connection.reader.read(READ)
                if not data:
                    return


class _Polling:
    def __init__(self, access: Access) -> None:
        self.packets: asyncio.Queue[bytes] = asyncio.Queue(MAX_WAITING)
        self.words = "GET and POST"
        self._access = access
        self._me = secrets.token_hex(8)
        self._out: asyncio.Queue[bytes] = asyncio.Queue(MAX_WAITING)
        self._requests = Requests(
            access.server, access.source, access.proxy, access.headers, access.count
        )
        self._tasks: list[asyncio.Task[None]] = []

    async def join(self) -> None:
        """Say that we are there; raises as `by_polling`."""
        await self._exchange("POST", b"")
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._get()), loop.create_task(self._post())]

    def send(self, packet: bytes) -> None:
        if not self._out.full():
            self._out.put_nowait(packet)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._requests.close()

    async def _exchange(self, method: str, body: bytes) -> Message:
        answer = await self._requests.ask(method, f"{self._access.path}/{self._me}", body)
        if answer.status not in (200, 204):
            raise _refused(self._access, answer)
        return answer

    async def _get(self) -> None:
        with contextlib.suppress(OSError, HttpError, RefusedError, ValueError):
            while True:
                answer = await self._exchange("GET", b"")
                for packet in Packets().feed(answer.body):
                    if not self.packets.full():
                        self.packets.put_nowait(packet)

    async def _post(self) -> None:
        with contextlib.suppress(OSError, HttpError, RefusedError):
            while True:
                body = parcel(await self._out.get())
                while not self._out.empty() and len(body) < MAX_BATCH:
                    body += parcel(self._out.get_nowait())
                await self._exchange("POST", body)


def parcel(packet: bytes) -> bytes:
    """A packet in a body: its length in two bytes, and itself (RFC 4571)."""
    return struct.pack("!H", len(packet)) + packet
