"""Every shipped topology comes up, is what it claims, and its peers find what the file says."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest

from lab.paths import data_dir
from lab.plan.model import decode
from lab.topology.loader import load
from lab.topology.model import Topology
from lab.verify.peers import servers_of
from tests.kernel.end_to_end.support import Command, traces

pytestmark = pytest.mark.kernel

TOPOLOGIES = sorted(data_dir("topologies").glob("*.yaml"))


@pytest.mark.parametrize("file", TOPOLOGIES, ids=lambda file: file.stem)
def test_a_topology_is_what_it_claims_and_peers_find_what_it_expects(lab: Command, file: Path):
    topology = load(str(file))
    assert topology.expect, "a shipped topology says what `lab connect` must find"
    name = lab.name()
    lab.ok("up", str(file), "--name", name, "--runtime", "process")
    check_expected(lab, name, topology)
    status = lab.json("status", name)
    assert {node["node"] for node in status["nodes"]} >= {node.name for node in topology.nodes}
    if topology.timeline:  # Whose time has gone on.
        lab.ok("down", name)
        lab.ok("up", str(file), "--name", name, "--runtime", "process")
    check_verified(lab, name, topology)
    lab.ok("down", name)
    assert traces(name, lab.state) == []


def check_expected(lab: Command, name: str, topology: Topology) -> None:
    for expectation in topology.expect:
        connect = ("connect", expectation.local, expectation.remote, "--lab", name)
        # Those that the file speaks of: all there are take half a minute for each pair.
        named = [key for key, _ in expectation.outcomes if key != "path"]
        some = [word for key in named for word in ("--technique", key)]
        done = lab.run(*connect, *some, "--goodput", "0", "--json")
        # Whoever is not connected is told so, also where the file expects nothing else.
        assert done.returncode == (dict(expectation.outcomes).get("path") == "none"), done.stderr
        answer = json.loads(done.stdout)
        assert answer["unexpected"] == [], answer
        if not topology.timeline:  # Else a host may have moved since it had a path.
            proofs = [record["proof"] for record in answer["attempts"] if "proof" in record]
            assert all(proof["proven"] for proof in proofs), proofs
        assert {record["technique"] for record in answer["attempts"]} >= set(named)


def check_verified(lab: Command, name: str, topology: Topology) -> None:
    """What `lab verify` says of all but the links, which others' tests are about."""
    plan = decode(lab.paths(name).plan.read_bytes())
    done = lab.run("verify", name, "--json", "--no-links")
    assert done.stdout, done.stderr
    answer = json.loads(done.stdout)
    assert [one for one in (*answer["findings"], *answer["peers"]) if not one["ok"]] == []
    assert (done.returncode, answer["ok"]) == (0, True)
    # A link that the timeline holds down is not measured through.
    assert [each for each in answer["unmeasured"] if "down" not in each["why"]] == []
    boxes = {
        node.name
        for node in plan.nodes
        if node.nat or node.firewall or node.firewall6 or node.nptv6
    }
    cut = {each["node"] for each in answer["unmeasured"]}
    assert {each["node"] for each in answer["findings"]} | cut >= boxes
    # Where there is no STUN server, nobody has one to ask.
    asking = {node.name for node in topology.nodes if node.peer and servers_of(plan)}
    assert {each["node"] for each in answer["peers"]} | cut >= asking


def test_metrics_tell_what_happened(lab: Command):
    name = lab.name()
    up = lab.json("up", "single-nat", "--name", name, "--runtime", "process")
    lab.ok("connect", "alice", "bob", "--lab", name, "--technique", "relay")
    with urllib.request.urlopen(up["metrics"]) as answer:  # noqa: S310 - our own exporter
        metrics = answer.read().decode()
    assert 'technique="relay"' in metrics
    assert 'outcome="success"' in metrics
    assert "lab_conntrack_entries" in metrics


def test_three_labs_from_one_file_work_side_by_side(lab: Command):
    names = [lab.name() for _ in range(3)]
    ups = [lab.popen("up", "two-homes", "--name", name, "--runtime", "process") for name in names]
    for up in ups:
        out, err = up.communicate(timeout=60)
        assert up.returncode == 0, out + err
    assert {row["lab"] for row in lab.json("ls")} == set(names)
    connects = [lab.popen("connect", "alice", "bob", "--lab", name, "--first") for name in names]
    for connect in connects:
        out, err = connect.communicate(timeout=60)
        assert connect.returncode == 0, out + err
    lab.ok("down", names[1])
    # The others live on.
    lab.ok("connect", "alice", "bob", "--lab", names[0], "--technique", "udp-punch")


def test_a_program_of_ones_own_runs_in_a_node(lab: Command):
    name = lab.name()
    lab.ok("up", "lan", "--name", name, "--runtime", "process")
    shown = lab.ok("exec", "--lab", name, "alice", "--", "ip", "-br", "address")
    assert "eth0" in shown
    done = lab.run("exec", "--lab", name, "alice", "--", "sh", "-c", "hostname; exit 7")
    assert done.returncode == 7
    assert done.stdout.strip() == "alice"
    missing = lab.run("exec", "--lab", name, "alise", "--", "true")
    assert missing.returncode == 2
    assert "did you mean 'alice'" in missing.stderr
