"""An internet with regions: real packets take as long as the matrix says, over both families."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from lab.fabric import netns
from tests.kernel.end_to_end.support import Command

pytestmark = pytest.mark.kernel

NETWORK = """
name: regions
internet:
  regions:
    north: {north: 10ms, south: 60ms, east: 90ms}
    south: {south: 20ms, east: 30ms}
    east: {east: 4ms}
routers:
  home: {region: north, nat: home, ip: dual}
nodes:
  alice: {via: home, ip: dual, command: [sleep, 1h]}
  near: {via: internet, region: north, ip: dual, command: [sleep, 1h]}
  south: {via: internet, region: south, ip: dual, command: [sleep, 1h]}
  east: {via: internet, region: east, ip: dual, command: [sleep, 1h]}
"""


SILENCE_S = 0.4
"""How long to wait for an answer that must not come."""
DEADLINE_S = 30


def round_trip_ms(
    command: Command,
    name: str,
    start: str,
    end: str,
    family: int = 4,
    *,
    patience_s: float = DEADLINE_S,
) -> float:
    """The shorter of two pings; 0 if none came back."""
    plan = json.loads(command.paths(name).plan.read_bytes())
    node = next(each for each in plan["nodes"] if each["name"] == end)
    marker = ":" if family == 6 else "."
    found = [a for face in node["interfaces"] for a in face["addresses"] if marker in a]
    words = ["ping", f"-{family}", "-c2", "-i0.2", f"-W{patience_s:g}", found[0].partition("/")[0]]
    with netns.inside(command.paths(name).netns(start)):
        said = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    return float(said.rpartition("= ")[2].partition("/")[0]) if "min/avg" in said else 0.0


def gets_below(command: Command, name: str, start: str, end: str, most_ms: float) -> bool:
    """Whether a ping takes less than that, once the machine has the time for it."""
    deadline = time.monotonic() + DEADLINE_S
    while round_trip_ms(command, name, start, end) >= most_ms:
        if time.monotonic() > deadline:
            return False
    return True


def test_distances_are_those_of_the_matrix_and_change(lab: Command, tmp_path: Path):
    file = tmp_path / "regions.yaml"
    file.write_text(NETWORK)
    name = lab.name()
    lab.ok("up", str(file), "--name", name)
    for end, least in (("near", 10), ("south", 60), ("east", 90)):
        assert round_trip_ms(lab, name, "alice", end) >= least
        assert round_trip_ms(lab, name, "alice", end, 6) >= least
    assert round_trip_ms(lab, name, "south", "east") >= 30
    assert gets_below(lab, name, "south", "east", 60), "not by way of the north"

    lab.json("link", "set", "south", "east", "delay=50ms", "--lab", name)
    assert round_trip_ms(lab, name, "east", "south") >= 112
    lab.json("link", "reset", "east", "south", "--lab", name)
    assert round_trip_ms(lab, name, "south", "east") >= 30
    assert gets_below(lab, name, "south", "east", 112)

    lab.json("partition", "north / east", "--lab", name)
    for family in (4, 6):
        assert not round_trip_ms(lab, name, "alice", "east", family, patience_s=SILENCE_S)
        assert not round_trip_ms(lab, name, "east", "near", family, patience_s=SILENCE_S)
        assert round_trip_ms(lab, name, "alice", "south", family)
        assert round_trip_ms(lab, name, "south", "east", family)
    lab.json("heal", "--lab", name)
    assert round_trip_ms(lab, name, "alice", "east") >= 90
    assert "internet.east" in lab.ok("status", name)
    assert "internet.east" in lab.ok("graph", "--lab", name, "--format", "mermaid")

    more = NETWORK.replace("east: 90ms}", "east: 90ms, west: 40ms}").replace(
        "east: {east: 4ms}", "east: {east: 4ms, west: 50ms}\n    west: {west: 2ms, south: 70ms}"
    )
    file.write_text(more + "  west: {via: internet, region: west, ip: dual}\n")
    lab.ok("apply", str(file), "--name", name)
    assert round_trip_ms(lab, name, "alice", "west") >= 40
    assert round_trip_ms(lab, name, "alice", "east") >= 90
