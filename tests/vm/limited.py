"""Limits of programs where control groups are one tree: a module of checks for a guest.

`python -m tests.vm.limited` prints a JSON line for each.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

from lab.fabric.journal import Journal
from lab.paths import LabPaths
from lab.plan.model import Program
from lab.runtime import group, limits
from lab.topology.behaviour import Runtime

TREE = Path("/sys/fs/cgroup")


def main() -> None:
    """Give programs limits, see them kept and told, and take everything away again."""
    if "cgroup2" not in Path("/proc/self/mounts").read_text():
        subprocess.run(["mount", "-t", "cgroup2", "none", str(TREE)], check=True)
    (TREE / "cgroup.subtree_control").write_text("+memory +cpu")
    trees = limits.trees()
    say("one tree has both", {key: tree.unified for key, tree in trees.items()})
    paths = LabPaths(Path("/run/t-limited"))
    paths.root.mkdir()
    journal = Journal.open(paths.journal)
    group.create(paths, journal)
    made = limits.Limits(paths, journal)
    greedy = "head -c 200m /dev/zero | tail -c 190m | wc -c"
    pid, groups = start(made, "greedy", greedy, memory_bytes=32_000_000, cpus=0.5)
    os.waitpid(pid, 0)
    say("exceeded", made.exceeded("greedy"))
    say("processor time", (groups[0] / "cpu.max").read_text().strip())
    _, groups = start(made, "forks", "while :; do sleep 0 & wait; done", memory_bytes=64_000_000)
    start(made, "modest", "sleep 600", memory_bytes=32_000_000)
    say("not exceeded", made.exceeded("modest"))
    # Who takes the lab down is in one of its groups, and survives.
    (groups[0] / "cgroup.procs").write_text("0")
    killed = group.kill(paths, {os.getpid()}, time.monotonic() + 60)
    say("killed", killed >= 2)
    say("left", [str(folder) for folder in TREE.rglob("lab.*")])


def start(
    made: limits.Limits, node: str, script: str, *, memory_bytes: int, cpus: float = 0.0
) -> tuple[int, list[Path]]:
    """A shell with these limits: its number and its groups."""
    program = Program(
        runtime=Runtime.PROCESS, command=("sh",), memory_bytes=memory_bytes, cpus=cpus
    )
    groups = [Path(folder) for folder in made.groups(node, program)]
    pid = os.fork()
    if pid == 0:
        for folder in groups:
            (folder / "cgroup.procs").write_text("0")
        os.execvp("sh", ["sh", "-c", script])  # noqa: S606 - the fork is already a process of its own
    return pid, groups


def say(check: str, found: object) -> None:
    """One result."""
    print(json.dumps({"check": check, "found": found}), flush=True)


if __name__ == "__main__":
    main()
