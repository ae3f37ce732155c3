"""The stream of the rendezvous service by whole requests, for proxies that open no tunnels.

A client draws a number for its stream.  `POST /rendezvous/<number>/<offset>`
brings bytes, the first of which is at that offset of what the client says;
`GET` of the same waits for what the service says from that offset on, and so
tells it what has arrived.  A request that comes twice, as after a connection
that broke, does no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from typing import NamedTuple

from lab.peer.endpoint import Endpoint
from lab.peer.web.connection import RefusedError
from lab.peer.web.message import HttpError, Message
from lab.peer.web.requests import Requests

PATH = "/rendezvous/"
MAX_BATCH = 32 * 1024
"""Bytes in one body."""
POLL_S = 20.0
"""How long a GET waits: less than the patience of proxies."""
_TARGET = re.compile(r"(?:http://[^/]{1,80})?" + re.escape(PATH) + r"([0-9a-f]{32})/([0-9]{1,15})")


class Request(NamedTuple):
    """A request that belongs to a stream."""

    stream: str
    offset: int
    posts: bool


def understood(message: Message) -> Request | None:
    """What a request is about; None if it is about nothing here."""
    found = _TARGET.fullmatch(message.target)
    if found is None or message.method not in ("GET", "POST"):
        return None
    return Request(found[1], int(found[2]), message.method == "POST")


class PolledStream:
    """The client's end: as a StreamReader and a StreamWriter, as far as they are needed."""

    def __init__(self, server: Endpoint, source: str, proxy: Endpoint) -> None:
        self._requests = Requests(server, source, proxy)
        self._where = f"{PATH}{secrets.token_hex(16)}/"
        self._out = bytearray()
        self._said = 0
        self._wake = asyncio.Event()
        self._reader = asyncio.StreamReader()
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Begin the stream; OSError, HttpError or RefusedError if that can't be."""
        try:
            await self._post(b"")
        except BaseException:
            self._requests.close()
            raise
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._speak()), loop.create_task(self._listen())]

    async def read(self, most: int) -> bytes:
        """What the service says; b"" is the end."""
        return await self._reader.read(most)

    def write(self, data: bytes) -> None:
        self._out += data
        self._wake.set()

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._requests.close()

    async def _post(self, body: bytes) -> None:
        answer = await self._requests.ask("POST", f"{self._where}{self._said}", body)
        if answer.status != 204:
            raise RefusedError(answer.status, f"{answer.status} {answer.reason[:80]}")
        self._said += len(body)

    async def _speak(self) -> None:
        with contextlib.suppress(OSError, HttpError, RefusedError):
            while True:
                await self._wake.wait()
                self._wake.clear()
                while body := bytes(self._out[:MAX_BATCH]):
                    del self._out[:MAX_BATCH]
                    await self._post(body)
        self._end()

    async def _listen(self) -> None:
        heard = 0
        with contextlib.suppress(OSError, HttpError):
            while (answer := await self._requests.ask("GET", f"{self._where}{heard}")).status in (
                200,
                204,
            ):
                heard += len(answer.body)
                self._reader.feed_data(answer.body)
        self._end()

    def _end(self) -> None:
        if not self._reader.at_eof():
            self._reader.feed_eof()
