"""What the command says when something is not as it should be: one clear error, nothing left."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lab.agent import lock, wire
from lab.agent.spawn import spawn
from lab.agent.teardown import destroy
from lab.cli.claim import claim
from tests.kernel.end_to_end.support import Command, traces

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("name", ["../t-e2e", "t-e2e/x", "t e2e", "t.e2e", "", ".t", "-", "T"])
def test_a_name_that_leads_elsewhere_is_refused(lab: Command, name: str):
    refused = lab.run("up", "lan", "--name", name, "--runtime", "process")
    assert refused.returncode == 2, refused.stderr
    assert "can't be a name" in refused.stderr
    assert not lab.state.exists()


@pytest.mark.parametrize(
    "arguments",
    [["status"], ["logs"], ["graph"], ["connect", "alice", "bob"], ["exec", "alice", "true"]],
    ids=lambda arguments: arguments[0],
)
def test_without_root_a_running_lab_is_out_of_reach(lab: Command, arguments: list[str]):
    (lab.state / lab.name()).mkdir(mode=0o700, parents=True)
    lab.state.chmod(0o755)
    refused = as_nobody(lab, *arguments)
    assert refused.returncode == 3, refused.stderr
    assert "root" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_without_root_a_folder_that_cannot_be_looked_into(lab: Command):
    lab.state.mkdir(mode=0o700)
    refused = as_nobody(lab, "ls")
    assert refused.returncode == 3, refused.stderr
    assert "root" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_without_root_labs_are_listed(lab: Command):
    name = lab.name()
    (lab.state / name).mkdir(mode=0o700, parents=True)
    listed = as_nobody(lab, "ls")
    assert listed.returncode == 0, listed.stderr
    assert name in listed.stdout
    assert "needs root" in listed.stdout


def test_a_drawing_that_cannot_be_written(lab: Command, tmp_path: Path):
    refused = lab.run("graph", "lan", "--output", str(tmp_path / "nowhere" / "lan.svg"))
    assert refused.returncode == 2
    assert "can't write" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("free", [0, 4, 12, 16, 24])
def test_a_disk_that_fills_up_anywhere(lab: Command, free: int):
    """One error that names the reason, wherever the space ends."""
    name = lab.name()
    lab.state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "lab-test", lab.state], check=True)
    try:
        (lab.state / "fill").write_bytes(b"x" * (64 - free) * 1024)
        up = lab.run("up", "two-homes", "--name", name, "--runtime", "process")
        assert up.returncode in {0, 4}, up.stderr
        if up.returncode == 4:
            assert "space" in up.stderr, up.stderr
            assert [t for t in traces(name, lab.state) if not t.startswith("mount ")] == []
        else:
            lab.ok("down", name)
    finally:
        subprocess.run(["umount", "--lazy", lab.state], check=True)


def test_only_two_peers_can_connect(lab: Command):
    name = lab.name()
    lab.ok("up", "lan", "--name", name, "--runtime", "process")
    for end in ("alice", "home", "stun", "home.lan"):
        refused = lab.run("connect", "alice", end, "--lab", name)
        assert refused.returncode == 2, refused.stderr
        assert "peers: alice, bob" in refused.stderr


def test_an_error_is_said_once(lab: Command):
    name = lab.name()
    lab.ok("up", "lan", "--name", name, "--runtime", "process")
    elsewhere = Command(lab.state.with_name("elsewhere"))
    refused = elsewhere.run("up", "lan", "--name", name, "--runtime", "process", "--quiet")
    assert refused.returncode == 4
    assert refused.stderr.count("exists already") == 1, refused.stderr


def test_an_agent_whose_first_order_fails_waits_until_that_was_read(
    lab: Command, monkeypatch: pytest.MonkeyPatch
):
    """Whoever ordered takes the lab's folder away; the agent has no other trouble than its own."""
    monkeypatch.setenv("LAB_STATE_DIR", str(lab.state))
    name = lab.name()
    agent = spawn()
    paths = claim(name)
    order = {"do": "up", "plan": "no plan", "metrics_port": 0, "root": str(paths.root)}
    agent.sock.settimeout(30)
    agent.sock.sendall(wire.pack(order))
    with agent.sock.makefile("rb") as lines:
        while "error" not in (answer := wire.unpack(lines.readline())):
            assert "result" not in answer
        # It survives the folder that it is in.
        with paths.agent_log.open() as log:
            agent.sock.shutdown(socket.SHUT_WR)
            assert lines.read() == b""
            agent.process.wait(60)
            said = log.read()
    agent.sock.close()
    destroy(paths)
    assert "already waiting for incoming data" not in said
    assert said.count("Traceback") == 1, said
    assert traces(name, lab.state) == []


def test_a_late_teardown_spares_the_next_lab_of_that_name(lab: Command):
    """It waits for another that removes the lab; what it finds then is not its lab."""
    name = lab.name()
    paths = lab.paths(name)
    lab.ok("up", "lan", "--name", name, "--runtime", "process")
    before = os.open(paths.root, os.O_RDONLY)
    with lock.alone(paths.root) as there:
        assert there
        late = subprocess.Popen(
            [sys.executable, "-m", "lab", "down", name], env=lab.env, stderr=subprocess.PIPE
        )
        wait_for_waiter(before)
        paths.root.rename(paths.root.with_name(f"{name}-old"))
        paths.root.mkdir()
        (paths.root / "mine").touch()
    late.communicate(timeout=60)
    os.close(before)
    assert late.returncode == 0
    assert (paths.root / "mine").exists()
    (paths.root / "mine").unlink()
    paths.root.rmdir()
    paths.root.with_name(f"{name}-old").rename(paths.root)
    destroy(paths)
    assert traces(name, lab.state) == []


def wait_for_waiter(folder: int) -> None:
    """Return when a process waits for the lock on `folder` (proc_locks(5): a line with `->`)."""
    inode = f":{os.fstat(folder).st_ino} "
    while not any(
        "->" in line and inode in line for line in Path("/proc/locks").read_text().splitlines()
    ):
        os.sched_yield()


def as_nobody(lab: Command, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user without rights."""
    # The interpreter may be where only root can read, so it changes its user once it runs.
    program = (
        "import os, sys; import lab.cli.main as m;"
        "import lab.cli.terminal, lab.agent.lock, lab.agent.client, lab.observe.status;"
        "import lab.observe.graph, lab.observe.status_json, lab.runtime.enter, lab.observe.expect;"
        "[m.cli.get_command(None, name) for name in m.COMMANDS];"
        f"os.setuid(65534); m.main({list(arguments)!r})"
    )
    for folder in lab.state.parents:
        if folder.stat().st_uid == os.getuid() and folder.is_relative_to("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o055)
    return subprocess.run(
        [sys.executable, "-c", program],
        env=lab.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
