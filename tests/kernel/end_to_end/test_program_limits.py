"""Programs that are processes keep to `memory:` and `cpus:`, and nothing of that stays behind."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.agent import lock
from lab.runtime import limits
from tests.kernel.end_to_end.support import Command, traces

TREES = limits.trees()
pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(
        {limits.MEMORY, limits.CPUS} - TREES.keys() != set(),
        reason="no control groups here limit memory and processor time",
    ),
]

GREEDY = "while True: kept = [globals().get('kept'), bytearray(1 << 20)]"
"""Holds a MiB more and more, until it is stopped."""


def brought_up(lab: Command, folder: Path, *nodes: str) -> str:
    """The name of a running lab with these nodes."""
    name = lab.name()
    file = folder / "limited.yaml"
    file.write_text("nodes:\n" + "".join(f"  {node}\n" for node in nodes))
    lab.ok("up", str(file), "--name", name, "--runtime", "process")
    return name


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "did not come true"
        time.sleep(0.05)


def own(node: str, command: str, **more: object) -> str:
    words = "".join(f", {key}: {value}" for key, value in more.items())
    return f"{node}: {{via: internet, command: {command}{words}}}"


def python(script: str) -> str:
    return f'["{sys.executable}", "-S", "-c", "{script}"]'


def groups_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cgroup").read_text().splitlines()


def test_a_program_that_exceeds_its_memory_is_killed_and_status_says_so(lab, tmp_path):
    name = brought_up(
        lab,
        tmp_path,
        own("greedy", python(GREEDY), memory="32MB"),
        own("modest", '["sleep", "600"]', memory="32MB"),
        own("free", '["sleep", "600"]'),
    )

    def program(node: str) -> dict[str, object]:
        nodes = lab.json("status", name)["nodes"]
        return next(each["program"] for each in nodes if each["node"] == node)

    until(lambda: program("greedy")["state"] == "exited")
    greedy = program("greedy")
    assert greedy["exit_code"] == -signal.SIGKILL
    assert greedy["reason"] == "killed: memory limit (32 MB)"
    assert "✗ killed: memory limit (32 MB)" in lab.ok("status", name)
    assert "memory limit" in lab.ok("events", name)
    assert program("modest")["state"] == program("free")["state"] == "ready"
    mark = f"lab.{name}."
    assert any(
        mark in group and ".limited/" in group for group in groups_of(program("modest")["pid"])
    )
    assert not any(".limited/" in group for group in groups_of(program("free")["pid"]))
    # It begins anew with nothing on its account.
    lab.ok("node", "stop", "modest", "--lab", name)
    lab.ok("node", "start", "modest", "--lab", name)
    assert program("modest")["state"] == "ready"
    lab.ok("down", name)
    assert traces(name, lab.state) == []


def test_a_program_that_kills_itself_was_not_killed_for_its_memory(lab, tmp_path):
    name = brought_up(lab, tmp_path, own("gone", '["sh", "-c", "kill -9 $$"]', memory="32MB"))
    until(lambda: "exited" in lab.ok("status", name))
    assert "memory limit" not in lab.ok("status", name)


def test_a_program_that_ended_well_was_not_killed_for_its_memory(lab, tmp_path):
    command = f'["sh", "-c", "{sys.executable} -S -c \\"{GREEDY}\\"; echo over; exit 0"]'
    name = brought_up(lab, tmp_path, own("done", command, memory="32MB"))
    until(lambda: "over" in lab.ok("logs", "done", "--lab", name))
    until(lambda: "exited 0" in lab.ok("status", name))
    assert "memory limit" not in lab.ok("status", name)


def test_processor_time_is_divided_as_the_file_says(lab, tmp_path):
    name = brought_up(lab, tmp_path, own("slow", '["sleep", "600"]', cpus=0.25))
    tree = TREES[limits.CPUS]
    (group,) = tree.folder.glob(f"lab.{name}.*.limited/slow")
    if tree.unified:
        assert (group / "cpu.max").read_text() == "25000 100000\n"
    else:
        assert (group / "cpu.cfs_quota_us").read_text() == "25000\n"
        assert (group / "cpu.cfs_period_us").read_text() == "100000\n"
    assert len((group / "cgroup.procs").read_text().split()) == 1
    # What comes into the node later shares it.
    groups = lab.ok("exec", "--lab", name, "slow", "--", "cat", "/proc/self/cgroup")
    assert re.search(rf"{re.escape(group.parent.name)}/slow$", groups, re.MULTILINE), groups


def test_limits_go_with_a_lab_whose_agent_was_killed(lab, tmp_path):
    forking = "import os\\nwhile True:\\n  if os.fork(): os._exit(0)\\n"
    name = brought_up(
        lab,
        tmp_path,
        own("a", '["sleep", "600"]', memory="32MB", cpus=0.5),
        own("b", python(forking), memory="64MB", cpus=0.2),
        "peer: {via: internet, peer: true, memory: 128MB}",
    )
    tree = TREES[limits.MEMORY]
    (top,) = tree.folder.glob(f"lab.{name}.*.limited")
    agent = lock.holder(lab.paths(name).agent_lock)
    assert agent is not None
    # Somebody who is in such a group may take the lab down.
    script = f"echo 0 > {top}/a/cgroup.procs; kill -9 {agent}; {sys.executable} -m lab down {name}"
    subprocess.run(
        ["sh", "-c", f"{script} && echo survived"],
        env=lab.env,
        timeout=60,
        check=True,
        capture_output=True,
    )
    assert not top.exists()
    assert traces(name, lab.state) == []
