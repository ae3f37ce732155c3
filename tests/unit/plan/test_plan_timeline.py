"""A timeline's moments: in order, the same for a seed, and undone without a trace."""

from __future__ import annotations

from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_support import NETEM

from lab.errors import InputError
from lab.plan.change import as_it_is, changed
from lab.plan.compile import compile_topology
from lab.plan.layers import Layers
from lab.plan.model import Node, NodeKind, Plan
from lab.plan.timeline import Moment, moments
from lab.topology.behaviour import Firewall, Nat, PortPolicy, Ports
from lab.topology.changes import Happening, Reboot, SetFirewall, SetNat
from lab.topology.loader import loads

NATS = [Nat(preset=name) for name in ("first", "second", "third", "fourth")]
PLAN = Plan(
    lab="t",
    links=(),
    nodes=(
        *(Node(name=name, kind=NodeKind.ROUTER, nat=Nat(preset="own")) for name in ("a", "b")),
        Node(name="host", kind=NodeKind.HOST),
    ),
)
SHOWN = 60


@st.composite
def happenings(draw: st.DrawFn) -> Happening:
    """What `lab.topology` lets through."""
    every = draw(st.sampled_from([0, 1_000_000, 3_000_000]))
    lasts = draw(st.integers(0, 400_000))
    jitter = draw(st.integers(0, 500_000))
    return Happening(
        at_us=draw(st.integers(0, 5_000_000)),
        changes=(SetNat(router=draw(st.sampled_from("ab")), nat=draw(st.sampled_from(NATS))),),
        for_us=lasts,
        every_us=every,
        times=draw(st.integers(0, 5)) if every else 0,
        jitter_us=jitter,
    )


timelines = st.lists(happenings(), max_size=5)


def first(timeline: list[Happening], seed: int) -> list[Moment]:
    return list(islice(moments(timeline, seed), SHOWN))


@given(timelines, st.integers(0, 2**32))
def test_moments_are_in_order_and_the_same_each_time(timeline, seed):
    found = first(timeline, seed)
    assert found == first(timeline, seed)
    assert all(a.at_us <= b.at_us for a, b in pairwise(found))


@given(timelines, st.integers(0, 2**32))
def test_each_undoing_follows_its_change_before_the_next_one(timeline, seed):
    under_way: dict[int, Moment] = {}
    for moment in first(timeline, seed):
        before = under_way.pop(moment.entry, None)
        if moment.undo:
            assert before is not None
            assert before.key == moment.key
            assert moment.at_us - before.at_us == timeline[moment.entry].for_us
        else:
            assert before is None
            if moment.lasts:
                under_way[moment.entry] = moment


@given(timelines, st.integers(0, 2**32))
def test_no_drift_and_no_more_jitter_than_was_asked_for(timeline, seed):
    for moment in first(timeline, seed):
        entry = timeline[moment.entry]
        nominal = entry.at_us + moment.repetition * entry.every_us + moment.undo * entry.for_us
        assert 0 <= moment.at_us - nominal <= entry.jitter_us
        assert not entry.times or moment.repetition < entry.times


@given(timelines, happenings(), st.integers(0, 2**32))
def test_an_entry_at_the_end_changes_no_other(timeline, more, seed):
    longer = list(islice(moments([*timeline, more], seed), 2 * SHOWN))
    others = [moment for moment in longer if moment.entry != len(timeline)]
    assert others == list(islice(moments(timeline, seed), len(others)))


def test_seeds_differ():
    timeline = [Happening(at_us=0, changes=(), every_us=2_000_000, jitter_us=1_000_000, times=20)]
    assert first(timeline, 1) != first(timeline, 2)


def test_what_ends_comes_before_what_begins_at_the_same_moment():
    lasting = Happening(at_us=10, changes=(), for_us=20)
    other = Happening(at_us=30, changes=())
    again = Happening(at_us=30, changes=())
    found = [(m.at_us, m.entry, m.undo) for m in moments([other, lasting, again], 1)]
    assert found == [(10, 1, False), (30, 1, True), (30, 0, False), (30, 2, False)]


def play(found: list[Moment], plan: Plan = PLAN) -> Plan:
    layers = Layers()
    for moment in found:
        if moment.undo:
            plan = changed(plan, layers.lifted(plan, moment.key))
        else:
            if moment.lasts:
                layers.laid(plan, moment.key, moment.changes)
            plan = changed(plan, moment.changes)
    return plan


@given(st.lists(happenings(), max_size=6), st.integers(0, 99))
def test_what_only_lasts_for_a_time_leaves_nothing_behind(timeline, seed):
    """Whatever the order in which the layers end."""
    lasting = [
        Happening(at_us=h.at_us, changes=h.changes, for_us=max(h.for_us, 1), jitter_us=h.jitter_us)
        for h in timeline
    ]
    assert play(list(moments(lasting, seed))) == PLAN


def set_nat(nat: Nat) -> SetNat:
    return SetNat(router="a", nat=nat)


def test_what_was_set_meanwhile_stays():
    layers = Layers()
    layers.laid(PLAN, 1, [set_nat(NATS[0])])
    plan = changed(PLAN, [set_nat(NATS[0])])
    plan = changed(plan, [set_nat(NATS[1])])  # by hand
    assert layers.lifted(plan, 1) == ()
    assert plan.node("a").nat == NATS[1]


def test_the_upper_of_two_layers_ends_first():
    layers = Layers()
    plan = PLAN
    for key in (0, 1):
        layers.laid(plan, key, [set_nat(NATS[key])])
        plan = changed(plan, [set_nat(NATS[key])])
    plan = changed(plan, layers.lifted(plan, 1))
    assert plan.node("a").nat == NATS[0]
    assert changed(plan, layers.lifted(plan, 0)) == PLAN


def test_a_change_touches_its_node_alone():
    nat = Nat(ports=Ports(policy=PortPolicy.RANDOM))
    after = changed(PLAN, [set_nat(nat), SetFirewall(node="host", firewall=Firewall())])
    assert after.node("a").nat == nat
    assert after.node("host").firewall == Firewall()
    assert after.node("b") is PLAN.node("b")
    assert as_it_is(PLAN, Reboot(router="a")) is None


def test_what_could_not_happen_is_refused_before_the_lab_is_up():
    text = """
routers: {home: {nat: home}}
nodes: {alice: {via: home}}
timeline:
  - {at: 1s, set: {router: home, nat: symmetric}}
  - {at: 2s, set: {node: alice, firewall: {proxy: true}}}
"""
    with pytest.raises(InputError, match="no router above it has one") as caught:
        compile_topology(loads(text, "t.yaml"), NETEM)
    assert caught.value.where == "t.yaml:6"


def test_a_name_with_a_count_is_all_of_them_in_one_step():
    text = """
routers: {home: {nat: home, count: 3}}
timeline: [{at: 1s, set: {router: home, nat: symmetric}}, {at: 2s, reboot: home-2}]
"""
    every, one = compile_topology(loads(text, "t.yaml"), NETEM).timeline
    assert [change.router for change in every.changes] == ["home-1", "home-2", "home-3"]
    assert one.changes == (Reboot(router="home-2"),)


def test_a_pool_needs_the_addresses_that_the_router_was_declared_with():
    text = "routers: {large: {nat: {pool: 3}}, small: {nat: home}}"
    plan = compile_topology(loads(text, "t.yaml"), NETEM)
    assert changed(plan, [SetNat(router="large", nat=Nat(pool=2))]).node("large").nat.pool == 2
    with pytest.raises(InputError, match="a pool of 1 external addresses, and that NAT wants 2"):
        changed(plan, [SetNat(router="small", nat=Nat(pool=2))])
