"""Labs whose peers are containers: they work, and nothing of them stays.

A container that is not the lab's, named almost like one that is, stands beside
them all the time.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.agent import lock
from lab.runtime import images
from lab.runtime.container import LABEL_STATE
from lab.runtime.docker import Engine
from tests.kernel.end_to_end.support import Command, traces

pytestmark = [pytest.mark.kernel, pytest.mark.docker]

TOPOLOGY = "single-nat"
POINTS = (1, 3, 5, 7, 9, 12, 20, 24)
VICTIMS = ("interrupt", "kill", "agent")
ENDS = [(victim, after) for n, victim in enumerate(VICTIMS) for after in POINTS[n % 2 :: 2]]
"""What ends, and at which line of `lab up --verbose`; labs of processes end at many more."""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine.connect()
    if engine is None:
        pytest.skip("no Docker engine answers (tests/dockerd.sh start)")
    with engine:
        images.ensure(engine, lambda _text: None)
        yield engine


@pytest.fixture
def stranger(lab: Command, engine: Engine) -> Iterator[None]:
    name = f"{lab.name()}x.alice"
    config = {"Image": images.peer_image(), "Entrypoint": ["python3", "-c", "input()"], "Cmd": []}
    config |= {"OpenStdin": True, "HostConfig": {"NetworkMode": "none"}}
    identifier = engine.create(name, config)
    engine.start(identifier)
    yield
    try:
        assert engine.client.inspect_container(identifier)["State"]["Running"]
    finally:
        engine.remove_id(identifier)


def containers(engine: Engine, lab: Command) -> list[str]:
    """The names of all containers of all labs in the test's state folder."""
    found = engine.client.containers(all=True)
    ours = [c for c in found if c["Labels"].get(LABEL_STATE, "").startswith(f"{lab.state}/")]
    return [c["Names"][0] for c in ours]


def test_the_whole_story(lab: Command, engine: Engine):
    name = lab.name()
    up = lab.json("up", TOPOLOGY, "--name", name, "--runtime", "docker")
    assert any("container" in note for note in up["notes"])
    assert len(containers(engine, lab)) == up["programs"]
    assert lab.json("connect", "alice", "bob", "--lab", name)["unexpected"] == []
    # In the container's namespaces, and in its control groups.
    seen = "hostname; echo $LAB_NODE; cmp /proc/1/cgroup /proc/self/cgroup && echo limited"
    shown = lab.ok("exec", "--lab", name, "alice", "--", "sh", "-c", seen)
    assert shown.split() == ["alice", "alice", "limited"]
    lab.ok("down", name)
    assert traces(name, lab.state) == []
    assert containers(engine, lab) == []


def test_auto_takes_containers_where_an_engine_answers(lab: Command, engine: Engine):
    name = lab.name()
    lab.ok("up", "lan", "--name", name)
    runtimes = {
        node["program"]["runtime"] for node in lab.json("status", name)["nodes"] if node["program"]
    }
    assert runtimes == {"docker"}


def test_without_an_engine(lab: Command):
    name = lab.name()
    command = ["env", "DOCKER_HOST=unix:///nowhere/docker.sock", sys.executable, "-m", "lab"]
    refused = subprocess.run(
        [*command, "up", "lan", "--name", name, "--runtime", "docker"],
        env=lab.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode == 3
    assert "no Docker engine answers" in refused.stderr
    assert traces(name, lab.state) == []
    taken = subprocess.run(
        [*command, "up", "lan", "--name", name],
        env=lab.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "processes" in taken.stderr


@pytest.mark.usefixtures("stranger")
@pytest.mark.parametrize(("victim", "after"), ENDS)
def test_ended_in_the_middle(lab: Command, engine: Engine, victim: str, after: int):
    name = lab.name()
    up = lab.popen("up", TOPOLOGY, "--name", name, "--runtime", "docker", "--verbose")
    assert up.stderr is not None
    for _ in range(after):
        if not up.stderr.readline():
            break
    if victim == "agent":
        agent = lock.holder(lab.paths(name).agent_lock)
        if agent is not None:
            os.kill(agent, signal.SIGKILL)
    else:
        up.send_signal(signal.SIGINT if victim == "interrupt" else signal.SIGKILL)
    up.communicate(timeout=60)
    lab.ok("down", "--all")
    assert traces(name, lab.state) == []
    assert containers(engine, lab) == []


def test_a_killed_container_is_visible_and_harmless(lab: Command, engine: Engine):
    name = lab.name()
    lab.ok("up", TOPOLOGY, "--name", name, "--runtime", "docker")
    engine.client.kill(f"{name}.alice")
    assert lab.run("connect", "alice", "bob", "--lab", name).returncode == 4
    nodes = {node["node"]: node for node in lab.json("status", name)["nodes"]}
    assert nodes["alice"]["program"]["state"] == "exited"
    lab.ok("down", name)
    assert containers(engine, lab) == []


def test_a_container_that_exceeds_its_memory_is_killed_and_status_says_so(
    lab: Command, engine: Engine, tmp_path: Path
):
    greedy = "kept = []\nwhile True: kept.append(bytearray(1 << 20))"
    node = {"via": "internet", "image": images.peer_image(), "memory": "64MB"}
    kill = "import os; os.kill(os.getpid(), 9)"
    topology = {
        "nodes": {
            "greedy": {**node, "command": ["python3", "-c", greedy]},
            "gone": {**node, "command": ["sh", "-c", f"python3 -c '{kill}'; exit 137"]},
        }
    }
    file = tmp_path / "limited.yaml"
    file.write_text(json.dumps(topology))
    name = lab.name()
    lab.ok("up", str(file), "--name", name)
    events = lab.popen("events", name, "--follow")
    assert events.stdout is not None
    ended: set[str] = set()
    for line in events.stdout:
        ended |= {node for node in topology["nodes"] if node in line and "exited" in line}
        if len(ended) == 2:
            break
    events.kill()
    events.communicate()
    programs = {each["node"]: each["program"] for each in lab.json("status", name)["nodes"]}
    assert programs["greedy"]["reason"] == "killed: memory limit (64 MB)"
    assert "✗ killed: memory limit (64 MB)" in lab.ok("status", name)
    assert "memory limit" not in programs["gone"]["reason"]


def test_hosts_of_a_switch_claim_addresses_beside_their_containers(lab: Command, engine: Engine):
    name = lab.name()
    lab.ok("up", "ad-hoc", "--name", name, "--runtime", "docker")
    nodes = {node["node"]: node for node in lab.json("status", name)["nodes"]}
    peers = [nodes[one] for one in ("alice", "bob", "carol")]
    assert {node["program"]["runtime"] for node in peers} == {"docker"}
    addresses = [node["addresses"]["eth0"][0] for node in peers]
    assert len(set(addresses)) == len(peers)
    assert all(address.startswith("169.254.") for address in addresses)
    seen = lab.ok("exec", "--lab", name, "alice", "--", "cat", "/proc/net/fib_trie")
    assert addresses[0].partition("/")[0] in seen
    assert lab.json("connect", "alice", "bob", "--lab", name)["unexpected"] == []
    lab.ok("down", name)
    assert traces(name, lab.state) == []
    assert containers(engine, lab) == []


def test_an_image_and_a_command_of_ones_own(lab: Command, engine: Engine, tmp_path: Path):
    """A container and a process, neither of them ours, talk through a NAT, unchanged."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "word").write_text("hello ")
    listen = (
        "import socket, json; s = socket.create_server(('', 7000));"
        "print(json.dumps({'event': 'ready'}), flush=True); c, peer = s.accept();"
        "print('from', peer[0], c.makefile().read(), flush=True); input()"
    )
    call = (
        "import os, socket\n"
        "word = open('/data/word').read() + os.environ['WHO']\n"
        "while True:\n"
        "    try: s = socket.create_connection(('45.0.0.50', 7000), 10); break\n"
        "    except ConnectionRefusedError: pass\n"  # the other program may not be there yet
        "s.sendall(word.encode()); s.close(); open('/data/new', 'w')"
    )
    topology = {
        "name": "own",
        "routers": {"home": {"nat": "home"}},
        "nodes": {
            "server": {
                "via": "internet",
                "address": "45.0.0.50",
                "command": [sys.executable, "-u", "-c", listen],
                "ready": "signal",
            },
            "client": {
                "via": "home",
                "image": images.peer_image(),
                "command": ["python3", "-u", "-c", call],
                "env": {"WHO": "me"},
                "memory": "64MB",
                "mounts": ["data:/data:ro"],
            },
        },
    }
    file = tmp_path / "own.yaml"
    file.write_text(json.dumps(topology))  # JSON is YAML
    name = lab.name()
    lab.ok("up", str(file), "--name", name, "--runtime", "process")
    logs = lab.popen("logs", "--lab", name, "server", "client", "--follow")
    assert logs.stdout is not None
    said = ""
    try:
        for line in logs.stdout:
            said += line
            if "from" in said and "Read-only file system" in said:
                break
    finally:
        logs.kill()
        logs.communicate()
    assert "from 45.0.0." in said
    assert "hello me" in said
    assert "Read-only file system" in said
