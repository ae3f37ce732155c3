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

Programs with limits have groups besides (`lab.runtime.limits`), which end here too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import time
import zlib
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path

from lab.errors import LabError
from lab.fabric import journal
from lab.fabric.journal import Journal
from lab.paths import LabPaths
from lab.runtime import hierarchy

KIND_GROUP = "cgroup"
"""What the journal calls a group; its name is the folder's whole path."""

KIND_LIMITED = "cgroup-limits"
"""What the journal calls a group whose members are groups of programs with limits."""

PREFIX = "lab."
"""What the folder of every lab's group begins with."""

_PROC = Path("/proc")


def create(paths: LabPaths, notes: Journal) -> Path | None:
    """Make the lab's group, noted first; None where that is not possible."""
    below = hierarchy.own()
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
        if hierarchy.mounted() is None and around:
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


def mount_points() -> list[Path]:
    """Where the trees are mounted in which a lab may have groups."""
    mounts = (hierarchy.mounted(controller) for controller in ("", "memory", "cpu"))
    return [point for _, point in filter(None, mounts)]


def kill(paths: LabPaths, spared: AbstractSet[int], deadline: float) -> int:
    """Kill what is in the lab's groups, and remove them; how many processes there were.

    The processes `spared` leave them before.  Returns when all others have ended.
    Raises LabError if that is not so at `deadline`, a time of `time.monotonic`.
    """
    folder = of(paths, spared)
    killed = _end(folder, folder.parent, spared, deadline, paths) if folder else 0
    for top in _limited(paths, spared):
        unified = (top / "cgroup.kill").exists()
        # In cgroup2 whoever hands controllers down takes no processes.
        refuge = folder.parent if unified and folder else top.parent
        killed += _end(top, refuge, spared, deadline, paths)
    return killed


def _end(
    folder: Path, refuge: Path, spared: AbstractSet[int], deadline: float, paths: LabPaths
) -> int:
    killed = 0
    while True:
        pids = _inside(folder)
        for pid in pids & spared:
            _move_out(pid, refuge)
        with contextlib.suppress(FileNotFoundError), (folder / "cgroup.kill").open("r+") as stroke:
            stroke.write("1")
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


def _limited(paths: LabPaths, around: Iterable[int]) -> Iterator[Path]:
    """The groups above those of programs with limits, seen as `of` sees the lab's."""
    for entry in journal.read(paths.journal):
        if entry.kind != KIND_LIMITED or Path(entry.name).name != limited_name(paths):
            continue
        roots = [Path("/"), *(_PROC / str(pid) / "root" for pid in around)]
        folders = (root / entry.name.lstrip("/") for root in roots)
        found = next((each for each in folders if (each / "cgroup.procs").exists()), None)
        if found is not None:
            yield found


def limited(paths: LabPaths, node: str) -> list[Path]:
    """The groups by which the program of `node` is limited, as `lab.runtime.limits` made them."""
    return [folder for top in _limited(paths, ()) if (folder := top / node).exists()]


def limited_name(paths: LabPaths) -> str:
    """What the folder of the lab's programs with limits is called."""
    return f"{_name(paths)}.limited"


def _name(paths: LabPaths) -> str:
    # Labs of one name may stand in several state folders.
    return f"{PREFIX}{paths.lab}.{zlib.crc32(os.fsencode(paths.root)):08x}"


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


def _move_out(pid: int, refuge: Path) -> None:
    try:
        (refuge / "cgroup.procs").write_text(str(pid))
    except ProcessLookupError:
        return
    except OSError as error:
        raise LabError(
            f"can't take process {pid} into {refuge}: {error.strerror}",
            remedy="run `lab down` from outside of the lab",
        ) from error


def _await_end(pid: int, folder: Path, deadline: float) -> None:
    """Have a process end that is in the group, and may be gone already."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return
    try:
        # The number may have changed hands; the dying keep their group.
        if f"/{folder.name}" in (_PROC / str(pid) / "cgroup").read_text():
            # The old hierarchies have no stroke for all.
            signal.pidfd_send_signal(handle, signal.SIGKILL)
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
        # Gone, or of an old hierarchy, which tells nothing.
        return not folder.exists()
    except OSError:
        return False
    return False
