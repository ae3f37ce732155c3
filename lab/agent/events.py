"""The event log of a lab: what happened, when, one JSON object on a line.

`at` is in seconds since the epoch, `since_up_s` since the lab was up by a
clock that nobody sets; it is absent before.  Belongs to the agent's event
loop, like everything that happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Event = dict[str, Any]


class EventLog:
    """Writes events to a file, and tells those who follow."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._up_at: float | None = None
        self._followers: set[asyncio.Queue[Event]] = set()

    def lab_is_up(self) -> None:
        """From now on events carry the time since now."""
        self._up_at = time.monotonic()

    def note(self, event: str, **details: object) -> None:
        """Something happened; a full disk keeps nothing from happening."""
        stamps: Event = {"at": round(time.time(), 6)}
        if self._up_at is not None:
            stamps["since_up_s"] = round(time.monotonic() - self._up_at, 6)
        entry = {**stamps, "event": event, **details}
        with contextlib.suppress(OSError), self._path.open("a") as log:
            log.write(json.dumps(entry, separators=(",", ":"), ensure_ascii=False) + "\n")
        for follower in self._followers:
            follower.put_nowait(entry)

    @contextmanager
    def followed(self) -> Iterator[asyncio.Queue[Event]]:
        """A queue that gets everything until now, and then what happens inside the block."""
        queue: asyncio.Queue[Event] = asyncio.Queue()
        for entry in read(self._path):
            queue.put_nowait(entry)
        self._followers.add(queue)
        try:
            yield queue
        finally:
            self._followers.discard(queue)


def read(path: Path) -> Iterator[Event]:
    """The events in the file; a line that is being written is passed over."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            yield entry
