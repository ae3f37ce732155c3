"""A TCP connection to a server of the web, directly or through a proxy's CONNECT."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from lab.peer.endpoint import Endpoint
from lab.peer.web.message import HttpError, Message, Parser, request

READ = 64 * 1024


class RefusedError(Exception):
    """The proxy or the server said no; `status` is HTTP's."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Connection:
    """Messages and then bytes on one connection; OSError or HttpError when it breaks."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._parser = Parser(requests=False)

    async def ask(self, data: bytes, *, bodiless: bool = False) -> Message:
        """Send a request; the final response to it."""
        self.writer.write(data)
        while True:
            message = self._parser.next(bodiless=bodiless)
            if message is not None and (message.status >= 200 or message.status == 101):
                return message
            if message is None:
                piece = await self.reader.read(READ)
                self._parser.feed(piece)
                if not piece and not (message := self._parser.next(bodiless=bodiless)):
                    raise HttpError("the connection ended before a response")
                if message is not None and message.status >= 200:
                    return message

    def rest(self) -> bytes:
        """What came after the last response, once the connection is no longer HTTP's."""
        return self._parser.rest()

    def close(self) -> None:
        self.writer.close()


async def open_connection(
    server: Endpoint, source: str = "", proxy: Endpoint | None = None
) -> Connection:
    """A connection to `server`, by a tunnel through `proxy` if there is one (RFC 9110, 9.3.6).

    OSError if nobody is reached, RefusedError if the proxy does not open a
    tunnel.  The caller sets the deadline.
    """
    to = proxy or server
    reader, writer = await asyncio.open_connection(
        to.address, to.port, local_addr=(source, 0) if source else None
    )
    connection = Connection(reader, writer)
    if proxy is None:
        return connection
    try:
        answer = await connection.ask(request("CONNECT", str(server), str(server)), bodiless=True)
    except HttpError as error:
        connection.close()
        raise OSError(f"proxy {proxy}: {error}") from error
    except BaseException:
        connection.close()
        raise
    if not 200 <= answer.status < 300:
        connection.close()
        why = f"proxy {proxy} opens no tunnel to {server}: {answer.status} {answer.reason[:80]}"
        raise RefusedError(answer.status, why)
    return connection


def proxy_endpoint(url: str) -> Endpoint | None:
    """The proxy in `http://192.168.1.1:3128`; None for none.  ValueError if it is not one."""
    if not url:
        return None
    parts = urlsplit(url)
    if parts.scheme != "http":
        raise ValueError(f"not an HTTP proxy: {url[:80]!r}")
    return Endpoint.parse(parts.netloc)
