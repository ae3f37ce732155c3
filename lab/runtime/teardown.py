"""Ending every program of a lab, and nothing else.

A process belongs to a lab if it is in the lab's control group, or in one of the
lab's network namespaces, or if `LAB_STATE` in its environment is the lab's state
folder.  A container belongs to a lab by its labels.  None of it needs the agent
to be alive.

The group comes first: it holds what the lab started, and ends at one stroke
whatever that may do (`lab.runtime.group`).  What got into a namespace by
another way, `ip netns exec` for one, has to be looked for.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import select
import signal
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError
from lab.fabric import journal
from lab.paths import NETNS_DIR, LabPaths
from lab.runtime import group

KIND_CONTAINER = "container"
"""What the journal calls a container; its name is `<lab>.<node>`, and `image` is noted too."""

KIND_PAUSED = "paused-container"
"""The container of that name may be frozen."""

KIND_CREATED = "created-container"
"""The engine has answered that the container of that name exists."""

_DEADLINE_S = 10.0
_BATCH = 256
"""Handles held at once: well below the usual limit of 1024 open files."""
_CHASE_S = 0.3
"""How long to look for more, at most, after the last one was found: processor time of this
thread, which does nothing but look, so that what the machine does meanwhile does not count."""
_QUIET_ROUNDS = 3
"""So many times in a row nobody was born: there are no more."""
_UNSEEN = 8
"""How many numbers back to look again: a process that is being born can't be seen yet."""
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class _Membership:
    """What makes a process one of the lab's."""

    environment: bytes
    """The entry `LAB_STATE=…`."""
    namespaces: frozenset[int]
    """Inodes of the lab's network namespaces."""

    def holds(self, pid: int) -> bool:
        """Whether process `pid` is the lab's; False for one that is gone, or a zombie."""
        process = _PROC / str(pid)
        try:
            if self.namespaces and (process / "ns/net").stat().st_ino in self.namespaces:
                return True
            block = (process / "environ").read_bytes()
        except OSError:
            return False
        return self.environment in block.split(b"\0")


def kill_processes(paths: LabPaths) -> int:
    """Kill every process of the lab except the caller and its ancestors; how many there were.

    Returns when they are gone.  Raises LabError if some can't be killed in time.
    """
    spared = frozenset(_ancestors(os.getpid()))
    lab = _Membership(b"LAB_STATE=" + os.fsencode(paths.root), _namespaces(paths))
    deadline = time.monotonic() + _DEADLINE_S
    return group.kill(paths, spared, deadline) + _hunt(lab, spared, deadline, paths)


def _hunt(lab: _Membership, spared: frozenset[int], deadline: float, paths: LabPaths) -> int:
    """Kill the lab's processes wherever they are; how many there were.

    One pass over all processes sees what is there; all that another has to
    see is what was born meanwhile, and that is less each time.  It is over when
    nobody was born, or where strangers are born all the time, after a while in
    which none was the lab's.
    """
    killed = quiet = 0
    newest = _newest()
    pids: Iterable[int] = _pids()
    until = math.inf
    while quiet < _QUIET_ROUNDS and time.thread_time() < until:
        found = 0
        handles = _killed(lab, pids, spared)
        while batch := list(itertools.islice(handles, _BATCH)):
            _await_end(batch, deadline, paths)
            found += len(batch)
        killed += found
        if found or until == math.inf:
            until = time.thread_time() + _CHASE_S
        if found and time.monotonic() > deadline:
            raise LabError(
                f"there are ever more processes of lab {paths.lab!r}",
                remedy="end what starts them, then run `lab down` again",
            )
        before, newest = newest, _newest()
        quiet = quiet + 1 if newest == before else 0
        # The newest first: it is there still, and gone when all others have been looked at.
        recent = range(newest + 2, before - _UNSEEN, -1)
        pids = recent if newest >= before else _pids()
    return killed


def members(paths: LabPaths) -> list[int]:
    """The numbers of the lab's processes, the caller's own line excepted."""
    spared = frozenset(_ancestors(os.getpid()))
    lab = _Membership(b"LAB_STATE=" + os.fsencode(paths.root), _namespaces(paths))
    return [pid for pid in _pids() if pid not in spared and lab.holds(pid)]


def orphaned(states: Path) -> list[str]:
    """Names of labs in the folder `states` that are gone, but for processes of theirs.

    Such a process is about to end: it took its lab down itself, or saw it go.
    """
    prefix = b"LAB_STATE=" + os.fsencode(states) + b"/"
    spared = frozenset(_ancestors(os.getpid()))
    found: set[str] = set()
    for pid in _pids():
        if pid in spared:
            continue
        try:
            block = (_PROC / str(pid) / "environ").read_bytes()
        except OSError:
            continue
        for entry in block.split(b"\0"):
            if entry.startswith(prefix) and not os.path.lexists(entry.partition(b"=")[2]):
                found.add(os.fsdecode(entry.removeprefix(prefix)))
    return sorted(found)


def thaw_containers(paths: LabPaths) -> None:
    """Let frozen containers of the lab go on, so that they can be ended.

    In control groups of the first version a frozen process does not even die.
    What does not work here is told by `remove_containers`.
    """
    frozen = [entry.name for entry in journal.read(paths.journal) if entry.kind == KIND_PAUSED]
    if not frozen:
        return
    from lab.runtime.docker import Engine  # noqa: PLC0415 - as below

    engine = Engine.connect()
    if engine is not None:
        with engine:
            for name in frozen:
                engine.thaw(name, paths)


def remove_containers(paths: LabPaths) -> int:
    """Remove every container of the lab, running, paused or not; how many there were.

    Fine without an engine, unless the journal says that there were containers:
    then LabError, because they may still be there.
    """
    entries = journal.read(paths.journal)
    noted = [e for e in entries if e.kind == KIND_CONTAINER]
    created = {e.name for e in entries if e.kind == KIND_CREATED}
    if not noted:
        return 0
    from lab.runtime.docker import Engine  # noqa: PLC0415 - most labs have no containers

    engine = Engine.connect()
    if engine is None:
        raise LabError(
            f"no Docker engine answers, but lab {paths.lab!r} has containers: "
            + ", ".join(entry.name for entry in noted[:5])
            + (", …" if len(noted) > 5 else ""),
            remedy="start the engine (DOCKER_HOST names its socket), then run `lab down` again",
        )
    with engine:
        identifiers = engine.containers_of(paths)
        with ThreadPoolExecutor(engine.workers) as pool:
            list(pool.map(engine.remove_id, identifiers))
        # The agent died with these orders on their way: they may yet be carried out.
        late = sum(
            engine.settle(paths, entry.name, dict(entry.more).get("image", ""))
            for entry in noted
            if entry.name not in created
        )
    return len(identifiers) + late


def _namespaces(paths: LabPaths) -> frozenset[int]:
    names = {e.name for e in journal.read(paths.journal) if e.kind == "netns"}
    found: set[int] = set()
    for name in names:
        try:
            found.add((NETNS_DIR / name).stat().st_ino)
        except OSError:
            continue
    return frozenset(found - {_inode("/proc/self/ns/net"), _inode("/proc/1/ns/net")})


def _inode(path: str) -> int:
    try:
        return Path(path).stat().st_ino
    except OSError:
        return 0


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal())


def _ancestors(pid: int) -> Iterator[int]:
    """`pid` and the processes above it."""
    while pid > 0:
        yield pid
        try:
            stat = (_PROC / str(pid) / "stat").read_text()
        except OSError:
            return
        # The command's name stands in parentheses and may hold anything.
        pid = int(stat.rpartition(")")[2].split()[1])


def _newest() -> int:
    """The number that was given to a process last; the next ones follow it, until they wrap."""
    return int((_PROC / "loadavg").read_text().split()[-1])


def _killed(lab: _Membership, pids: Iterable[int], spared: frozenset[int]) -> Iterator[int]:
    """Kill each process among `pids` that is the lab's; a pidfd of each."""
    for pid in pids:
        if pid in spared:
            continue
        try:
            # First of all: the number can't change hands unnoticed any more.
            handle = os.pidfd_open(pid)
        except OSError:
            # Gone, or the number of a thread.
            continue
        if lab.holds(pid):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            yield handle
        else:
            os.close(handle)


def _await_end(handles: list[int], deadline: float, paths: LabPaths) -> None:
    """Wait until each has ended; closes the handles."""
    try:
        poll = select.poll()
        for handle in handles:
            poll.register(handle, select.POLLIN)
        left = set(handles)
        while left:
            remaining = deadline - time.monotonic()
            ready = poll.poll(max(0.0, remaining) * 1000)
            if not ready:
                raise LabError(
                    f"{len(left)} processes of lab {paths.lab!r} can't be killed",
                    remedy="they are stuck in the kernel: see `dmesg`, then run `lab down` again",
                )
            for handle, _ in ready:
                poll.unregister(handle)
                left.discard(handle)
    finally:
        for handle in handles:
            os.close(handle)
