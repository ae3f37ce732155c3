"""Every shipped topology is what its file says, by the command that a person types."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from verify_support import Running, lab_command, new_name

from lab.paths import data_dir
from lab.topology.behaviour import Nat, Unsolicited
from lab.topology.loader import load

pytestmark = pytest.mark.kernel

TOPOLOGIES = sorted(data_dir("topologies").glob("*.yaml"))


@pytest.mark.parametrize("file", TOPOLOGIES, ids=lambda file: file.stem)
def test_a_shipped_topology_is_what_it_claims(tmp_path: Path, file: Path) -> None:
    name = new_name("ships")
    try:
        running = Running.up(tmp_path, str(file), name)
        done = lab_command(tmp_path, "verify", name, "--json")
        assert done.stdout, done.stderr
        answer = json.loads(done.stdout)
        parts = (*answer["findings"], *answer["peers"], *answer["links"])
        assert [each for each in parts if not each["ok"]] == []
        # A link that the timeline holds down is not measured through.
        left = [each for each in answer["unmeasured"] if "down" not in each["why"]]
        assert (done.returncode, answer["ok"], left) == (0, True, [])
        topology = load(str(file))
        boxes = {
            node.name
            for node in running.plan.nodes
            if node.nat or node.firewall or node.firewall6 or node.nptv6
        }
        cut = {each["node"] for each in answer["unmeasured"]}
        assert {each["node"] for each in answer["findings"]} | cut >= boxes
        assert {each["node"] for each in answer["peers"]} | cut >= {
            node.name for node in topology.nodes if node.peer
        }
        assert {each["name"] for each in answer["links"]} <= {
            link.name for link in running.plan.links
        }
        assert len(answer["links"]) >= len(running.plan.links)
    finally:
        lab_command(tmp_path, "down", name, "--quiet")


def test_the_command_says_no(one: Running) -> None:
    """Exit code 1, and the line that differs, when a router is not what the plan says."""
    try:
        one.fresh(Nat(unsolicited=Unsolicited.RST))
        done = lab_command(one.state, "verify", one.paths.lab, "home")
        assert done.returncode == 1, done.stderr
        lines = [line.split() for line in done.stdout.splitlines() if "✗" in line]
        assert lines[0][-5:] == ["unsolicited", "tcp", "drop", "✗", "rst"]
    finally:
        one.fresh(one.plan.node("home").nat or Nat())
    done = lab_command(one.state, "verify", one.paths.lab)
    assert done.returncode == 0, done.stdout
    assert "✓" in done.stdout.splitlines()[-1]
    wrong = lab_command(one.state, "verify", one.paths.lab, "hom")
    assert wrong.returncode == 2
    assert "did you mean 'home'" in wrong.stderr
