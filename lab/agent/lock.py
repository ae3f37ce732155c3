"""Who is the agent of a lab: a POSIX record lock that the kernel drops when it dies.

Unlike a file with a number in it, the lock can't be stale, and the kernel
names its holder.

Who may become it is settled under a lock on the state folder itself, which a
teardown holds from beginning to end: an agent is there before a teardown looks
for one, or finds that there is no lab any more.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FLOCK = "hhqqi4x"  # struct flock: l_type, l_whence, l_start, l_len, l_pid


@contextmanager
def alone(root: Path) -> Iterator[bool]:
    """Wait until nobody else is in such a block about the state folder `root`.

    Yields whether it is still there, and still the folder that it was when the
    waiting began.
    """
    try:
        folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield _is(root, os.fstat(folder))
    finally:
        os.close(folder)


def _is(path: Path, file: os.stat_result) -> bool:
    """Whether `path` is the name of `file`."""
    try:
        return os.path.samestat(path.stat(), file)
    except FileNotFoundError:
        return False


def hold(path: Path) -> int:
    """Lock `path` for as long as this process lives; returns the descriptor.

    Raises BlockingIOError when another process holds it.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def holder(path: Path) -> int | None:
    """The process that holds `path`, or None."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(fd, fcntl.F_GETLK, wanted))
    finally:
        os.close(fd)
    return pid if kind != fcntl.F_UNLCK else None
