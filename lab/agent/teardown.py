"""Removing a lab completely, whatever is left of it.

There is one way down for every case (asked for, interrupted, crashed, killed):
end the agent at once, then remove what the journal names.  Nothing depends on
anybody's cooperation.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
from dataclasses import dataclass

from lab.agent import lock
from lab.errors import LabError
from lab.fabric import journal
from lab.fabric import teardown as fabric
from lab.paths import LabPaths, is_labs
from lab.runtime import teardown as runtime

_AGENT_DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True)
class Removed:
    """What a teardown found and removed."""

    lab: str
    processes: int
    containers: int
    namespaces: int


def destroy(paths: LabPaths) -> Removed:
    """Remove every trace of the lab at `paths`; fine if there is little or nothing.

    Raises LabError if something could not be removed, or if the folder is no
    lab's; it can be called again, and by several processes at once.
    """
    with lock.alone(paths.root) as there:
        if not there:
            # Another teardown was quicker.  It may be ending still; but what has the
            # name again by now is a new lab.
            processes = 0 if paths.root.exists() else runtime.kill_processes(paths)
            return Removed(paths.lab, processes, 0, 0)
        if not is_labs(paths.root):
            raise LabError(
                f"{paths.root} is no lab's: there is no journal in it",
                remedy="set LAB_STATE_DIR to where the labs are",
            )
        _end_agent(paths)
        runtime.thaw_containers(paths)
        processes = runtime.kill_processes(paths)
        entries = journal.read(paths.journal)
        containers = runtime.remove_containers(paths)
        namespaces = fabric.remove_namespaces(entries)
        _remove_files(paths)
    return Removed(paths.lab, processes, containers, len(namespaces))


def _end_agent(paths: LabPaths) -> None:
    pid = lock.holder(paths.agent_lock)
    if pid is None or pid == os.getpid():
        return
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        # The number could have changed hands before the descriptor was taken.
        if lock.holder(paths.agent_lock) != pid:
            return
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        if not select.select([fd], [], [], _AGENT_DEADLINE_S)[0]:
            raise LabError(
                f"the agent of lab {paths.lab!r} (process {pid}) can't be killed",
                remedy="it is stuck in the kernel: see `dmesg`, then run `lab down` again",
            )
    finally:
        os.close(fd)


def _remove_files(paths: LabPaths) -> None:
    """Remove the state folder; the journal goes last, so that a killed teardown can go on."""
    try:
        for entry in paths.root.iterdir():
            if entry == paths.journal:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink(missing_ok=True)
        paths.scrape_draft.unlink(missing_ok=True)
        paths.scrape_target.unlink(missing_ok=True)
        paths.journal.unlink(missing_ok=True)
        paths.root.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        raise LabError(
            f"the state folder {paths.root} can't be removed: {error.strerror}",
            remedy="remove what holds it, then run `lab down` again",
        ) from error
