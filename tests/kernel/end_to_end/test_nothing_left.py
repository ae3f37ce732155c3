"""Whatever happens to the command, the agent or the peers, `lab down` removes everything.

And it removes nothing else: a namespace, a process and (with Docker) a
container that are not the lab's stand beside it all the time.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.agent import lock
from lab.fabric import netns
from lab.paths import NETNS_DIR
from tests.kernel.end_to_end.support import Command, traces

pytestmark = pytest.mark.kernel

TOPOLOGY = "two-homes"
POINTS = (0, 1, 4, 9, 14, 20, 26, 33, 40)
"""After how many lines of `lab up --verbose` something dies."""


@pytest.fixture
def stranger(lab: Command) -> Iterator[None]:
    """A namespace with a process in it, named almost like the lab's."""
    name = lab.name()
    path = NETNS_DIR / f"{name}x.alice"
    netns.create(path)
    with netns.inside(path):
        process = subprocess.Popen(["sleep", "300"])
    yield
    try:
        assert path.exists()
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
        netns.delete(path)


def up_until(lab: Command, name: str, lines: int, runtime: str) -> subprocess.Popen[str]:
    """Start `lab up` and return when it has printed so many lines (or has ended)."""
    up = lab.popen("up", TOPOLOGY, "--name", name, "--runtime", runtime, "--verbose")
    assert up.stderr is not None
    for _ in range(lines):
        if not up.stderr.readline():
            break
    return up


def check_clean(lab: Command, name: str) -> None:
    lab.ok("down", "--all")
    assert traces(name, lab.state) == []


@pytest.mark.usefixtures("stranger")
@pytest.mark.parametrize("after", POINTS)
def test_interrupted(lab: Command, after: int):
    name = lab.name()
    up = up_until(lab, name, after, "process")
    up.send_signal(signal.SIGINT)
    up.communicate(timeout=60)
    if up.returncode == 0:
        lab.ok("down", name)
    # An interrupted `up` cleans up by itself.
    assert traces(name, lab.state) == []


@pytest.mark.usefixtures("stranger")
@pytest.mark.parametrize("after", POINTS)
def test_killed(lab: Command, after: int):
    name = lab.name()
    up = up_until(lab, name, after, "process")
    up.kill()
    up.communicate(timeout=60)
    check_clean(lab, name)


@pytest.mark.usefixtures("stranger")
@pytest.mark.parametrize("after", POINTS[1:])
def test_agent_killed_while_it_builds(lab: Command, after: int):
    name = lab.name()
    up = up_until(lab, name, after, "process")
    agent = lock.holder(lab.paths(name).agent_lock)
    if agent is not None:
        os.kill(agent, signal.SIGKILL)
    up.communicate(timeout=60)
    check_clean(lab, name)


def test_agent_killed_later_is_visible_and_harmless(lab: Command):
    name = lab.name()
    lab.ok("up", TOPOLOGY, "--name", name, "--runtime", "process")
    agent = lock.holder(lab.paths(name).agent_lock)
    assert agent is not None
    kill_and_wait(agent)
    assert lab.json("ls")[0]["state"] == "agent dead"
    assert lab.json("status", name)["agent"]["alive"] is False
    refused = lab.run("connect", "alice", "bob", "--lab", name)
    assert refused.returncode == 4
    assert "agent" in refused.stderr
    check_clean(lab, name)


def test_peer_killed_is_visible_and_harmless(lab: Command):
    name = lab.name()
    lab.ok("up", TOPOLOGY, "--name", name, "--runtime", "process")
    programs = {p["node"]: p for p in lab.json("status", name)["nodes"] if p.get("program")}
    kill_and_wait(programs["alice"]["program"]["pid"])
    refused = lab.run("connect", "alice", "bob", "--lab", name)
    assert refused.returncode != 0
    alice = next(n for n in lab.json("status", name)["nodes"] if n["node"] == "alice")
    assert alice["program"]["state"] == "exited"
    check_clean(lab, name)


def test_a_program_started_by_exec_goes_too(lab: Command):
    name = lab.name()
    lab.ok("up", "lan", "--name", name, "--runtime", "process")
    sleeper = lab.popen("exec", "--lab", name, "alice", "--", "sh", "-c", "echo on; exec sleep 300")
    assert sleeper.stdout is not None
    assert sleeper.stdout.readline() == "on\n"
    check_clean(lab, name)
    assert sleeper.wait(timeout=30) != 0


def test_a_process_that_outlived_its_lab_goes_with_all_others(lab: Command, tmp_path: Path):
    gone, elsewhere = lab.state / lab.name(), tmp_path / "other" / "lab"
    with (
        subprocess.Popen(["sleep", "300"], env={"LAB_STATE": str(gone)}) as ours,
        subprocess.Popen(["sleep", "300"], env={"LAB_STATE": str(elsewhere)}) as anothers,
    ):
        lab.ok("down", "--all")
        assert ours.wait(timeout=30) == -signal.SIGKILL
        assert anothers.poll() is None
        anothers.kill()


def test_who_follows_the_logs_ends_with_the_lab(lab: Command):
    name = lab.name()
    lab.ok("up", "lan", "--name", name, "--runtime", "process")
    follower = lab.popen("logs", "--lab", name, "--follow")
    assert follower.stdout is not None
    assert follower.stdout.readline().startswith("==> ")
    check_clean(lab, name)
    follower.communicate(timeout=60)


def test_a_second_lab_of_the_same_name_is_refused(lab: Command):
    name = lab.name()
    lab.ok("up", "lan", "--name", name, "--runtime", "process")
    second = lab.run("up", "lan", "--name", name, "--runtime", "process")
    assert second.returncode == 2
    assert "exists already" in second.stderr
    lab.ok("connect", "alice", "bob", "--lab", name, "--technique", "direct")


def test_a_namespace_that_is_not_ours_is_left_alone(lab: Command):
    name = lab.name()
    foreign = NETNS_DIR / f"{name}.alice"
    netns.create(foreign)
    try:
        refused = lab.run("up", "lan", "--name", name, "--runtime", "process")
        assert refused.returncode in {2, 4}
        assert f"{name}.alice" in refused.stderr
        lab.ok("down", "--all")
        assert foreign.exists()
        assert [t for t in traces(name, lab.state) if foreign.name not in t] == []
    finally:
        netns.delete(foreign)


def test_not_root(lab: Command):
    name = lab.name()
    # The interpreter may be where only root can read, so it changes its user once it runs.
    program = (
        "import os; from lab.cli import main, planning, terminal, up;"
        f"os.setuid(65534); main.main(['up', 'lan', '--name', '{name}'])"
    )
    refused = subprocess.run(
        [sys.executable, "-c", program],
        env=lab.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode == 3, refused.stderr
    assert "root" in refused.stderr


def test_no_iptables(lab: Command, tmp_path: Path):
    """A PATH without iptables: one clear error, nothing made."""
    tools = tmp_path / "bin"
    tools.mkdir()
    name = lab.name()
    refused = subprocess.run(
        [sys.executable, "-m", "lab", "up", "lan", "--name", name],
        env=lab.env | {"PATH": str(tools), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode == 3, refused.stderr
    assert "iptables" in refused.stderr
    assert traces(name, lab.state) == []


def test_full_disk(lab: Command, tmp_path: Path):
    """The state folder has no room: one clear error, nothing left."""
    name = lab.name()
    lab.state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "lab-test", lab.state], check=True)
    try:
        (lab.state / "fill").write_bytes(b"x" * 52 * 1024)
        refused = lab.run("up", "double-nat", "--name", name, "--runtime", "process")
        assert refused.returncode == 4, refused.stderr
        assert "space" in refused.stderr
        assert not (lab.state / name).exists()
        assert not list(NETNS_DIR.glob(f"{name}.*"))
    finally:
        # Lazily: the kernel takes a moment to let go of what killed processes had mounted.
        subprocess.run(["umount", "--lazy", lab.state], check=True)


def kill_and_wait(pid: int) -> None:
    descriptor = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        assert select.select([descriptor], [], [], 30)[0], "still there"
    finally:
        os.close(descriptor)
