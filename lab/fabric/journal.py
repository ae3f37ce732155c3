"""The journal of a lab: what is ours, written down before it is made.

JSON lines, one for each object that may exist::

    {"kind":"netns","name":"demo.alice"}
    {"kind":"netns","name":"demo.alice","retracted":true}

An object is noted before it is created and retracted after it is removed, so
a lab that died at any point can be taken down from its journal alone.  Lines
are written with one system call each and need no fsync: what they name does
not outlive the kernel either.

A line that is no JSON object was torn by a write that failed.  Its object was
never made, because the note comes first; so it is skipped, wherever it is.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec

from lab.errors import LabError
from lab.topology.behaviour import Frozen

NETNS = "netns"
"""The kind of a named network namespace; its name is what `ip netns` shows."""


class Entry(Frozen, frozen=True):
    """An object that exists, or may exist, because this lab made it."""

    kind: str
    """`netns`, `container`, `process`, …: who knows how to remove it."""
    name: str
    """Unique within its kind."""
    more: tuple[tuple[str, str], ...] = ()
    """What else was noted, in the order in which it was given."""


class Journal:
    """An open journal; every method may be called from any thread."""

    def __init__(self, descriptor: int, path: Path) -> None:
        """Take over `descriptor`, open for appending; use `Journal.open`."""
        self._descriptor = descriptor
        self._path = path
        self._lock = Lock()
        self._held = {(entry.kind, entry.name) for entry in read(path)}

    @classmethod
    def open(cls, path: Path) -> Journal:
        """The journal at `path`, continued if it is there already.

        Raises LabError if the file can't be opened or written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            descriptor = os.open(path, flags, 0o644)
        except OSError as error:
            raise _error(error, path) from error
        journal = cls(descriptor, path)
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            journal._write(b"\n")
        return journal

    def note(self, kind: str, name: str, **more: str) -> None:
        """Write down that `name` is about to be made; LabError if that fails."""
        self._write(msgspec.json.encode({"kind": kind, "name": name, **more}) + b"\n")
        self._held.add((kind, name))

    def retract(self, kind: str, name: str) -> None:
        """Write down that `name` is no longer ours: removed, or never made."""
        line = msgspec.json.encode({"kind": kind, "name": name, "retracted": True})
        self._write(line + b"\n")
        self._held.discard((kind, name))

    def holds(self, kind: str, name: str) -> bool:
        """Whether `name` was noted and not retracted: it is ours, if it exists."""
        return (kind, name) in self._held

    def close(self) -> None:
        """Close the file; the journal stays where it is."""
        os.close(self._descriptor)

    def _write(self, line: bytes) -> None:
        with self._lock:
            try:
                written = os.write(self._descriptor, line)
                if written < len(line):
                    # The rest did not fit; the next line must not continue this one.
                    os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - written)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError as error:
                raise _error(error, self._path) from error


def read(path: Path) -> list[Entry]:
    """What the journal says is ours, in the order in which it was first noted.

    Empty if there is no journal.  LabError if it can't be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _error(error, path) from error
    entries: dict[tuple[str, str], Entry] = {}
    for line in data.splitlines():
        match _decoded(line):
            case {"kind": str(kind), "name": str(name), "retracted": True}:
                entries.pop((kind, name), None)
            case {"kind": str(kind), "name": str(name), **more}:
                rest = tuple((str(key), str(value)) for key, value in more.items())
                entries.setdefault((kind, name), Entry(kind=kind, name=name, more=rest))
    return list(entries.values())


def _decoded(line: bytes) -> Any:
    try:
        return msgspec.json.decode(line)
    except msgspec.DecodeError:
        return None


def _error(error: OSError, path: Path) -> LabError:
    return LabError(
        f"the lab's journal {path}: {error.strerror}",
        remedy="nothing is made without a note of it: free space or permissions of that folder, "
        "or move it with LAB_STATE_DIR",
    )
