"""Containers that are paused, stopped and started again: the same orders as for processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.fabric import netns
from lab.runtime.docker import Engine
from tests.kernel.end_to_end.support import Command

pytestmark = [pytest.mark.kernel, pytest.mark.docker]


@pytest.fixture
def engine() -> Iterator[Engine]:
    found = Engine.connect()
    if found is None:
        pytest.skip("no Docker engine answers (tests/dockerd.sh start)")
    with found:
        yield found


def state(lab: Command, name: str, node: str) -> str:
    nodes = lab.json("status", name)["nodes"]
    return next(n for n in nodes if n["node"] == node)["program"]["state"]


def test_a_container_is_paused_stopped_and_started(lab: Command, engine: Engine):
    name = lab.name()
    lab.ok("up", "lan", "--name", name, "--runtime", "docker")

    def status(node: str) -> dict[str, object]:
        found: dict[str, object] = engine.client.inspect_container(f"{name}.{node}")["State"]
        return found

    lab.json("node", "pause", "alice", "--lab", name)
    assert status("alice")["Paused"]
    assert state(lab, name, "alice") == "paused"
    lab.json("node", "resume", "alice", "--lab", name)
    assert not status("alice")["Paused"]

    before = json.loads(lab.paths(name).plan.read_bytes())
    lab.json("node", "stop", "alice", "--lab", name)
    assert not status("alice")["Running"]
    with netns.inside(lab.paths(name).netns("alice")):
        assert "eth0" in Path("/proc/thread-self/net/dev").read_text(), "its network stays"
    lab.json("node", "start", "alice", "--lab", name)
    assert status("alice")["Running"]
    assert state(lab, name, "alice") == "ready"
    assert json.loads(lab.paths(name).plan.read_bytes()) == before
    answer = lab.json("connect", "alice", "bob", "--technique", "direct", "--lab", name)
    assert answer["connected"]

    lab.json("node", "pause", "bob", "--lab", name)
    lab.ok("down", name)
