"""Process programs in real namespaces, through the real prefork server."""

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from runtime_support import alive, netns_of, process, until, zygote

from lab.errors import LabError
from lab.plan.model import Program
from lab.runtime.contract import Tail
from lab.topology.behaviour import Mount, Runtime

pytestmark = pytest.mark.kernel

STUN = Program(
    runtime=Runtime.PROCESS,
    roles=("stun",),
    env=(
        ("LAB_ADDRESSES", "127.0.0.1,127.0.0.2"),
        ("LAB_ROLE", "stun"),
        ("LAB_SEED", "1"),
        ("LAB_STUN", "127.0.0.1:3478,127.0.0.2:3478"),
    ),
    ready_signal=True,
)


def test_a_program_sees_the_node_and_nothing_of_the_caller(scratch, monkeypatch):
    monkeypatch.setenv("OF_THE_CALLER", "1")
    script = "hostname; ls /sys/class/net; cat /etc/hosts /etc/resolv.conf; pwd; echo oops >&2; env"

    async def run():
        async with zygote(scratch) as server:
            node = scratch.namespace("alice")
            pid = await server.spawn(node, process("sh", "-c", script, LAB_ADDRESSES="45.0.0.2"))
            assert pid > 0
            assert (await scratch.ended(node)).code == 0

    before = Path("/etc/hosts").read_text(), socket.gethostname()
    asyncio.run(run())
    folder = scratch.paths.node("alice")
    lines = scratch.out("alice").splitlines()
    assert lines[:2] == ["alice", "lo"]
    assert "45.0.0.2 alice" in lines
    assert not any(line.startswith("nameserver") for line in lines)
    assert str(folder) in lines
    environment = dict(line.split("=", 1) for line in lines if "=" in line)
    assert environment["LAB_NODE"] == "alice"
    assert environment["LAB_DIR"] == str(folder)
    assert environment["LAB_STATE"] == str(scratch.paths.root)
    assert set(environment) <= {
        *("PATH", "HOME", "LANG", "PWD", "OLDPWD", "SHLVL", "_"),
        *("LAB_NAME", "LAB_NODE", "LAB_DIR", "LAB_STATE", "LAB_ADDRESSES"),
    }
    assert scratch.err("alice") == "oops\n"
    assert (Path("/etc/hosts").read_text(), socket.gethostname()) == before


@pytest.mark.parametrize(
    ("command", "code"),
    [(("sh", "-c", "exit 3"), 3), (("sh", "-c", "kill -9 $$"), -9), (("true",), 0)],
)
def test_the_exit_code_comes_back(scratch, command, code):
    async def run():
        async with zygote(scratch) as server:
            await server.spawn(scratch.namespace("a"), process(*command))
            assert (await scratch.ended("a")).code == code
            assert server.running == {}

    asyncio.run(run())


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("no-such-program",), "can't run 'no-such-program': No such file or directory"),
        (("/etc/passwd",), "can't run '/etc/passwd': Permission denied (exit code 126)"),
    ],
)
def test_a_program_that_cannot_run_is_an_error_at_once(scratch, command, said):
    async def run():
        async with zygote(scratch) as server:
            node = scratch.namespace("a")
            with pytest.raises(LabError) as caught:
                await server.spawn(node, process(*command))
            assert said in str(caught.value)
            # and the node can be used again
            await server.spawn(node, process("true"))
            await scratch.ended(node)

    asyncio.run(run())
    assert [e.code for e in scratch.exits] == [0]


def test_a_node_that_is_not_there_is_an_error(scratch):
    async def run():
        async with zygote(scratch) as server:
            with pytest.raises(LabError, match="can't enter the node"):
                await server.spawn("nowhere", process("true"))

    asyncio.run(run())


def test_stop_ends_the_whole_group_and_kills_what_does_not_listen(scratch):
    async def run():
        async with zygote(scratch) as server:
            node = scratch.namespace("a")
            script = "trap '' TERM; sh -c 'trap \"\" TERM; echo $$; while :; do sleep 9; done'"
            pid = await server.spawn(node, process("sh", "-c", script))
            until(lambda: scratch.out(node) != "")
            child = int(scratch.out(node))
            assert alive(pid)
            assert alive(child)
            await server.stop(node, grace_s=0.05)
            until(lambda: not alive(child))
            assert not alive(pid)
            await server.stop(node)  # none runs: nothing to do

    asyncio.run(run())
    assert [e.code for e in scratch.exits] == [-9]


def test_a_second_program_in_a_node_is_refused(scratch):
    async def run():
        async with zygote(scratch) as server:
            node = scratch.namespace("a")
            await server.spawn(node, process("sleep", "600"))
            with pytest.raises(LabError, match="already"):
                await server.spawn(node, process("sleep", "600"))

    asyncio.run(run())


def test_programs_outlive_the_server(scratch):
    async def run():
        async with zygote(scratch) as server:
            return await server.spawn(scratch.namespace("a"), process("sleep", "600"))

    assert alive(asyncio.run(run()))


def test_a_server_that_dies_fails_those_who_wait(scratch):
    async def run():
        async with zygote(scratch) as server:
            server._process.kill()
            with pytest.raises(LabError, match="process server"):
                await server.spawn(scratch.namespace("a"), process("sleep", "600"))

    asyncio.run(run())


def test_the_built_in_program_runs_in_its_node_and_says_ready(scratch):
    async def run():
        events = []
        tail = Tail(scratch.paths, lambda node, event: events.append((node, event["event"])))
        async with zygote(scratch) as server:
            nodes = [scratch.namespace(f"n{i}") for i in range(5)]
            for node in nodes:
                tail.watch(node)
            pids = await asyncio.gather(*(server.spawn(node, STUN) for node in nodes))
            assert await tail.wait_ready(nodes, 30) == ()
            assert len({netns_of(pid) for pid in pids} | {netns_of(os.getpid())}) == 6
            assert {(node, "ready") for node in nodes} <= set(events)
            assert Path(f"/proc/{pids[0]}/comm").read_text().strip() == "n0"
            for node in nodes:
                await server.stop(node, grace_s=30)
        tail.close()

    asyncio.run(run())
    assert {e.code for e in scratch.exits} == {0}


def test_who_is_not_ready_is_told_with_last_words(scratch):
    async def run():
        tail = Tail(scratch.paths, lambda _node, _event: None)
        async with zygote(scratch) as server:
            for node in ("mute", "gone"):
                tail.watch(scratch.namespace(node))
            await server.spawn("mute", process("sleep", "600"))
            await server.spawn("gone", process("sh", "-c", "echo no luck >&2; exit 1"))
            await scratch.ended("gone")
            tail.ended("gone")
            late = {u.node: u for u in await tail.wait_ready(["mute", "gone"], 0.2)}
        tail.close()
        assert (late["mute"].ended, late["mute"].lines) == (False, ())
        assert (late["gone"].ended, late["gone"].lines) == (True, ("no luck",))

    asyncio.run(run())


def test_mounts_are_for_that_program_alone(scratch, tmp_path):
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "file").write_text("given\n")
    (tmp_path / "hosts").write_text("another\n")
    target = tmp_path / "target"
    target.mkdir()
    script = f"cat {target}/file; touch {target}/x || echo read-only; cat /etc/hosts"
    program = Program(
        runtime=Runtime.PROCESS,
        command=("sh", "-c", script),
        mounts=(
            Mount(source=str(tmp_path / "given"), target=str(target), read_only=True),
            Mount(source=str(tmp_path / "hosts"), target="/etc/hosts"),
        ),
    )

    async def run():
        async with zygote(scratch) as server:
            await server.spawn(scratch.namespace("alice"), program)
            await scratch.ended("alice")

    asyncio.run(run())
    assert scratch.out("alice") == "given\nread-only\nanother\n"
    assert list(target.iterdir()) == []
    assert str(target) not in Path("/proc/self/mountinfo").read_text()


def test_a_mount_without_a_target_is_told(scratch, tmp_path):
    mount = Mount(source=str(tmp_path), target=str(tmp_path / "nowhere"))
    program = Program(runtime=Runtime.PROCESS, command=("true",), mounts=(mount,))

    async def run():
        async with zygote(scratch) as server:
            with pytest.raises(LabError, match=r"can't mount .* No such file") as caught:
                await server.spawn(scratch.namespace("alice"), program)
            assert "have to be there" in caught.value.remedy

    asyncio.run(run())


REHEARSAL = """
import os, threading
from lab.fabric import netns
from lab.peer import preload, rehearse_live

preload()
before = os.listdir("/proc/self/fd")
with netns.scratch():
    netns.loopback_up()
    rehearse_live()
assert os.listdir("/proc/self/fd") == before
assert threading.active_count() == 1
"""


def test_a_live_rehearsal_leaves_nothing_open():
    done = subprocess.run([sys.executable, "-c", REHEARSAL], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
