"""The system calls that Python 3.11 has no word for.

Thin: each function is one call, takes what the manual page says, and raises
OSError.  Namespaces belong to the calling *thread*.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_NEWCGROUP = 0x02000000

MS_RDONLY = 1
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MNT_DETACH = 2

IN_MODIFY = 0x00000002
IN_IGNORED = 0x00008000
IN_Q_OVERFLOW = 0x00004000
IN_NONBLOCK = os.O_NONBLOCK
IN_CLOEXEC = os.O_CLOEXEC

_PR_SET_NAME = 15


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, *context: str | bytes) -> int:
    if result < 0:
        code = ctypes.get_errno()
        name = os.fsdecode(context[0]) if context else None
        raise OSError(code, os.strerror(code), name)
    return result


def setns(descriptor: int, flags: int) -> None:
    """Enter the namespace, or with a pidfd the namespaces, of `descriptor` (setns(2))."""
    _checked(_libc().setns(descriptor, flags))


def unshare(flags: int) -> None:
    """Give the calling thread namespaces of its own (unshare(2))."""
    _checked(_libc().unshare(flags))


def mount(source: str, target: str, kind: str, flags: int) -> None:
    """Mount, bind or change the propagation of a mount (mount(2))."""
    result = _libc().mount(
        os.fsencode(source), os.fsencode(target), os.fsencode(kind), ctypes.c_ulong(flags), None
    )
    _checked(result, target)


def detach(target: str) -> None:
    """Unmount `target` and what is below it, lazily (umount2(2), MNT_DETACH)."""
    _checked(_libc().umount2(os.fsencode(target), MNT_DETACH), target)


def set_name(name: str) -> None:
    """The name that `ps` and `top` show; cut to 15 bytes (prctl(2), PR_SET_NAME)."""
    _checked(_libc().prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0))


def inotify_open() -> int:
    """A non-blocking inotify instance (inotify_init1(2))."""
    return _checked(_libc().inotify_init1(IN_NONBLOCK | IN_CLOEXEC))


def inotify_add(instance: int, path: str, mask: int) -> int:
    """Watch `path`; the watch descriptor (inotify_add_watch(2))."""
    result = _libc().inotify_add_watch(instance, os.fsencode(path), ctypes.c_uint32(mask))
    return _checked(result, path)


def inotify_remove(instance: int, watch: int) -> None:
    """Stop watching (inotify_rm_watch(2))."""
    _checked(_libc().inotify_rm_watch(instance, watch))
