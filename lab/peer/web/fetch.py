"""One request and its response, on a connection of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from lab.peer.endpoint import Endpoint
from lab.peer.web.message import MAX_BODY, HttpError, Message, Parser, request

READ = 64 * 1024
Count = Callable[[int], None]
"""Told the size of each message that is sent or comes."""


async def fetch(
    url: str,
    *,
    method: str = "GET",
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    bind: str = "",
    max_body: int = MAX_BODY,
    count: Count | None = None,
) -> Message:
    """The response to a request; OSError or HttpError if there is none.

    `bind` is this host's address to ask from.  The caller sets the deadline.
    """
    server, path = split(url)
    reader, writer = await asyncio.open_connection(
        server.address, server.port, local_addr=(bind, 0) if bind else None
    )
    try:
        data = request(method, path, str(server), (*headers, ("Connection", "close")), body)
        if count:
            count(len(data))
        writer.write(data)
        parser = Parser(requests=False, max_body=max_body)
        size = 0
        while True:
            piece = await reader.read(READ)
            size += len(piece)
            parser.feed(piece)
            message = parser.next()
            if message is not None and message.status >= 200:
                if count:
                    count(size)
                return message
            if not piece:
                raise HttpError(f"{server} closed the connection without an answer")
    finally:
        writer.close()


def split(url: str) -> tuple[Endpoint, str]:
    """Server and path of an `http` URL whose host is an address; HttpError if it is none."""
    try:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.username:
            raise HttpError(f"not a URL of a server: {url[:100]!r}")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        port = 80 if parts.port is None else parts.port
        server = Endpoint.parse(f"{host}:{port}")
    except ValueError as error:
        raise HttpError(f"not a URL of a server: {url[:100]!r}") from error
    path = parts.path or "/"
    return server, f"{path}?{parts.query}" if parts.query else path
