"""A control group per lab: what is in it dies in one stroke.

A program that forks and ends all the time has another number whenever somebody
looks, so no list of processes is ever right about it.  The kernel's own list
is: a process is born into the group of its parent, and `cgroup.kill` ends all
that are in a group and all that are being born into it meanwhile (cgroups(7);
Documentation/admin-guide/cgroup-v2.rst, "cgroup.kill", Linux 5.14).

The group limits and measures nothing.  It lies below the group that the agent
was started in, so whatever is imposed on that one holds as before.  Where there
is no cgroup2 that can be written (some containers), there is no group, and
`lab.runtime.teardown` has to do with looking.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
import zlib
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path

from lab.errors import LabError
from lab.fabric import journal
from lab.fabric.journal import Journal
from lab.paths import LabPaths

KIND_GROUP = "cgroup"
"""What the journal calls a group; its name is the folder's whole path."""

PREFIX = "lab."
"""What the folder of every lab's group begins with."""

_PROC = Path("/proc")


def create(paths: LabPaths, notes: Journal) -> Path | None:
    """Make the lab's group, noted first; None where that is not possible."""
    below = _own()
    if below is None:
        return None
    folder = below / _name(paths)
    notes.note(KIND_GROUP, str(folder))
    with contextlib.suppress(OSError):
        folder.mkdir(exist_ok=True)
        if (folder / "cgroup.kill").exists():
            return folder
        folder.rmdir()
    notes.retract(KIND_GROUP, str(folder))
    return None


def of(paths: LabPaths, around: Iterable[int] = ()) -> Path | None:
    """The lab's group, if one was made and is still there.

    In a node, another /sys hides the groups from the caller; then the path leads
    through one of the processes `around` it that sees them.  Raises LabError if
    there is none of these either.
    """
    for entry in journal.read(paths.journal):
        # A journal is a file that anybody may have edited.
        if entry.kind != KIND_GROUP or Path(entry.name).name != _name(paths):
            continue
        roots = [Path("/"), *(_PROC / str(pid) / "root" for pid in around)]
        for folder in (root / entry.name.lstrip("/") for root in roots):
            with contextlib.suppress(OSError):
                if (folder / "cgroup.kill").exists():
                    return folder
        if mount_point() is None and around:
            raise LabError(
                f"the control group of lab {paths.lab!r} can't be seen from here",
                remedy="run `lab down` from outside of its nodes",
            )
    return None


def join(folder: Path | None) -> None:
    """Take the calling process in; nothing happens if the group is gone, or there is none."""
    if folder is not None:
        with contextlib.suppress(OSError):
            (folder / "cgroup.procs").write_text("0")


def mount_point() -> Path | None:
    """Where cgroup2 is mounted, if it is."""
    mount = _mount()
    return mount[1] if mount else None


def kill(paths: LabPaths, spared: AbstractSet[int], deadline: float) -> int:
    """Kill what is in the lab's group, and remove the group; how many processes there were.

    The processes `spared` leave it before.  Returns when all others have ended.
    Raises LabError if that is not so at `deadline`, a time of `time.monotonic`.
    """
    folder = of(paths, spared)
    if folder is None:
        return 0
    killed = 0
    while True:
        pids = _inside(folder)
        for pid in pids & spared:
            _move_out(pid, folder)
        with contextlib.suppress(FileNotFoundError):
            (folder / "cgroup.kill").write_text("1")
        for pid in pids - spared:
            _await_end(pid, folder, deadline)
            killed += 1
        # Somebody may have come in just now: then it is busy, and there is another round.
        if _remove(folder) or _await_empty(folder, deadline):
            return killed
        if time.monotonic() > deadline:
            raise LabError(
                f"the programs of lab {paths.lab!r} in {folder} can't be killed",
                remedy="they are stuck in the kernel: see `dmesg`, then run `lab down` again",
            )


def _name(paths: LabPaths) -> str:
    # Labs of one name may stand in several state folders.
    return f"{PREFIX}{paths.lab}.{zlib.crc32(os.fsencode(paths.root)):08x}"


def _mount() -> tuple[str, Path] | None:
    """The part of the tree that is mounted, and where."""
    with contextlib.suppress(OSError):
        for line in (_PROC / "self/mountinfo").read_text().splitlines():
            mount, _, system = line.partition(" - ")
            if system.startswith("cgroup2 "):
                root, point = mount.split()[3:5]
                return root, Path(point)
    return None


def _own() -> Path | None:
    """The folder of the group that the caller is in."""
    mount = _mount()
    if mount is None:
        return None
    root, point = mount
    with contextlib.suppress(OSError, ValueError):
        for line in (_PROC / "self/cgroup").read_text().splitlines():
            if line.startswith("0::"):
                return point / Path(line[3:]).relative_to(root)
    return None


def _inside(folder: Path) -> set[int]:
    """The numbers of the processes in the group, and in groups that they made below it."""
    found: set[int] = set()
    for group in _groups(folder):
        with contextlib.suppress(OSError):
            found.update(map(int, (group / "cgroup.procs").read_text().split()))
    return found


def _groups(folder: Path) -> Iterator[Path]:
    """The group and those below it, the innermost first."""
    return (Path(path) for path, _, _ in os.walk(folder, topdown=False))


def _move_out(pid: int, folder: Path) -> None:
    try:
        (folder.parent / "cgroup.procs").write_text(str(pid))
    except ProcessLookupError:
        return
    except OSError as error:
        raise LabError(
            f"can't take process {pid} out of {folder}: {error.strerror}",
            remedy="run `lab down` from outside of the lab",
        ) from error


def _await_end(pid: int, folder: Path, deadline: float) -> None:
    """Wait for the end of a process that has been killed, and may be gone already."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return
    try:
        # The number may have changed hands; the dying keep their group.
        if f"/{folder.name}" in (_PROC / str(pid) / "cgroup").read_text():
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
    except OSError:
        return
    finally:
        os.close(handle)


def _remove(folder: Path) -> bool:
    """Remove the group and those below it; False if there is somebody in."""
    for group in _groups(folder):
        try:
            group.rmdir()
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno in (errno.EBUSY, errno.ENOTEMPTY):
                return False
            raise LabError(f"{group} can't be removed: {error.strerror}") from error
    return True


def _await_empty(folder: Path, deadline: float) -> bool:
    """Wait until nobody is in; whether the group has gone meanwhile.

    Who came in after the stroke has to be killed too: what is asked about is
    only whether waiting helps.
    """
    try:
        with (folder / "cgroup.events").open() as events:
            poll = select.poll()
            poll.register(events, select.POLLPRI)
            if "populated 1" in events.read() and not _inside(folder):
                # The last ones are past their end and not yet out.
                poll.poll(max(0.0, min(1.0, deadline - time.monotonic())) * 1000)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False
