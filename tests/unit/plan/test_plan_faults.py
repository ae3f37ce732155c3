"""Links, programs, partitions and moves: what changes of them make of a plan."""

from __future__ import annotations

from itertools import groupby

import pytest
from msgspec.structs import replace
from plan_support import NETEM, NO_NETEM

from lab.errors import InputError
from lab.plan.change import as_it_is, changed, describe_change
from lab.plan.compile import compile_topology
from lab.plan.diff import diff
from lab.plan.layers import Layers
from lab.plan.model import Fence, Plan, decode, encode
from lab.plan.operations import (
    AnyOperation,
    ConfigureNode,
    CreateLink,
    CreateNode,
    DeleteLink,
    DeleteNode,
    FenceNode,
    PauseNode,
    ResumeNode,
    ShapeLink,
    StartProgram,
    StopProgram,
    phase,
)
from lab.plan.progress import Running
from lab.topology.behaviour import Runtime
from lab.topology.changes import (
    Activity,
    AnyChange,
    CutLink,
    Divide,
    Heal,
    Move,
    SetActivity,
    SetLink,
)
from lab.topology.character import Backend, Impairment
from lab.topology.link import LinkSpec
from lab.topology.loader import loads
from lab.topology.partition import parse_partition as parse_groups

FILE = """
name: faults
internet: 10ms
routers:
  wifi: {nat: home, link: dsl}
  cell: {nat: cgnat, link: {delay: 20ms}}
  office: {}
nodes:
  stun: {via: internet, service: stun}
  alice: {via: wifi, peer: true, link: {delay: 1ms}}
  carol: {via: wifi, peer: true}
  dave: {via: cell, peer: true}
  bob: {via: office, peer: true}
"""
PLAN = compile_topology(loads(FILE, "faults.yaml"), NO_NETEM)
SLOW = LinkSpec(up=Impairment(delay_us=80_000), down=Impairment(delay_us=80_000))


def operations(change: AnyChange, plan: Plan = PLAN) -> tuple[AnyOperation, ...]:
    return diff(plan, changed(plan, [change]))


def kinds(change: AnyChange, plan: Plan = PLAN) -> list[type]:
    return [type(operation) for operation in operations(change, plan)]


def wire(plan: Plan, node: str):
    return next(link for link in plan.links if link.a.node == node and link.a.interface != "lan")


CHANGES = [
    SetLink(node="alice", via="wifi", link=SLOW),
    SetLink(node="internet", via="wifi", link=SLOW),
    CutLink(node="wifi", via="alice"),
    SetActivity(node="alice", activity=Activity.STOPPED),
    SetActivity(node="alice", activity=Activity.PAUSED),
    Divide(groups=parse_groups("wifi / bob")),
    Divide(groups=(("cell",),)),
    Move(node="alice", via="cell"),
    Move(node="bob", via="wifi", link=SLOW),
    Move(node="dave", via="office"),
]


@pytest.mark.parametrize("change", CHANGES, ids=describe_change)
def test_each_change_is_carried_out_travels_and_is_undone(change: AnyChange):
    after = changed(PLAN, [change])
    assert after != PLAN
    assert decode(encode(after)) == after
    undo = as_it_is(PLAN, change)
    assert undo is not None
    for one, other in ((PLAN, after), (after, PLAN)):
        running = Running(one)
        for _, group in groupby(diff(one, other), key=phase):
            for operation in group:
                running.advance(operation)
        assert diff(running.plan(), other) == ()
    back = changed(after, [undo])
    assert changed(back, [change]).partitions == after.partitions
    if not isinstance(change, SetLink | Move):
        assert back == PLAN
    assert as_it_is(back, change) == undo


@pytest.mark.parametrize("change", CHANGES, ids=describe_change)
def test_what_lasts_for_a_time_is_lifted(change: AnyChange):
    layers = Layers()
    layers.laid(PLAN, 1, [change])
    during = changed(PLAN, [change])
    lifted = layers.lifted(during, 1)
    assert lifted == (as_it_is(PLAN, change),)


def test_a_link_changes_in_place():
    assert kinds(SetLink(node="alice", via="wifi", link=SLOW)) == [ShapeLink]
    assert kinds(CutLink(node="alice", via="wifi")) == [ShapeLink]
    after = changed(PLAN, [SetLink(node="wifi", via="internet", link=SLOW)])
    assert wire(after, "wifi").a_to_b.delay_us == 85_000, "with half of the way across the core"
    again = changed(after, [SetLink(node="wifi", via="internet")])
    assert again == PLAN


def test_the_ferry_comes_into_a_plain_wire_and_goes_again():
    after = changed(PLAN, [SetLink(node="carol", via="wifi", link=SLOW)])
    assert wire(after, "carol").backend is Backend.FERRY
    assert wire(after, "carol").on_veth
    back = changed(after, [SetLink(node="carol", via="wifi")])
    assert back == PLAN
    for one, other in ((PLAN, after), (after, back)):
        assert {type(op) for op in diff(one, other)} == {ShapeLink}


def test_where_the_ferry_can_not_come_into_a_wire_the_wire_is_replaced_once():
    before = replace(PLAN, splice=False)
    after = changed(before, [SetLink(node="carol", via="wifi", link=SLOW)])
    assert not wire(after, "carol").on_veth
    assert DeleteLink in {type(op) for op in diff(before, after)}
    back = changed(after, [SetLink(node="carol", via="wifi")])
    assert wire(back, "carol").backend is Backend.FERRY
    assert {type(op) for op in diff(after, back)} == {ShapeLink}


def test_an_apply_leaves_links_on_their_wires():
    slow = changed(PLAN, [SetLink(node="carol", via="wifi", link=SLOW)])
    again = compile_topology(loads(FILE, "f.yaml"), NO_NETEM, previous=slow)
    assert {type(op) for op in diff(slow, again)} == {ShapeLink}
    text = FILE.replace("carol: {via: wifi", "carol: {via: wifi, link: {delay: 7ms}")
    assert text != FILE
    delayed = compile_topology(loads(text, "f.yaml"), NO_NETEM, previous=PLAN)
    assert wire(delayed, "carol").spliced
    anew = compile_topology(loads(text, "f.yaml"), NO_NETEM)
    assert not wire(anew, "carol").spliced
    plain = compile_topology(loads(FILE, "f.yaml"), NO_NETEM, previous=anew)
    assert wire(plain, "carol").backend is Backend.FERRY
    assert {type(op) for op in diff(anew, plain)} == {ShapeLink}


def test_an_mtu_is_given_to_the_wire_that_there_is_unless_ipv6_needs_more():
    small = SetLink(node="bob", via="office", link=LinkSpec(mtu=576))
    assert set(kinds(small)) == {ShapeLink}
    dual = compile_topology(loads(FILE + "ip: dual\n", "faults.yaml"), NO_NETEM)
    with pytest.raises(InputError, match="of bob carries IPv6, and an MTU of 576 is too small"):
        changed(dual, [small])


def test_an_mtu_is_told():
    told = describe_change(SetLink(node="bob", via="office", link=LinkSpec(mtu=1400)))
    assert told == "bob -- office: MTU 1400"


def test_a_link_that_will_be_slow_is_carried_by_the_ferry_from_the_start():
    text = FILE + "timeline:\n  - {at: 1s, set: {link: [carol, wifi], delay: 5ms}}\n"
    plan = compile_topology(loads(text, "f.yaml"), NO_NETEM)
    assert wire(plan, "carol").backend is Backend.FERRY
    assert wire(compile_topology(loads(text, "f.yaml"), NETEM), "carol").backend is Backend.PLAIN


def test_programs_stop_start_pause_and_resume():
    assert kinds(SetActivity(node="alice", activity=Activity.STOPPED)) == [StopProgram]
    stopped = changed(PLAN, [SetActivity(node="alice", activity=Activity.STOPPED)])
    start = SetActivity(node="alice", activity=Activity.RUNNING)
    assert kinds(start, stopped) == [StartProgram]
    assert kinds(SetActivity(node="alice", activity=Activity.PAUSED)) == [PauseNode]
    paused = changed(PLAN, [SetActivity(node="alice", activity=Activity.PAUSED)])
    assert kinds(start, paused) == [ResumeNode]
    assert kinds(SetActivity(node="alice", activity=Activity.STOPPED), paused) == [StopProgram]


def test_a_container_that_was_stopped_starts_as_another_one():
    docker = PLAN.node("alice").program
    assert docker is not None
    nodes = tuple(
        replace(n, program=replace(n.program, runtime=Runtime.DOCKER, image="i"))
        if n.name == "alice"
        else n
        for n in PLAN.nodes
    )
    plan = replace(PLAN, nodes=nodes)
    stop = SetActivity(node="alice", activity=Activity.STOPPED)
    assert kinds(stop, plan) == [StopProgram], "its network stays"
    start = kinds(SetActivity(node="alice", activity=Activity.RUNNING), changed(plan, [stop]))
    assert {DeleteNode, CreateNode, CreateLink, ConfigureNode, StartProgram} <= set(start)
    assert StopProgram not in start


def test_a_partition_is_a_fence_where_the_ways_part():
    plan = changed(PLAN, [Divide(groups=parse_groups("wifi,dave / bob"))])
    core = plan.node("internet")
    words = "partition of wifi, dave from bob"
    assert core.fences == (Fence(ports=("cell", "wifi"), others=("office",), partition=words),)
    assert [type(op) for op in diff(PLAN, plan)] == [FenceNode]
    inside = changed(plan, [Divide(groups=parse_groups("alice / carol"))])
    assert inside.node("wifi.lan").fences == (
        Fence(ports=("alice",), others=("carol",), partition="partition of alice from carol"),
    )
    assert inside.node("internet").fences == core.fences
    assert changed(inside, [Heal()]) == PLAN


def test_one_group_is_kept_apart_from_the_rest():
    plan = changed(PLAN, [Divide(groups=(("cell",),))])
    assert plan.node("internet").fences == (
        Fence(
            ports=("cell",),
            others=("office", "stun", "wifi"),
            partition="partition of cell from the rest",
        ),
    )


def test_a_host_that_moves_gets_an_address_and_disturbs_nobody():
    plan = changed(PLAN, [Move(node="alice", via="cell", link=SLOW)])
    alice = plan.node("alice")
    assert alice.interfaces != PLAN.node("alice").interfaces
    assert alice.interfaces[0].addresses[0].startswith("100.64.")
    assert alice.program == PLAN.node("alice").program, "it runs on"
    assert wire(plan, "alice").a_to_b.delay_us == 80_000
    assert wire(plan, "alice").a == wire(PLAN, "alice").a
    for name in ("carol", "bob", "stun"):
        assert plan.node(name) == PLAN.node(name)
        assert wire(plan, name) == wire(PLAN, name)
    assert alice.interfaces[0].addresses[0].partition("/")[0] in plan.node("cell").subscribers
    assert plan.node("wifi").subscribers != PLAN.node("wifi").subscribers
    touched = {op.node for op in diff(PLAN, plan) if isinstance(op, StartProgram | StopProgram)}
    assert touched == set()
    home = changed(plan, [Move(node="alice", via="wifi")])
    assert home.node("alice").interfaces == PLAN.node("alice").interfaces


def test_what_was_changed_before_a_move_outlasts_it():
    before = [
        CutLink(node="bob", via="office"),
        SetLink(node="carol", via="wifi", link=SLOW),
        SetActivity(node="bob", activity=Activity.STOPPED),
        Divide(groups=parse_groups("alice carol dave / bob")),
    ]
    plan = changed(PLAN, before)
    after = changed(plan, [Move(node="alice", via="cell")])
    assert wire(after, "bob").down
    assert wire(after, "carol").a_to_b == SLOW.up
    assert after.node("bob").activity is Activity.STOPPED
    assert after.partitions == plan.partitions
    assert after.node("internet").fences == plan.node("internet").fences


def test_a_program_that_starts_after_a_move_is_told_its_address():
    plan = changed(PLAN, [Move(node="alice", via="cell")])
    for activity in (Activity.STOPPED, Activity.RUNNING):
        plan = changed(plan, [SetActivity(node="alice", activity=activity)])
    alice = plan.node("alice")
    assert alice.program is not None
    address = alice.interfaces[0].addresses[0].partition("/")[0]
    assert dict(alice.program.env)["LAB_ADDRESSES"] == address


def test_routers_that_hosts_roam_between_have_shared_segments_from_the_start():
    text = FILE + "timeline:\n  - {at: 1s, move: {node: bob, to: cell}}\n"
    plan = compile_topology(loads(text, "f.yaml"), NO_NETEM)
    names = {node.name for node in plan.nodes}
    assert {"cell.lan", "office.lan"} <= names
    after = changed(plan, plan.timeline[0].changes)
    for operation in diff(plan, after):
        if isinstance(operation, CreateLink | DeleteLink):
            assert "bob" in {operation.link.a.node, operation.link.b.node}


@pytest.mark.parametrize(
    ("change", "said", "remedy"),
    [
        (SetLink(node="alise", via="wifi", link=SLOW), "no node 'alise'", "'alice'"),
        (CutLink(node="alice", via="cell"), "no link between alice and cell", "alice wifi"),
        (CutLink(node="alice", via="bob"), "no link between", "bob office"),
        (SetActivity(node="office", activity=Activity.STOPPED), "nothing runs", "lab link down"),
        (SetActivity(node="alize", activity=Activity.PAUSED), "no node 'alize'", "'alice'"),
        (Divide(groups=(("alice",), ("zoe",))), "no node, router or region 'zoe'", "names"),
        (Divide(groups=(("alice",), ("wifi",))), "alice is in two groups", "disjoint"),
        (Divide(groups=(("alice",), ("bob",))), "carol is behind wifi", "name wifi"),
        (Move(node="alice", via="wifi"), "attached to wifi already", "lab link set"),
        (Move(node="bob", via="wify"), "no router", "'wifi'"),
        (Move(node="alice", via="internet"), "no router", "routers"),
        (Move(node="wifi", via="cell"), "is a router", "lab apply"),
        (Move(node="stun", via="cell"), "is a service", "without a service"),
        (Move(node="alyce", via="cell"), "no host 'alyce'", "'alice'"),
    ],
)
def test_what_makes_no_sense_is_refused(change: AnyChange, said: str, remedy: str):
    with pytest.raises(InputError) as caught:
        changed(PLAN, [change])
    assert said in caught.value.message
    assert remedy in caught.value.remedy


def test_what_is_stopped_can_not_be_paused_nor_resumed():
    stopped = changed(PLAN, [SetActivity(node="alice", activity=Activity.STOPPED)])
    with pytest.raises(InputError, match="nothing to pause"):
        changed(stopped, [SetActivity(node="alice", activity=Activity.PAUSED)])
    go_on = SetActivity(node="alice", activity=Activity.RUNNING, only_paused=True)
    with pytest.raises(InputError, match="nothing to resume"):
        changed(stopped, [go_on])
    assert kinds(go_on) == []
    paused = changed(PLAN, [SetActivity(node="alice", activity=Activity.PAUSED)])
    assert kinds(go_on, paused) == [ResumeNode]
