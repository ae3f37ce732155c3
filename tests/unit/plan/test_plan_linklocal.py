"""Hosts that claim their addresses: what a plan says of them, and who claims for whom."""

from __future__ import annotations

import pytest

from lab.plan.compile import compile_topology
from lab.plan.diff import diff
from lab.plan.linklocal import claims_address
from lab.plan.machine import Machine
from lab.plan.model import NodeKind, decode, encode
from lab.plan.operations import ConfigureNode, CreateNode
from lab.predict import predict
from lab.topology.behaviour import Runtime
from lab.topology.loader import loads

AD_HOC = """
switches: {table: }
nodes:
  alice: {via: table, peer: true, env: {LINK_LOCAL_FIRST: 169.254.7.7}}
  bob: {via: table, peer: true}
  own: {via: table, command: sleep 9}
  empty: {via: table}
"""
MIXED = """
switches: {table: , desk: }
routers: {home: {nat: home}}
nodes:
  servers: {via: internet, services: [stun, rendezvous, relay]}
  alice: {via: home, peer: true, ip: link-local}
  bob: {via: home, peer: true, ip: link-local}
  carol: {via: home, peer: true}
  dave: {via: table, peer: true}
  erin: {via: desk, peer: true}
"""


def compiled(text, machine=None, **more):
    machine = machine or Machine(netem=True)
    return compile_topology(loads(text, "a.yaml"), machine, **more)


def test_a_switch_is_a_segment_and_its_hosts_have_no_address_yet():
    plan = compiled(AD_HOC)
    table = plan.node("table")
    assert table.kind is NodeKind.SEGMENT
    assert [port.name for port in table.interfaces] == ["alice", "bob", "own", "empty"]
    assert [(link.a.node, link.b.node, link.b.interface) for link in plan.links] == [
        (name, "table", name) for name in ("alice", "bob", "own", "empty")
    ]
    for node in plan.nodes[1:]:
        assert claims_address(node)
        assert [face.addresses for face in node.interfaces] == [()]
        assert node.routes == ()
    assert decode(encode(plan)) == plan


def test_a_peer_claims_itself_and_for_others_somebody_does():
    plan = compiled(AD_HOC)
    alice, own, empty = (plan.node(name) for name in ("alice", "own", "empty"))
    told = dict(alice.program.env)
    assert told["LAB_LINK_LOCAL"] == "eth0"
    assert told["LINK_LOCAL_FIRST"] == "169.254.7.7"
    assert "LAB_ADDRESSES" not in told
    assert alice.daemons == ()
    assert "LAB_LINK_LOCAL" not in dict(own.program.env)
    for node in (own, empty):
        (daemon,) = node.daemons
        assert daemon.command[:4] == ("{python}", "-m", "lab.peer.lan.claiming", "eth0")
        assert daemon.ready == ("address/eth0",)
    seeds = {node.daemons[0].command[4] for node in (own, empty)}
    assert len(seeds) == 2, "hosts that draw alike would want the same address"


def test_a_peer_in_a_container_has_no_right_to_claim():
    machine = Machine(netem=True, containers=True, runtime=Runtime.DOCKER, peer_image="lab/peer:1")
    alice = compiled(AD_HOC, machine).node("alice")
    assert "LAB_LINK_LOCAL" not in dict(alice.program.env)
    assert [daemon.command[5] for daemon in alice.daemons] == ["169.254.7.7"]


def test_hosts_of_a_router_may_claim_too():
    plan = compiled(MIXED)
    assert claims_address(plan.node("alice"))
    assert not claims_address(plan.node("carol"))
    told = dict(plan.node("alice").program.env)
    assert not {"LAB_STUN", "LAB_RENDEZVOUS", "LAB_RELAY"} & told.keys()
    assert "LAB_STUN" in dict(plan.node("carol").program.env)
    assert "LAB_STUN" not in dict(plan.node("dave").program.env)


@pytest.mark.parametrize(
    ("one", "other", "connects"),
    [
        ("alice", "bob", True),
        ("alice", "carol", False),
        ("alice", "dave", False),
        ("dave", "erin", False),
    ],
)
def test_neighbours_connect_by_what_they_claim_and_by_nothing_else(one, other, connects):
    prediction = predict(compiled(MIXED), one, other)
    possible = {each.technique for each in prediction.findings if each.possible}
    assert possible == ({"lan"} if connects else set())


def test_a_host_may_come_to_a_switch_that_runs():
    before = compiled(AD_HOC)
    after = compiled(AD_HOC + "  late: {via: table, peer: true}\n", previous=before)
    done = diff(before, after)
    assert [one.node.name for one in done if isinstance(one, CreateNode)] == ["late"]
    assert {one.after.name for one in done if isinstance(one, ConfigureNode)} == {"late", "table"}
