"""Hosts that claim their addresses: what a plan says of them, and who claims for whom."""

from __future__ import annotations

import pytest

from lab.errors import InputError
from lab.plan.change import as_it_is, changed
from lab.plan.compile import compile_topology
from lab.plan.diff import diff
from lab.plan.linklocal import claims_address
from lab.plan.machine import Machine
from lab.plan.model import NodeKind, decode, encode
from lab.plan.operations import ConfigureNode, CreateNode, StartDaemon, StopDaemon
from lab.predict import predict
from lab.topology.behaviour import Runtime
from lab.topology.changes import Move
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


CONTAINERS = Machine(netem=True, containers=True, runtime=Runtime.DOCKER, peer_image="lab/peer:1")


@pytest.mark.parametrize("machine", [Machine(netem=True), CONTAINERS], ids=["process", "docker"])
def test_somebody_claims_an_address_for_each(machine):
    plan = compiled(AD_HOC, machine)
    hosts = [plan.node(name) for name in ("alice", "bob", "own", "empty")]
    for node in hosts:
        (daemon,) = node.daemons
        assert daemon.command[:4] == ("{python}", "-m", "lab.peer.lan.claiming", "eth0")
        assert daemon.ready == ("address/eth0",)
        assert node.program is None or "LAB_ADDRESSES" not in dict(node.program.env)
    assert [node.daemons[0].command[5] for node in hosts] == ["169.254.7.7", "", "", ""]
    seeds = {node.daemons[0].command[4] for node in hosts}
    assert len(seeds) == 4, "hosts that draw alike would want the same address"


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
    assert possible(compiled(MIXED), one, other) == ({"lan"} if connects else set())


def test_a_host_may_come_to_a_switch_that_runs():
    before = compiled(AD_HOC)
    after = compiled(AD_HOC + "  late: {via: table, peer: true}\n", previous=before)
    done = diff(before, after)
    assert [one.node.name for one in done if isinstance(one, CreateNode)] == ["late"]
    assert {one.after.name for one in done if isinstance(one, ConfigureNode)} == {"late", "table"}


def possible(plan, one, other):
    return {each.technique for each in predict(plan, one, other).findings if each.possible}


def moves(plan, host, *places):
    """The plans after each move of the host."""
    for via in places:
        plan = changed(plan, [Move(node=host, via=via)])
        yield plan


def test_a_host_that_comes_to_a_switch_claims_an_address_there_and_its_program_runs_on():
    before = compiled(MIXED)
    (after,) = moves(before, "carol", "table")
    carol = after.node("carol")
    assert claims_address(carol)
    assert carol.routes == ()
    assert carol.program == before.node("carol").program
    assert [link.b.node for link in after.links if link.a.node == "carol"] == ["table"]
    assert "carol" in [port.name for port in after.node("table").interfaces]
    (started,) = [one for one in diff(before, after) if isinstance(one, StartDaemon)]
    assert (started.node, started.daemon.name) == ("carol", "link-local")
    assert possible(after, "carol", "dave") == {"lan"}
    assert possible(after, "carol", "erin") == set()
    # What undoes it knows where it was, and it has there what it had.
    (back,) = moves(after, "carol", as_it_is(before, Move(node="carol", via="table")).via)
    assert back.node("carol").routes == before.node("carol").routes
    assert not back.node("carol").daemons


def test_a_host_that_leaves_a_switch_for_another_claims_anew():
    before = compiled(MIXED)
    (after,) = moves(before, "dave", "desk")
    done = [(type(one), one.node) for one in diff(before, after) if "Daemon" in type(one).__name__]
    assert done == [(StopDaemon, "dave"), (StartDaemon, "dave")]
    assert possible(after, "dave", "erin") == {"lan"}


def test_a_host_that_leaves_a_switch_for_a_router_has_what_is_given_there():
    text = MIXED.replace("{nat: home}", "{nat: home, ip: dual}")
    *_, after = moves(compiled(text), "dave", "desk", "home")
    dave = after.node("dave")
    assert not dave.daemons
    four, six = dave.interfaces[0].addresses
    assert four.startswith("192.168.")
    assert ":" in six
    assert len(dave.routes) == 2


def test_what_a_host_was_told_to_have_is_kept_while_it_is_at_a_switch():
    text = MIXED.replace("{nat: home}", "{nat: home, ip: dual}")
    text = text.replace("carol: {via: home, ", "carol: {via: home, ip: 6, ")
    before = compiled(text)
    *_, after = moves(before, "carol", "table", "home")
    (address,) = after.node("carol").interfaces[0].addresses
    assert ":" in address


@pytest.mark.parametrize(
    ("via", "words"),
    [
        ("internet", "can't move to the internet, which is no router or switch"),
        ("tabel", "which is no router or switch"),
        ("table", "is attached to table already"),
    ],
)
def test_where_a_host_of_a_switch_cannot_move_to(via, words):
    with pytest.raises(InputError, match=words):
        list(moves(compiled(MIXED), "dave", via))


def test_a_timeline_moves_hosts_to_switches_and_cuts_their_links():
    plan = compiled(
        MIXED
        + """
timeline:
  - {at: 1s, move: {node: carol, to: table}, for: 5s}
  - {at: 2s, down: [carol, table]}
  - {at: 2s, down: [dave, table]}
"""
    )
    assert len(plan.timeline) == 3
