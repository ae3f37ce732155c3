"""A session on one of its paths, as a machine of that path's socket."""

from __future__ import annotations

from collections.abc import Callable

from lab.peer.endpoint import Endpoint
from lab.peer.machine import Datagram
from lab.peer.session.machine import Session

KIND = "session"


class Rider:
    """`session` on the path of that number to `remote`; a `lab.peer.machine.Machine`.

    A frame from anywhere else is not even opened: whoever sends or forwards
    one from another address gets nothing, and a path that has moved is found
    again by an attempt, which both peers sign.  `on_change` is called when
    there is something new in the session.
    """

    def __init__(
        self, session: Session, path: bytes, remote: Endpoint, on_change: Callable[[], None]
    ) -> None:
        self.strays = 0
        """Frames from elsewhere."""
        self._session = session
        self._path = path
        self._remote = remote
        self._on_change = on_change

    def receive(self, data: bytes, source: Endpoint, now: float) -> str:
        if not self._session.seal.ours(data):
            return ""
        if source != self._remote:
            self.strays += 1
            return ""
        known = self._session.receive(self._path, data, now)
        self._on_change()
        return KIND if known else ""

    def tick(self, now: float) -> None:
        self._session.tick(self._path, now)
        self._on_change()

    def deadline(self) -> float | None:
        return self._session.deadline(self._path)

    def take(self) -> list[Datagram]:
        return [Datagram(d, self._remote, KIND) for d in self._session.take(self._path)]
