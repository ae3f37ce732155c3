"""Having everything in a node hold still, and go on: process programs.

A stopped process gets no processor time and keeps its sockets, which go on
filling up.  All that is in the node's network namespace is meant, whoever
started it and whatever session it made itself the leader of.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from lab.errors import LabError

_PROC = Path("/proc")
_DEADLINE_S = 5.0


def pause(namespace: Path) -> int:
    """Stop every process in the network namespace; how many there are.

    Returns when all have stopped.  Raises LabError if more come all the time.
    """
    deadline = time.monotonic() + _DEADLINE_S
    told: set[int] = set()
    while time.monotonic() < deadline:
        found = set(_inhabitants(namespace))
        # One that waits in the kernel (for a child that it has just made, and that is
        # stopped already) can't stop now, and does before it runs again.
        awake = [pid for pid in found if pid not in told or _state(pid) in "RS"]
        if not awake:
            return len(found)
        # One that forked before it was stopped has a child that the next look sees.
        _signal(awake, signal.SIGSTOP)
        told.update(awake)
        os.sched_yield()
    raise LabError(
        f"there are ever more processes in {namespace.name}", remedy="end what starts them"
    )


def resume(namespace: Path) -> int:
    """Let every process in the network namespace go on; how many there are."""
    found = list(_inhabitants(namespace))
    _signal(found, signal.SIGCONT)
    return len(found)


def _inhabitants(namespace: Path) -> Iterator[int]:
    try:
        wanted = namespace.stat().st_ino
    except OSError:
        return
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if (entry / "ns/net").stat().st_ino == wanted:
                    yield int(entry.name)


def _state(pid: int) -> str:
    """The letter of proc_pid_stat(5); X for one that is gone."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
