"""A socket that is read as soon as there is something, and one timer: they end together."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable


class Attended:
    """Owns `sock`, which it makes non-blocking; `readable` is called when there is something."""

    def __init__(self, sock: socket.socket, readable: Callable[[], None]) -> None:
        """Attend to it from now on, in the running loop."""
        sock.setblocking(False)
        self.socket = sock
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._loop.add_reader(sock, readable)

    @property
    def waiting(self) -> bool:
        """Whether something is to be called yet."""
        return self._timer is not None

    def call_at(self, due: float | None, what: Callable[[], None]) -> None:
        """Call `what` at a time of the loop's, instead of what was to be called; None for never."""
        if self._timer:
            self._timer.cancel()

        def tell() -> None:
            self._timer = None
            what()

        self._timer = None if due is None else self._loop.call_at(due, tell)

    def close(self) -> None:
        """Nothing is read or called any more."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self.socket.fileno() >= 0:
            self._loop.remove_reader(self.socket)
            self.socket.close()
