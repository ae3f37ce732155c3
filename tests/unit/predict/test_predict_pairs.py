"""Acting out hole punching against the closed form, and what must hold of any prediction."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

sys.path.insert(0, str(Path(__file__).parent))
from predict_support import chain, facing, nat, peer, plan_of

from lab.plan.model import Plan
from lab.predict import predict
from lab.predict.pairs import KINDS, Kind, chains_punch, punches, touchy
from lab.topology.behaviour import Dependence, Hairpin, PortPolicy
from lab.topology.model import RouterSpec

POLICIES = (PortPolicy.PRESERVE, PortPolicy.RANDOM, PortPolicy.SEQUENTIAL)
ORDER = tuple(Dependence)

kinds = st.sampled_from(KINDS)
chains = st.lists(kinds, max_size=3)
steady = chains.filter(lambda chain: not touchy(chain))


def can_punch(plan: Plan, local: str = "alice", remote: str = "bob") -> bool:
    (finding,) = predict(plan, local, remote, ["udp-punch"]).findings
    return finding.possible


@pytest.mark.parametrize("policy", POLICIES)
def test_81_pairs_are_as_the_rule_says(policy):
    wrong = [
        (str(x), str(y))
        for x, y in itertools.product(KINDS, KINDS)
        if can_punch(facing([nat(x, policy)], [nat(y, policy)])) is not punches(x, y)
    ]
    assert wrong == []


def test_the_rule_counts_as_it_was_measured():
    possible = sum(punches(x, y) for x, y in itertools.product(KINDS, KINDS))
    assert (possible, 81 - possible) == (57, 24)
    assert all(punches(x, y) is punches(y, x) for x, y in itertools.product(KINDS, KINDS))
    assert all(chains_punch([x], [y]) is punches(x, y) for x in KINDS for y in KINDS)


@settings(max_examples=200, deadline=None)
@given(steady, steady, st.sampled_from(POLICIES))
def test_nested_nats_compose_as_the_rule_says(xs, ys, policy):
    plan = facing([nat(x, policy) for x in xs], [nat(y, policy) for y in ys])
    assert can_punch(plan) is chains_punch(xs, ys)


def test_in_a_touchy_chain_it_matters_who_is_first():
    """As measured (tests/kernel/predict): the callee's packets come first."""
    strict = nat(Kind(Dependence.ENDPOINT_INDEPENDENT, Dependence.ADDRESS_AND_PORT_DEPENDENT))
    loose = nat(Kind(Dependence.ADDRESS_DEPENDENT, Dependence.ENDPOINT_INDEPENDENT))
    plan = facing([strict], [strict, loose])
    assert not can_punch(plan)
    assert can_punch(plan, "bob", "alice")


@settings(max_examples=200, deadline=None)
@given(steady, steady, st.sampled_from(POLICIES), st.sampled_from(Hairpin))
def test_who_calls_whom_does_not_matter_to_punching(xs, ys, policy, hairpin):
    carrier = RouterSpec(name="carrier", nat=nat(KINDS[0], policy, hairpin))
    for plan in (
        facing([nat(x, policy) for x in xs], [nat(y, policy) for y in ys]),
        plan_of(
            carrier,
            *chain("a", [nat(x, policy) for x in xs], "carrier"),
            *chain("b", [nat(y, policy) for y in ys], "carrier"),
            peer("alice", "a0" if xs else "carrier"),
            peer("bob", "b0" if ys else "carrier"),
        ),
    ):
        assert can_punch(plan) is can_punch(plan, "bob", "alice")


@settings(max_examples=200, deadline=None)
@given(chains, chains, kinds, st.sampled_from(Hairpin), st.data())
def test_a_stricter_filter_connects_nobody(xs, ys, kind, hairpin, data):
    """Whatever can't be done can't be done if some NAT, the common one too, filters more."""
    plan = plan_of(
        RouterSpec(name="carrier", nat=nat(kind, hairpin=hairpin)),
        *chain("a", [nat(x) for x in xs], "carrier"),
        *chain("b", [nat(y) for y in ys], "carrier"),
        peer("alice", "a0" if xs else "carrier"),
        peer("bob", "b0" if ys else "carrier"),
    )
    index = data.draw(st.sampled_from([i for i, n in enumerate(plan.nodes) if n.nat]))
    before = plan.nodes[index]
    assert before.nat
    rank = ORDER.index(before.nat.filtering)
    stricter = replace(before.nat, filtering=data.draw(st.sampled_from(ORDER[rank:])))
    nodes = list(plan.nodes)
    nodes[index] = replace(before, nat=stricter)
    strict = predict(replace(plan, nodes=tuple(nodes)), "alice", "bob")
    for loose in predict(plan, "alice", "bob").findings:
        found = strict.of(loose.technique)
        assert found
        assert loose.possible or not found.possible, (loose, found)
