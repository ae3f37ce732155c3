"""What a process program may use of the machine: `memory:` and `cpus:`, kept by the kernel.

Each program with limits has a control group of its own, `<lab's>/<node>`, in the
tree that has the controller: cgroup2 where the group that the agent was started
in, or one above it, hands the controller down, else the controller's old
hierarchy.  A program without limits is in none of them and costs nothing.

In cgroup2 a process is in one group alone, so a program with limits is not in
the lab's (`lab.runtime.group`); that module ends what is in here all the same.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError
from lab.fabric.journal import Journal
from lab.paths import LabPaths
from lab.plan.model import Program
from lab.runtime import group, hierarchy

MEMORY, CPUS = "memory", "cpus"
"""What can be limited, by its key in the file."""

_CONTROLLERS = {MEMORY: "memory", CPUS: "cpu"}
_OLD_FILES = {MEMORY: "memory.limit_in_bytes", CPUS: "cpu.cfs_quota_us"}
_PERIOD_US = 100_000
"""In which a program may use its share of processor time; the kernel's own default."""
_LEAST_US = 1000
"""The kernel takes no smaller quota."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree with the controller of one limit."""

    unified: bool
    """Whether it is cgroup2."""
    folder: Path
    """The group below which others can be made."""


def trees() -> Mapping[str, Tree]:
    """Where `memory` and `cpus` can be limited here; one that can't be is not in it."""
    return {key: tree for key in _CONTROLLERS if (tree := _tree(key)) is not None}


def _tree(key: str) -> Tree | None:
    folder = _handing_down(_CONTROLLERS[key])
    if folder is not None:
        return Tree(True, folder)
    folder = hierarchy.own(_CONTROLLERS[key])
    if folder is None or not (folder / _OLD_FILES[key]).exists():
        return None
    return Tree(False, folder) if os.access(folder, os.W_OK) else None


def _handing_down(controller: str) -> Path | None:
    """The nearest group of cgroup2 from the caller's upwards whose members have `controller`.

    A group that has processes hands nothing down, so it is seldom the caller's own.
    """
    mount, own = hierarchy.mounted(), hierarchy.own()
    if mount is None or own is None:
        return None
    for folder in (own, *own.parents):
        if not folder.is_relative_to(mount[1]):
            break
        with contextlib.suppress(OSError):
            handed = (folder / "cgroup.subtree_control").read_text().split()
            if controller in handed and os.access(folder, os.W_OK):
                return folder
    return None


@dataclass(frozen=True, slots=True)
class _Watch:
    """A program whose memory is limited."""

    bound: int
    events: Path
    """Where the kernel counts what it killed."""
    before: int
    """How many those were when the program began."""


class Limits:
    """The limited programs of one lab."""

    def __init__(self, paths: LabPaths, journal: Journal) -> None:
        """Make nothing yet."""
        self._name = group.limited_name(paths)
        self._journal = journal
        self._watched: dict[str, _Watch] = {}

    def groups(self, node: str, program: Program) -> tuple[str, ...]:
        """The groups that the program of `node` has to join, made and limited.

        A limit that can't be kept here was told when the plan was made, and is
        left out.  Raises LabError if a group can't be made.
        """
        self._watched.pop(node, None)
        if not (program.memory_bytes or program.cpus):
            return ()
        there = trees()
        values = {MEMORY: float(program.memory_bytes), CPUS: program.cpus}
        wanted = [
            (key, there[key], value) for key, value in values.items() if value and key in there
        ]
        folders = {key: tree.folder / self._name / node for key, tree, _ in wanted}
        for folder in set(folders.values()):
            # With what it was limited to before, if nothing has stayed in it.
            with contextlib.suppress(OSError):
                folder.rmdir()
        for key, tree, value in wanted:
            try:
                self._make(tree, folders[key], _CONTROLLERS[key])
                _limit(folders[key], tree, key, value)
            except OSError as error:
                raise LabError(
                    f"node {node!r}: its {key} can't be limited: {error.strerror}",
                    remedy=f"leave `{key}:` out; the groups are in {tree.folder}",
                ) from error
        if MEMORY in folders:
            name = "memory.events" if there[MEMORY].unified else "memory.oom_control"
            events = folders[MEMORY] / name
            self._watched[node] = _Watch(program.memory_bytes, events, _killed(events))
        return tuple(sorted({str(folder) for folder in folders.values()}))

    def exceeded(self, node: str) -> str:
        """The limit for which the kernel has killed what the node's program is, or began; or ""."""
        watch = self._watched.get(node)
        if watch is None or _killed(watch.events) <= watch.before:
            return ""
        return memory_limit(watch.bound)

    def _make(self, tree: Tree, folder: Path, controller: str) -> None:
        top = folder.parent
        if not self._journal.holds(group.KIND_LIMITED, str(top)):
            self._journal.note(group.KIND_LIMITED, str(top))
        top.mkdir(exist_ok=True)
        if tree.unified:
            (top / "cgroup.subtree_control").write_text(f"+{controller}")
        folder.mkdir(exist_ok=True)


def memory_limit(bound: int) -> str:
    """What to call a limit of so many bytes that was exceeded."""
    return f"memory limit ({bound / 1e6:.4g} MB)"


def _killed(events: Path) -> int:
    with contextlib.suppress(OSError):
        for line in events.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == "oom_kill":
                return int(value)
    return 0


def _limit(folder: Path, tree: Tree, key: str, value: float) -> None:
    if key == CPUS:
        quota = max(_LEAST_US, round(value * _PERIOD_US))
        if tree.unified:
            (folder / "cpu.max").write_text(f"{quota} {_PERIOD_US}")
        else:
            (folder / "cpu.cfs_quota_us").write_text(str(quota))
        return
    # Memory that was moved to disk is used too: where the kernel counts it, there is none.
    if tree.unified:
        (folder / "memory.max").write_text(str(round(value)))
        with contextlib.suppress(OSError):
            (folder / "memory.swap.max").write_text("0")
    else:
        _limit_old_memory(folder, str(round(value)))


def _limit_old_memory(folder: Path, value: str) -> None:
    """Memory may not exceed memory and swap together, so the order depends on what was before."""
    both = folder / "memory.memsw.limit_in_bytes"
    with contextlib.suppress(OSError):
        both.write_text("-1")
    (folder / "memory.limit_in_bytes").write_text(value)
    with contextlib.suppress(OSError):
        both.write_text(value)
