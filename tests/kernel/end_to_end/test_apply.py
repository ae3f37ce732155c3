"""`lab apply` changes what changed, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.fabric.links import kernel
from tests.kernel.end_to_end.support import Command

pytestmark = pytest.mark.kernel

TWO_HOMES = """
name: changing
internet: 4ms
routers:
  home-a: {nat: home}
  home-b: {nat: home}
nodes:
  stun: {via: internet, service: stun}
  rendezvous: {via: internet, service: rendezvous}
  relay: {via: internet, service: relay}
  alice: {via: home-a, peer: true}
  bob: {via: home-b, peer: true, link: {delay: 1ms}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "changing.yaml"
    path.write_text(TWO_HOMES)
    return path


def pids(lab: Command, name: str) -> dict[str, int]:
    nodes = lab.json("status", name)["nodes"]
    return {n["node"]: n["program"]["pid"] for n in nodes if n["program"]}


def outcome(lab: Command, name: str, technique: str) -> str:
    done = lab.run("connect", "alice", "bob", "--lab", name, "-t", technique, "--json")
    return json.loads(done.stdout)["attempts"][0]["outcome"]


def test_a_nat_changes_and_nothing_else(lab: Command, file: Path):
    name = lab.name()
    lab.ok("up", str(file), "--name", name, "--runtime", "process")
    before = pids(lab, name)
    assert outcome(lab, name, "udp-punch") == "success"

    changes = ("--set", "routers.home-a.nat=symmetric", "--set", "routers.home-b.nat=symmetric")
    shown = lab.ok("apply", str(file), "--name", name, *changes, "--dry-run").splitlines()
    assert len(shown) == 2
    assert all("rules" in line for line in shown)
    tracked = lab.ok("exec", "--lab", name, "home-a", "--", "cat", "/proc/net/nf_conntrack")
    lab.ok("apply", str(file), "--name", name, *changes)

    assert pids(lab, name) == before, "no program was touched"
    kept = lab.ok("exec", "--lab", name, "home-a", "--", "cat", "/proc/net/nf_conntrack")
    established = [line.split()[6:8] for line in tracked.splitlines() if "ESTABLISHED" in line]
    assert established, "the registration at the rendezvous service is a TCP connection"
    for words in established:
        assert all(word in kept for word in words), "no connection was forgotten"
    assert outcome(lab, name, "udp-punch") != "success"
    assert outcome(lab, name, "relay") == "success"

    lab.ok("apply", str(file), "--name", name)
    assert outcome(lab, name, "udp-punch") == "success"


def test_a_home_comes_and_goes(lab: Command, file: Path):
    name = lab.name()
    lab.ok("up", str(file), "--name", name, "--runtime", "process")
    before = pids(lab, name)
    more = file.with_name("more.yaml")
    more.write_text(
        TWO_HOMES.replace(
            "nodes:", "  home-c: {nat: full-cone}\nnodes:\n  carol: {via: home-c, peer: true}"
        )
    )
    lab.ok("apply", str(more), "--name", name)
    now = pids(lab, name)
    assert now.items() > before.items()
    answer = lab.json("connect", "carol", "bob", "--lab", name, "-t", "udp-punch")
    assert answer["connected"]

    lab.ok("apply", str(file), "--name", name)
    assert pids(lab, name) == before
    assert not lab.paths(name).netns("carol").exists()
    assert outcome(lab, name, "udp-punch") == "success"


def test_a_link_changes_under_its_programs(lab: Command, file: Path):
    name = lab.name()
    lab.ok("up", str(file), "--name", name, "--runtime", "process")
    before = pids(lab, name)
    lab.ok("apply", str(file), "--name", name, "--set", "nodes.bob.link.delay=60ms")
    assert pids(lab, name) == before
    answer = lab.json("connect", "alice", "bob", "--lab", name, "-t", "udp-punch")
    assert answer["attempts"][0]["rtt_after_s"] > 0.12
    # Two TAPs can't be the kernel's, so that is another wire; netem carried it from the start.
    demand = ("delay=0ms", "rate=10mbit", "backend=kernel")
    sets = [word for each in demand for word in ("--set", f"nodes.bob.link.{each}")]
    notes = lab.json("apply", str(file), "--name", name, *sets)["notes"]
    assert bool(notes) is not kernel.supported()
    assert all("the wire of bob to home-b was replaced" in note for note in notes)


def test_a_change_that_fails_is_undone(lab: Command, file: Path):
    name = lab.name()
    lab.ok("up", str(file), "--name", name, "--runtime", "process")
    before = pids(lab, name)
    broken = file.with_name("broken.yaml")
    broken.write_text(
        TWO_HOMES.replace("delay: 1ms", "delay: 9ms")
        + "  eve: {via: home-a, command: no-such-program}\n"
    )
    refused = lab.run("apply", str(broken), "--name", name)
    assert refused.returncode == 4
    assert "no-such-program" in refused.stderr
    assert not lab.paths(name).netns("eve").exists()
    assert pids(lab, name) == before
    assert outcome(lab, name, "udp-punch") == "success"
    assert lab.json("apply", str(file), "--name", name, "--dry-run") == []


def test_the_same_file_again_changes_nothing(lab: Command, file: Path):
    name = lab.name()
    lab.ok("up", str(file), "--name", name, "--runtime", "process")
    assert lab.json("apply", str(file), "--name", name)["operations"] == 0
