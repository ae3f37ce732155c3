"""JSON lines over Unix sockets: the language between command line, agent and peers.

A request is one JSON object on one line.  The answer is any number of objects
that carry `event`, then one that carries `result` or `error`.

A socket's path may be longer than the 107 bytes that the kernel accepts in an
address (state folders can be anywhere), so both ends go through a descriptor
of the folder: `/proc/self/fd/N/agent.sock`.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LINE_LIMIT = 64 * 2**20
"""A line holds at most a plan of some ten thousand nodes."""


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """A name for `path` that fits into a socket address, valid inside the block."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def connect(path: Path) -> socket.socket:
    """A stream socket connected to `path`.

    Raises FileNotFoundError or ConnectionRefusedError when nobody listens.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with short_path(path) as name:
            sock.connect(name)
    except BaseException:
        sock.close()
        raise
    return sock


def listen(path: Path) -> socket.socket:
    """A listening stream socket at `path`, for the owner only."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    with short_path(path) as name:
        sock.bind(name)
    path.chmod(0o600)
    sock.listen(64)
    return sock


def pack(message: dict[str, Any]) -> bytes:
    """`message` as one line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def unpack(line: bytes) -> dict[str, Any]:
    """The object that `pack` wrote; ValueError if the line is not one."""
    message = json.loads(line)
    if not isinstance(message, dict):
        raise TypeError("a message is a JSON object")
    return message
