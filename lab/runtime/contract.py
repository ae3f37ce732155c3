"""What programs print, read as it is written (docs/contract.md).

`Lines` is pure: bytes in, events out.  `Tail` follows the `out.jsonl` of every
node through inotify and knows which programs have announced that they are
ready.  Whatever a program prints, it can't stop the agent: lines may be torn,
endless, or no text at all.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from lab.paths import LabPaths
from lab.runtime import libc

OUTPUT = "out.jsonl"
ERRORS = "err.log"

Event = dict[str, Any]
"""A line with the key `event`, as it was printed."""

_LONGEST_LINE = 1 << 20
_CHUNK = 1 << 16
_INOTIFY_EVENT = struct.Struct("iIII")


@dataclass(slots=True)
class Lines:
    """Splits a stream into lines and picks the events; a line over 1 MiB is passed over."""

    partial: bytearray = field(default_factory=bytearray)
    skipping: bool = False

    def feed(self, data: bytes) -> Iterator[Event]:
        """The events in `data` and in what was left from before."""
        *complete, rest = data.split(b"\n")
        for piece in complete:
            line = bytes(self.partial) + piece if self.partial else piece
            self.partial.clear()
            if self.skipping:
                self.skipping = False
            elif len(line) <= _LONGEST_LINE and (event := parse(line)) is not None:
                yield event
        if self.skipping:
            return
        self.partial += rest
        if len(self.partial) > _LONGEST_LINE:
            self.partial.clear()
            self.skipping = True


def parse(line: bytes) -> Event | None:
    """The event in one line, or None if it is an ordinary line."""
    if b'"event"' not in line:
        return None
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(value, dict) and isinstance(value.get("event"), str):
        return value
    return None


def last_lines(folder: Path, count: int = 5) -> tuple[str, ...]:
    """The last lines of a node's error log, or of its output if it wrote no errors."""
    for name in (ERRORS, OUTPUT):
        try:
            with (folder / name).open("rb") as stream:
                size = stream.seek(0, os.SEEK_END)
                stream.seek(max(0, size - _CHUNK))
                lines = stream.read().decode(errors="replace").splitlines()
        except OSError:
            continue
        kept = tuple(line[:500] for line in lines if line.strip())[-count:]
        if kept:
            return kept
    return ()


@dataclass(frozen=True, slots=True)
class Unready:
    """A node whose program did not announce that it is ready."""

    node: str
    ended: bool
    """Its program is gone, so it never will."""
    lines: tuple[str, ...]
    """The last things that it said."""


@dataclass(slots=True)
class _Followed:
    node: str
    path: Path
    watch: int
    offset: int = 0
    lines: Lines = field(default_factory=Lines)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it is ready or will never be."""
    ended: bool = False


class Tail:
    """Follows the output of a lab's programs; belongs to the event loop that made it."""

    def __init__(self, paths: LabPaths, on_event: Callable[[str, Event], None]) -> None:
        """`on_event` gets the node's name and each event, `ready` included."""
        self._paths = paths
        self._on_event = on_event
        self._nodes: dict[str, _Followed] = {}
        self._watches: dict[int, _Followed] = {}
        self._inotify = libc.inotify_open()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._inotify, self._read)

    def watch(self, node: str) -> None:
        """Follow the node from here on; call it before its program starts.

        What an earlier program of the node printed is passed over.
        """
        self.unwatch(node)
        path = self._paths.node(node) / OUTPUT
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        watch = libc.inotify_add(self._inotify, str(path), libc.IN_MODIFY)
        followed = _Followed(node, path, watch, offset=path.stat().st_size)
        self._nodes[node] = self._watches[watch] = followed

    def unwatch(self, node: str) -> None:
        """Stop following the node, if it is followed; the rest of its output is read first."""
        followed = self._nodes.pop(node, None)
        if followed is None:
            return
        self._drain(followed)
        followed.ended = True
        followed.ready.set()
        if self._watches.pop(followed.watch, None) is not None:
            libc.inotify_remove(self._inotify, followed.watch)

    def ended(self, node: str) -> None:
        """The node's program is gone: read what is left, and wait for it no longer."""
        followed = self._nodes.get(node)
        if followed is not None:
            self._drain(followed)
            if not followed.ready.is_set():
                followed.ended = True
                followed.ready.set()

    async def wait_ready(self, nodes: Iterable[str], timeout_s: float) -> tuple[Unready, ...]:
        """Wait until each of `nodes` announced `ready`; those that did not, with what they said.

        Returns as soon as all have announced it or ended, at the latest after `timeout_s`.
        """
        awaited = [self._nodes[node] for node in nodes]
        pending = [asyncio.ensure_future(followed.ready.wait()) for followed in awaited]
        if pending:
            _, late = await asyncio.wait(pending, timeout=timeout_s)
            for task in late:
                task.cancel()
        return tuple(
            Unready(f.node, f.ended, last_lines(f.path.parent))
            for f in awaited
            if f.ended or not f.ready.is_set()
        )

    def close(self) -> None:
        """Stop following."""
        self._loop.remove_reader(self._inotify)
        os.close(self._inotify)
        self._nodes.clear()
        self._watches.clear()

    def _read(self) -> None:
        try:
            data = os.read(self._inotify, _CHUNK)
        except BlockingIOError:
            return
        changed: dict[int, None] = {}
        at = 0
        while at < len(data):
            watch, mask, _, length = _INOTIFY_EVENT.unpack_from(data, at)
            at += _INOTIFY_EVENT.size + length
            if mask & libc.IN_Q_OVERFLOW:
                changed.update(dict.fromkeys(self._watches))
            elif mask & libc.IN_IGNORED:
                self._watches.pop(watch, None)
            else:
                changed[watch] = None
        for watch in changed:
            followed = self._watches.get(watch)
            if followed is not None:
                self._advance(followed)

    def _advance(self, followed: _Followed) -> None:
        """Read one chunk; a program that prints much must not keep the loop from the others."""
        if self._chunk(followed) == _CHUNK:
            self._loop.call_soon(self._advance, followed)

    def _drain(self, followed: _Followed) -> None:
        while self._chunk(followed):
            pass

    def _chunk(self, followed: _Followed) -> int:
        try:
            with followed.path.open("rb", buffering=0) as stream:
                if os.fstat(stream.fileno()).st_size < followed.offset:
                    # Someone emptied the file.
                    followed.offset, followed.lines = 0, Lines()
                stream.seek(followed.offset)
                data = stream.read(_CHUNK)
        except OSError:
            return 0
        followed.offset += len(data)
        for event in followed.lines.feed(data):
            if event["event"] == "ready" and not followed.ready.is_set():
                followed.ready.set()
            self._on_event(followed.node, event)
        return len(data)
