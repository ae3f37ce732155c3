"""A network without a router, as a person runs it: hosts that claim their addresses."""

from __future__ import annotations

import ipaddress
import json

import pytest

from tests.kernel.end_to_end.support import Command, traces

pytestmark = pytest.mark.kernel

FILE = """
switches: {table: }
nodes:
  alice: {via: table, peer: true}
  bob: {via: table, peer: true}
  own: {via: table, command: [sh, -c, "ip -4 -o addr show dev eth0; exec sleep 1000"]}
"""


@pytest.fixture
def lab(tmp_path):
    command = Command(tmp_path)
    yield command
    for name in command.labs:
        command.run("down", name)
        assert traces(name, tmp_path) == []


def addresses(lab, name):
    nodes = {node["node"]: node for node in lab.json("status", name)["nodes"]}
    claimed = [nodes[one]["addresses"]["eth0"] for one in ("alice", "bob", "own")]
    return [ipaddress.ip_interface(text) for (text,) in claimed]


def test_hosts_on_a_switch_claim_addresses_and_connect(lab, tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text(FILE)
    name = lab.name()
    lab.ok("up", str(file), "--name", name, "--runtime", "process")
    claimed = addresses(lab, name)
    assert len({each.ip for each in claimed}) == 3
    assert {str(each.network) for each in claimed} == {"169.254.0.0/16"}
    # The network is up before a program of one's own starts.
    assert f"inet {claimed[2]}" in lab.ok("logs", "own", "--lab", name)
    done = lab.ok("connect", "alice", "bob", "--lab", name, "--technique", "lan", "--json")
    (record,) = json.loads(done)["attempts"]
    assert (record["outcome"], record["path"]) == ("success", "direct")
    assert record["local_candidate"]["endpoint"].startswith(f"{claimed[0].ip}:")
    assert record["remote_candidate"]["endpoint"].startswith(f"{claimed[1].ip}:")
    assert lab.run("verify", name).returncode == 0
    # Who starts again has what it had, and is found by it.
    lab.ok("node", "stop", "bob", "--lab", name)
    lab.ok("node", "start", "bob", "--lab", name)
    assert addresses(lab, name)[1] == claimed[1]
    lab.ok("connect", "alice", "bob", "--lab", name, "--technique", "lan")
