"""Requests to one server, each method on a connection of its own that is kept.

A proxy is asked for the whole URL (RFC 9112, section 3.2.2) and opens no tunnel.
"""

from __future__ import annotations

from collections.abc import Callable

from lab.peer.endpoint import Endpoint
from lab.peer.web.connection import Connection, open_connection
from lab.peer.web.message import HttpError, Message, request


class Requests:
    """Asks `server`, by `proxy` if there is one; `count` is told the size of each message."""

    def __init__(
        self,
        server: Endpoint,
        source: str = "",
        proxy: Endpoint | None = None,
        headers: tuple[tuple[str, str], ...] = (),
        count: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._server = server
        self._source = source
        self._proxy = proxy
        self._headers = headers
        self._count = count
        self._connections: dict[str, Connection] = {}

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()

    async def ask(self, method: str, path: str, body: bytes = b"") -> Message:
        """One exchange, which may be repeated on a new connection if a kept one has ended.

        OSError or HttpError if there is no answer.
        """
        target = f"http://{self._server}{path}" if self._proxy else path
        more = (("Content-Type", "application/octet-stream"),) if method == "POST" else ()
        data = request(method, target, str(self._server), (*self._headers, *more), body)
        connection = self._connections.pop(method, None)
        fresh = connection is None
        if connection is None:
            connection = await open_connection(self._proxy or self._server, self._source)
        self._count(len(data))
        try:
            answer = await connection.ask(data)
        except (OSError, HttpError):
            connection.close()
            if fresh:
                raise
            return await self.ask(method, path, body)
        except BaseException:
            connection.close()
            raise
        self._count(sum(len(k) + len(v) + 4 for k, v in answer.headers) + 19 + len(answer.body))
        if answer.says("Connection", "close"):
            connection.close()
        else:
            self._connections[method] = connection
        return answer
