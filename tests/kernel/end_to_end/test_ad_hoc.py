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


ROAMING = """
switches: {table: , desk: }
routers: {home: {nat: home}}
nodes:
  servers: {via: internet, services: [stun, rendezvous, relay]}
  alice: {via: table, peer: true}
  bob: {via: table, peer: true}
  carol: {via: home, peer: true}
  dave: {via: home, peer: true}
"""


def test_hosts_come_to_a_switch_and_leave_it_while_their_programs_run(lab, tmp_path):
    file = tmp_path / "roaming.yaml"
    file.write_text(ROAMING)
    name = lab.name()
    lab.ok("up", str(file), "--name", name, "--runtime", "process")

    def host(node):
        (found,) = [one for one in lab.json("status", name)["nodes"] if one["node"] == node]
        (address,) = found["addresses"]["eth0"]
        return ipaddress.ip_interface(address), found["program"]["pid"]

    def connects(one, other):
        done = lab.run("connect", one, other, "--lab", name, "--technique", "lan")
        return done.returncode == 0

    _, program = host("carol")
    assert not connects("alice", "carol")
    lab.ok("move", "carol", "table", "--lab", name)
    there, still = host("carol")
    assert str(there.network) == "169.254.0.0/16"
    assert still == program
    assert connects("alice", "carol")
    assert lab.run("verify", name).returncode == 0
    # To another switch, where nobody is, and back to one whom it was beside.
    lab.ok("move", "alice", "desk", "--lab", name)
    assert host("alice")[0].is_link_local
    assert not connects("alice", "carol")
    lab.ok("move", "carol", "desk", "--lab", name)
    assert connects("alice", "carol")
    # Where somebody gives addresses, nobody claims any.
    lab.ok("move", "alice", "home", "--lab", name)
    assert str(host("alice")[0].network) == "192.168.1.0/24"
    assert connects("alice", "dave")
    assert "no router or switch" in lab.run("move", "bob", "internet", "--lab", name).stderr
