"""Container programs through a real engine: the gate, for images of every kind."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from runtime_support import (
    alive,
    container,
    containers,
    make_image,
    netns_of,
    process,
    until,
    zygote,
)

from lab.errors import InputError, LabError, MissingError
from lab.fabric import netns
from lab.plan.model import Interface, Node, NodeKind
from lab.runtime import containers as lifecycle
from lab.runtime import images, teardown
from lab.runtime.container import LABEL_LAB, LABEL_STATE, container_name
from lab.runtime.docker import Engine
from lab.topology.behaviour import Mount

pytestmark = [pytest.mark.kernel, pytest.mark.docker]

BUSYBOX = Path("/bin/busybox")


@pytest.fixture(scope="session")
def bare():
    """One static program and nothing else: no shell, no PATH, no folders.

    (busybox is its own name's program only if that begins with `busybox`.)
    """
    return make_image(
        "t-runtime-bare:1",
        {"busybox-program": BUSYBOX},
        ['ENTRYPOINT ["/busybox-program"]', 'CMD ["env"]'],
    )


@pytest.fixture(scope="session")
def shell():
    """A shell and its tools where an image usually has them, and a user who is not root."""
    tools = {f"bin/{name}": BUSYBOX for name in ("sh", "cat", "id", "ls", "sleep", "echo", "env")}
    show = b'#!/bin/sh\necho "name=$0 first=$1 user=$(id -u) PWD=$PWD"\nls -d /sys/class/net/*\n'
    # The shell behind the gate has an applet `hostname`: the image's own program must run.
    own = b"#!/bin/sh\necho the image\\'s own\n"
    passwd = b"root:x:0:0::/:/bin/sh\npeer:x:1000:1000::/:/bin/sh\n"
    files = {"etc/passwd": passwd, "usr/bin/show": show, "usr/bin/hostname": own}
    return make_image(
        "t-runtime-shell:1",
        tools | files,
        ["ENV A=1 name=kept found=kept", "USER peer", 'CMD ["show", "x"]', "WORKDIR /usr"],
    )


def run_to_end(scratch, program, node="alice"):
    """Create, wire (adopt the namespace), open, wait for the end; the exit code."""

    async def run():
        async with containers(scratch) as made:
            pid = await made.create_gated(node, program)
            assert netns_of(pid) != netns_of(os.getpid())
            scratch.adopt(node, pid)
            assert scratch.out(node) == ""
            made.open_gate(node)
            return (await scratch.ended(node)).code

    return asyncio.run(run())


def test_the_network_stands_before_the_program_starts(scratch, shell):
    async def run():
        async with containers(scratch) as made:
            pid = await made.create_gated("alice", container(shell))
            scratch.adopt("alice", pid)
            with netns.inside(scratch.paths.netns("alice")):
                subprocess.run(["ip", "link", "add", "wired", "type", "bridge"], check=True)
            assert "show" not in Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:2]
            made.open_gate("alice")
            assert (await scratch.ended("alice")).code == 0

    asyncio.run(run())
    assert "/sys/class/net/wired" in scratch.out("alice")
    # as it was called, by the user that the image names
    assert "name=/usr/bin/show first=x user=1000 PWD=/usr" in scratch.out("alice")


def test_an_image_without_a_shell(scratch, bare):
    assert run_to_end(scratch, container(bare, env=(("X.Y", "it's"), ("Z", "1 2")))) == 0
    lines = set(scratch.out("alice").splitlines())
    assert {"X.Y=it's", "Z=1 2", "LAB_NODE=alice", "LAB_DIR=/lab", "HOSTNAME=alice"} <= lines
    assert not any(line.startswith(("PWD=", "SHLVL=", "OLDPWD=", "_=")) for line in lines)


def test_the_environment_of_the_image_is_kept(scratch, shell):
    assert run_to_end(scratch, container(shell, "env", env=(("b.c", "2"),))) == 0
    lines = set(scratch.out("alice").splitlines())
    assert {"A=1", "b.c=2", "name=kept", "found=kept"} <= lines


@pytest.mark.parametrize(
    ("command", "code", "out"),
    [
        (("echo", "with the entry point"), 0, "with the entry point\n"),
        (("sh", "-c", 'echo \'{"event":"x"}\'; echo bad >&2; exit 7'), 7, '{"event":"x"}\n'),
    ],
)
def test_the_command_follows_the_entry_point(scratch, bare, command, code, out):
    assert run_to_end(scratch, container(bare, *command)) == code
    assert scratch.out("alice") == out
    if code:
        assert scratch.err("alice") == "bad\n"


def test_the_images_program_runs_not_the_gates_applet(scratch, shell):
    assert run_to_end(scratch, container(shell, "hostname")) == 0
    assert scratch.out("alice") == "the image's own\n"


def test_the_output_is_in_docker_logs_too(scratch, bare):
    async def run():
        async with containers(scratch) as made:
            await made.create_gated("alice", container(bare, "echo", "hello"))
            made.open_gate("alice")
            await scratch.ended("alice")
            engine = made._engine.client
            return engine.logs(container_name(scratch.paths, "alice"))

    assert asyncio.run(run()) == b"hello\n"


def test_limits_and_mounts_reach_the_program(scratch, bare, tmp_path):
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "file").write_text("from outside\n")
    program = container(
        bare,
        "sh",
        "-c",
        "cat /data/file; touch /data/x || echo read-only; echo from inside >/lab/left",
        memory_bytes=64 << 20,
        cpus=0.5,
        mounts=(Mount(source=str(tmp_path / "given"), target="/data", read_only=True),),
    )

    async def run():
        async with containers(scratch) as made:
            await made.create_gated("alice", program)
            facts = made._engine.client.inspect_container(f"{scratch.paths.lab}.alice")
            made.open_gate("alice")
            await scratch.ended("alice")
            return facts["HostConfig"]

    config = asyncio.run(run())
    assert scratch.out("alice") == "from outside\nread-only\n"
    assert (scratch.paths.node("alice") / "left").read_text() == "from inside\n"
    assert (config["Memory"], config["NanoCpus"]) == (64 << 20, 500_000_000)


def test_a_program_that_takes_more_memory_than_it_may_is_killed(scratch, bare):
    script = "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done"
    program = container(bare, "sh", "-c", script, memory_bytes=16 << 20)
    assert run_to_end(scratch, program) in (137, -9)


def test_a_read_only_root_is_no_hindrance(scratch, bare, monkeypatch):
    original = lifecycle.container_config

    def read_only(*arguments):
        config = original(*arguments)
        config["HostConfig"]["ReadonlyRootfs"] = True
        return config

    monkeypatch.setattr(lifecycle, "container_config", read_only)
    assert run_to_end(scratch, container(bare, "sh", "-c", "touch /x || echo cannot")) == 0
    assert scratch.out("alice") == "cannot\n"


def test_the_peer_image_runs_the_built_in_program(scratch):
    with Engine.demand() as engine:
        image = images.ensure(engine, print, images.Source.DEBIAN)
    env = (
        ("LAB_ADDRESSES", "127.0.0.1,127.0.0.2"),
        ("LAB_ROLE", "stun"),
        ("LAB_SEED", "1"),
        ("LAB_STUN", "127.0.0.1:3478,127.0.0.2:3478"),
    )

    async def run():
        async with containers(scratch) as made:
            scratch.adopt("s", await made.create_gated("s", container(image, env=env)))
            made.open_gate("s")
            await asyncio.to_thread(until, lambda: '"ready"' in scratch.out("s"), 30)
            await made.stop("s", grace_s=30)
            return await scratch.ended("s")

    assert asyncio.run(run()).code == 0


def test_an_agent_that_dies_opens_no_gate(scratch, bare):
    async def run():
        async with containers(scratch) as made:
            await made.create_gated("alice", container(bare, "echo", "must not be said"))
            # What its death does: nobody holds the other end any more.
            os.close(made._containers["alice"].gate)
            made._containers["alice"].gate = -1
            return (await scratch.ended("alice")).code

    assert asyncio.run(run()) == 125
    assert scratch.out("alice") == ""


@pytest.mark.parametrize(
    ("program", "kind", "said"),
    [
        (("no-such-image:1",), MissingError, "docker pull no-such-image:1"),
        (("peerlab/nothing:1",), MissingError, "lab image build"),
        (("t-runtime-shell:1", "no-such"), LabError, "no-such: not found in the image's PATH"),
        (("t-runtime-shell:1", "/no/such"), LabError, "/no/such: not found in the image"),
        (("t-runtime-shell:1", "/etc"), LabError, "/etc: not executable (exit code 126)"),
    ],
)
def test_what_cannot_run_is_an_error_that_says_what_to_do(scratch, shell, program, kind, said):
    async def run():
        async with containers(scratch) as made:
            with pytest.raises(kind) as caught:
                await made.create_gated("alice", container(*program))
            assert said in str(caught.value)

    asyncio.run(run())
    assert scratch.exits == []
    with Engine.demand() as engine:
        assert engine.containers_of(scratch.paths) == ()


def test_a_missing_mount_and_a_taken_name_are_errors(scratch, bare):
    mount = Mount(source="/no/such/folder", target="/data")
    name = f"{scratch.paths.lab}.taken"

    async def run():
        async with containers(scratch) as made:
            with pytest.raises(InputError, match="/no/such/folder"):
                await made.create_gated("alice", container(bare, mounts=(mount,)))
            with pytest.raises(LabError, match="already in use"):
                await made.create_gated("taken", container(bare))

    with Engine.demand() as engine:
        foreign = engine.create(name, {"Image": bare})
        try:
            asyncio.run(run())
            assert engine.client.inspect_container(foreign)["Id"] == foreign
        finally:
            engine.remove_id(foreign)


def test_teardown_removes_the_labs_containers_in_any_state_and_no_other(scratch, bare):
    async def run():
        async with containers(scratch) as made:
            nodes = ("gated", "running", "paused", "ended")
            await asyncio.gather(
                *(made.create_gated(n, container(bare, "sleep", "600")) for n in nodes)
            )
            for node in nodes[1:]:
                made.open_gate(node)
            made._engine.client.pause(f"{scratch.paths.lab}.paused")
            await made.stop("ended", grace_s=0)

    with Engine.demand() as engine:
        # The same lab name under another state folder, and one without labels.
        labels = {LABEL_LAB: scratch.paths.lab, LABEL_STATE: "/elsewhere"}
        foreign = [
            engine.create(f"t-{scratch.paths.lab}-{i}", {"Image": bare, "Labels": given})
            for i, given in enumerate((labels, {}))
        ]
        try:
            asyncio.run(run())
            assert len(engine.containers_of(scratch.paths)) == 4
            assert teardown.remove_containers(scratch.paths) == 4
            assert engine.containers_of(scratch.paths) == ()
            assert teardown.remove_containers(scratch.paths) == 0
            assert [engine.client.inspect_container(f)["Id"] for f in foreign] == foreign
        finally:
            for identifier in foreign:
                engine.remove_id(identifier)


def test_teardown_without_an_engine_says_so_only_if_there_were_containers(scratch, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///no/such/socket")
    assert teardown.remove_containers(scratch.paths) == 0
    scratch.journal.note(teardown.KIND_CONTAINER, "x.alice")
    with pytest.raises(LabError, match=r"no Docker engine answers.*x\.alice"):
        teardown.remove_containers(scratch.paths)
    scratch.journal.retract(teardown.KIND_CONTAINER, "x.alice")


def test_removing_a_node_leaves_nothing_of_it(scratch, bare):
    async def run():
        async with containers(scratch) as made:
            pid = await made.create_gated("alice", container(bare, "sleep", "600"))
            made.open_gate("alice")
            await made.remove("alice")
            await made.remove("alice")
            assert not alive(pid)
            assert made._engine.containers_of(scratch.paths) == ()
            # and the name is free again
            await made.create_gated("alice", container(bare, "sleep", "600"))

    asyncio.run(run())


BECOME = """
import sys
from lab.paths import LabPaths
from lab.plan.model import Node, NodeKind, Program
from lab.runtime.enter import become
from lab.topology.behaviour import Runtime
paths, node, runtime, *line = sys.argv[1:]
become(LabPaths.of(paths), Node(name=node, kind=NodeKind.HOST,
       program=Program(runtime=Runtime(runtime), env=(("GIVEN", "1"),))), line)
"""


def become(scratch, node, runtime, *line, **more):
    return subprocess.run(
        [sys.executable, "-c", BECOME, scratch.paths.lab, node, runtime, *line],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **more,
    )


def test_exec_enters_a_container_with_its_files_processes_and_environment(scratch, shell):
    async def run():
        async with containers(scratch) as made:
            pid = await made.create_gated("alice", container(shell, "sleep", "600"))
            scratch.adopt("alice", pid)
            made.open_gate("alice")
            until(lambda: Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x00600\x00")
            script = "echo $A $LAB_NODE $PWD; cat /proc/1/comm; cat; exit 5"
            done = await asyncio.to_thread(
                become, scratch, "alice", "docker", "sh", "-c", script, input="typed\n"
            )
            assert (done.stdout, done.returncode) == ("1 alice /usr\nsleep\ntyped\n", 5), (
                done.stderr
            )
            await made.remove("alice")

    asyncio.run(run())
    done = become(scratch, "alice", "docker", "true")
    assert "is not running" in done.stderr


def test_exec_enters_a_process_node(scratch):
    async def run():
        async with zygote(scratch) as server:
            await server.spawn(scratch.namespace("bob"), process("sleep", "600"))

    asyncio.run(run())
    script = 'hostname; ls /sys/class/net; echo $GIVEN $LAB_NODE; grep -c "" /etc/hosts; exit 4'
    done = become(scratch, "bob", "process", "sh", "-c", script)
    assert (done.stdout.split(), done.returncode) == (["bob", "lo", "1", "bob", "3"], 4)


def test_a_node_without_a_program_can_be_entered(scratch):
    scratch.namespace("router")
    node = Node(name="router", kind=NodeKind.ROUTER, interfaces=(Interface(name="wan"),))
    assert node.program is None
    done = become(scratch, "router", "process", "hostname")
    assert done.stdout == "router\n"
