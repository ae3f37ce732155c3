"""Predictions where there is IPv6: beside IPv4, instead of it, translated."""

from __future__ import annotations

import pytest

from lab.plan.compile import compile_topology
from lab.plan.machine import Machine
from lab.predict import predict
from lab.topology.loader import load, loads

LAB = """\
name: six
ip: dual
routers:
  home-a: {nat: symmetric}
  home-b: {nat: symmetric}
  open-c: {nat: home, firewall: open}
  six: {ip: 6, firewall: stateful}
  four: {nat: home, ip: 4}
nodes:
  stun: {via: internet, service: stun}
  rendezvous: {via: internet, service: rendezvous}
  relay: {via: internet, service: relay}
  alice: {via: home-a, peer: true}
  bob: {via: home-b, peer: true}
  carol: {via: open-c, peer: true}
  sue: {via: six, peer: true}
  fred: {via: four, peer: true}
"""


@pytest.fixture(scope="module")
def plan():
    return compile_topology(loads(LAB, "six.yaml"), Machine())


def of(plan, a, b, technique):
    return predict(plan, a, b).of(technique)


def test_two_firewalls_are_punched_where_two_nats_are_not(plan):
    found = of(plan, "alice", "bob", "udp-punch")
    assert found.possible
    assert found.reason == (
        "the firewall of home-b lets alice in over IPv6, as bob has sent there before"
    )
    direct = of(plan, "alice", "bob", "direct")
    assert not direct.possible
    assert "the firewall of home-b lets no UDP in that is not an answer" in direct.reason


def test_an_open_router_lets_a_peer_be_reached_as_it_is(plan):
    found = of(plan, "alice", "carol", "direct")
    assert found.possible
    address = plan.node("carol").interfaces[0].addresses[-1].partition("/")[0]
    assert found.reason == f"carol can be reached as it is, at {address}"
    assert not of(plan, "carol", "alice", "direct").possible


def test_peers_without_ipv4(plan):
    for a, b in (("sue", "alice"), ("alice", "sue")):
        assert of(plan, a, b, "udp-punch").possible
        assert of(plan, a, b, "relay").possible


@pytest.mark.parametrize("technique", ["udp-predict", "tcp-predict", "birthday"])
def test_in_ipv6_there_are_no_ports_to_guess(plan, technique):
    for a, b in (("sue", "alice"), ("alice", "sue")):
        found = of(plan, a, b, technique)
        assert not found.possible
        assert found.reason.startswith("sue has IPv6 alone, in which no NAT changes ports")


def test_peers_of_one_family_each_have_the_relay_alone(plan):
    for a, b in (("sue", "fred"), ("fred", "sue")):
        found = of(plan, a, b, "udp-punch")
        assert (found.possible, found.reason) == (
            False,
            f"{a} and {b} have no address family in common",
        )
        assert of(plan, a, b, "relay").possible
        assert predict(plan, a, b).path == "relayed"


@pytest.mark.parametrize("name", ["dual-stack", "ipv6-only", "nptv6"])
def test_ice_knows_as_much_of_ipv6_as_others(name):
    plan = compile_topology(load(name), Machine())
    for technique in ("ice", "ice-trickle"):
        found = of(plan, "alice", "bob", technique)
        assert (found.possible, found.path) == (True, "direct"), found
