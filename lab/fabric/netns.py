"""Network namespaces with names: made, entered and removed without a forked helper.

A named namespace is a bind mount of a namespace file, where `ip netns` looks
for it (ip-netns(8)).  The name keeps the namespace alive while no process is
in it.  `/run/netns` is prepared the way iproute2 does it, so that either
program may come first: a directory that is a mount point of its own with
shared propagation, so that a name removed here is removed in every mount
namespace that was copied from this one.  The directory itself is left in place.

Python 3.11 has no `os.setns` and `os.unshare`; a system call changes the
calling *thread* alone, and every function here leaves it where it found it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from lab.errors import LabError, MissingError

_CLONE_NEWNET = 0x40000000
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_SHARED = 1 << 20
_MNT_DETACH = 2
_AT_FDCWD = -100
_STATX_ATTR_MOUNT_ROOT = 0x2000
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1

_CURRENT = "/proc/thread-self/ns/net"


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def create(path: Path) -> None:
    """Make a namespace, name it `path`, and take its loopback up.

    Raises LabError if the name is taken (and leaves what is there alone) or
    the kernel's limit is reached, MissingError without the privilege.
    """
    _reserve(path)
    former = os.open(_CURRENT, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            _call("unshare", path, _CLONE_NEWNET)
            try:
                _bind(_CURRENT, path)
                loopback_up()
            finally:
                _call("setns", path, former, _CLONE_NEWNET)
        finally:
            os.close(former)
    except BaseException:
        _abandon(path)
        raise


def adopt(path: Path, pid: int) -> None:
    """Give the network namespace of process `pid` the name `path`, its loopback up.

    Raises LabError if the name is taken or the process is gone.
    """
    _reserve(path)
    try:
        _bind(f"/proc/{pid}/ns/net", path)
        with inside(path):
            loopback_up()
    except BaseException:
        _abandon(path)
        raise


def delete(path: Path) -> None:
    """Remove the name `path`; done already, or half done, is fine.

    The kernel removes the namespace and its devices later, once no process
    and no open file holds it; the name is free at once.
    """
    name = os.fsencode(path)
    # A name can be covered more than once (a tool that bound over it).
    while _libc().umount2(name, _MNT_DETACH) == 0:
        pass
    code = ctypes.get_errno()
    if code not in (errno.EINVAL, errno.ENOENT):
        raise _error(OSError(code, os.strerror(code)), path, "umount2")
    try:
        path.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        raise _error(error, path, "unlink") from error


@contextlib.contextmanager
def inside(path: Path) -> Iterator[None]:
    """The calling thread is in the namespace within the block, back in its former one after.

    Raises LabError if there is no namespace of that name.
    """
    target = open_file(path)
    try:
        with entered(target, path):
            yield
    finally:
        os.close(target)


@contextlib.contextmanager
def entered(file: int, path: Path) -> Iterator[None]:
    """As `inside`, for a namespace file that is open already; `path` is for error texts."""
    with _away(path, "setns", file):
        yield


@contextlib.contextmanager
def scratch() -> Iterator[None]:
    """The calling thread is in a namespace without a name, which is gone after the block.

    Raises LabError at the kernel's limit, MissingError without the privilege.
    """
    with _away(Path("scratch"), "unshare"):
        yield


@contextlib.contextmanager
def _away(path: Path, call: str, *file: int) -> Iterator[None]:
    """The calling thread is where `call` takes it, and back where it was after the block."""
    former = os.open(_CURRENT, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call(call, path, *file, _CLONE_NEWNET)
        try:
            yield
        finally:
            _call("setns", path, former, _CLONE_NEWNET)
    finally:
        os.close(former)


def open_file(path: Path) -> int:
    """A descriptor of the namespace, for `entered` and for IFLA_NET_NS_FD.

    Raises LabError if there is no namespace of that name.
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _error(error, path, "open") from error


def taken(path: Path) -> LabError:
    """The error that says that `path` is somebody else's."""
    return LabError(
        f"the network namespace {path.name} exists already and is not this lab's",
        remedy=f"give the lab another name, or remove it: ip netns delete {path.name}",
    )


def _reserve(path: Path) -> None:
    """Make the file that `path` will be mounted on."""
    if not _is_mount_root(path.parent):
        _prepare(path.parent)
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
    except OSError as error:
        raise _error(error, path, "create") from error


def _abandon(path: Path) -> None:
    """Take back what `_reserve` and `_bind` did, as far as possible: another error is under way."""
    _libc().umount2(os.fsencode(path), _MNT_DETACH)
    with contextlib.suppress(OSError):
        path.unlink()


def _bind(source: str, path: Path) -> None:
    _call("mount", path, os.fsencode(source), os.fsencode(path), b"none", _MS_BIND, None)


def _prepare(folder: Path) -> None:
    """Make `folder` a shared mount point; the lock is iproute2's too (since 6.3)."""
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _error(error, folder, "mkdir") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        name = os.fsencode(folder)
        share = (b"", name, b"none", _MS_SHARED | _MS_REC, None)
        if _libc().mount(*share) != 0:
            _call("mount", folder, name, name, b"none", _MS_BIND | _MS_REC, None)
            _call("mount", folder, *share)
    finally:
        os.close(lock)


def _is_mount_root(folder: Path) -> bool:
    """Whether something is mounted at `folder` (False where the kernel can't say: before 5.8).

    Asking is cheap; sharing again would walk every name there is.
    """
    answer = ctypes.create_string_buffer(256)
    if _libc().statx(_AT_FDCWD, os.fsencode(folder), 0, 0, answer) != 0:
        return False
    (attributes,) = struct.unpack_from("=Q", answer, 8)
    return bool(attributes & _STATX_ATTR_MOUNT_ROOT)


def loopback_up() -> None:
    """Bring up the loopback interface of the calling thread's namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as handle:
        request = struct.pack("16sH14x", b"lo", 0)
        (flags,) = struct.unpack_from("H", fcntl.ioctl(handle, _SIOCGIFFLAGS, request), 16)
        if not flags & _IFF_UP:
            fcntl.ioctl(handle, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))


def _call(function: str, path: Path, *arguments: object) -> None:
    if getattr(_libc(), function)(*arguments) != 0:
        code = ctypes.get_errno()
        raise _error(OSError(code, os.strerror(code)), path, function)


def _error(error: OSError, path: Path, step: str) -> LabError:
    """What went wrong, with what to do about it."""
    if error.errno == errno.EEXIST:
        return taken(path)
    if error.errno in (errno.EPERM, errno.EACCES):
        return MissingError(
            f"not allowed to manage network namespaces ({step} {path}: {error.strerror})",
            remedy="run as root; in a container, with CAP_SYS_ADMIN and CAP_NET_ADMIN",
        )
    if error.errno == errno.ENOENT and step == "mount":
        return LabError(
            f"the process that was to give its network namespace the name {path.name} is gone",
            remedy="see its log for why it ended",
        )
    if error.errno == errno.ENOENT:
        return LabError(
            f"there is no network namespace {path.name}",
            remedy="something removed it; take the lab down and up again",
        )
    if error.errno == errno.ENOSPC:
        limit = {"unshare": "user.max_net_namespaces", "mount": "fs.mount-max"}.get(step)
        return LabError(
            f"no room for the network namespace {path.name} ({step}: {error.strerror})",
            remedy=f"raise the limit: sysctl -w {limit}=…" if limit else "free space in /run",
        )
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return LabError(
            f"too many open files at the network namespace {path.name}",
            remedy="raise the limit: ulimit -n 65536 (or fs.file-max)",
        )
    if error.errno in (errno.ENOSYS, errno.EINVAL) and step in ("unshare", "setns"):
        return MissingError(
            f"this kernel has no network namespaces ({step}: {error.strerror})",
            remedy="run a kernel with CONFIG_NET_NS",
        )
    return LabError(f"the network namespace {path.name}: {step}: {error.strerror}")
