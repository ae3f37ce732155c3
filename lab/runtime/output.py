"""A container's output, from the engine's stream to the node's files.

The engine sends both streams over one socket, in pieces with a header each
("Attach to a container" in the Docker Engine API).  They go where a process
program writes its own: `out.jsonl` and `err.log`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lab.runtime.contract import ERRORS, OUTPUT

_CHUNK = 1 << 16
_HEADER = struct.Struct(">BxxxL")
_FINISH_DEADLINE_S = 30.0
_ERRORS_STREAM = 2


@dataclass(slots=True)
class Demultiplexer:
    """Splits the engine's stream: bytes in, (stream, bytes) out; a piece may come in parts."""

    header: bytes = b""
    stream: int = 0
    left: int = 0
    """Bytes of the present piece that have not come yet."""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """What `data` holds for each stream, in order."""
        while data:
            if self.left:
                piece, data = data[: self.left], data[self.left :]
                self.left -= len(piece)
                yield self.stream, piece
                continue
            wanted = _HEADER.size - len(self.header)
            self.header, data = self.header + data[:wanted], data[wanted:]
            if len(self.header) == _HEADER.size:
                self.stream, self.left = _HEADER.unpack(self.header)
                self.header = b""


@dataclass(slots=True)
class Output:
    """One container's output on its way into the node's folder."""

    source: socket.socket
    folder: Path
    demultiplexer: Demultiplexer = field(default_factory=Demultiplexer)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    loop: asyncio.AbstractEventLoop | None = None

    def follow(self, loop: asyncio.AbstractEventLoop) -> None:
        """Write what comes, from here on."""
        self.source.setblocking(False)
        self.loop = loop
        loop.add_reader(self.source, self._read)

    async def finished(self) -> None:
        """Wait until the engine has sent everything; not for ever, if it never says so."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FINISH_DEADLINE_S):
                await self.over.wait()

    def close(self) -> None:
        """Stop writing; fine if it is over."""
        if self.loop is not None and self.source.fileno() >= 0:
            self.loop.remove_reader(self.source)
        self.source.close()
        self.over.set()

    def _read(self) -> None:
        try:
            data = self.source.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        for stream, piece in self.demultiplexer.feed(data):
            name = ERRORS if stream == _ERRORS_STREAM else OUTPUT
            # A full disk costs the lines, not the lab.
            with contextlib.suppress(OSError), (self.folder / name).open("ab") as file:
                file.write(piece)
