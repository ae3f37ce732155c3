"""Every shipped topology comes up, and its peers find what the file says they find."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest

from lab.paths import data_dir
from lab.topology.loader import load
from tests.kernel.end_to_end.support import Command, traces

pytestmark = pytest.mark.kernel

TOPOLOGIES = sorted(data_dir("topologies").glob("*.yaml"))


@pytest.mark.parametrize("file", TOPOLOGIES, ids=lambda file: file.stem)
def test_peers_find_what_the_file_expects(lab: Command, file: Path):
    topology = load(str(file))
    assert topology.expect, "a shipped topology says what `lab connect` must find"
    name = lab.name()
    lab.ok("up", str(file), "--name", name, "--runtime", "process")

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
        assert {record["technique"] for record in answer["attempts"]} >= {
            key for key, _ in expectation.outcomes if key != "path"
        }

    status = lab.json("status", name)
    assert {node["node"] for node in status["nodes"]} >= {node.name for node in topology.nodes}
    lab.ok("down", name)
    assert traces(name, lab.state) == []


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
