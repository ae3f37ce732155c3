"""Quantities and behaviours in words."""

from __future__ import annotations

import pytest
from plan_support import CGNAT, DSL, HOME, WEB_ONLY

from lab.plan import words
from lab.plan.compile import compile_topology
from lab.plan.describe import summary
from lab.plan.machine import Machine
from lab.plan.model import End, Link, Plan
from lab.topology.behaviour import Direction, Firewall, Nat, Rule, Verdict
from lab.topology.character import Backend, Impairment, Queue, QueueUnit
from lab.topology.model import NodeSpec, RouterSpec, Topology


@pytest.mark.parametrize(
    ("bits", "text"),
    [(800, "800 bit/s"), (56_000, "56 kbit/s"), (2_500_000, "2.5 Mbit/s"), (10**9, "1 Gbit/s")],
)
def test_rates(bits, text):
    assert words.rate(bits) == text


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [(250, "250 µs"), (12_500, "12.5 ms"), (300_000, "300 ms"), (2_000_000, "2 s")],
)
def test_delays(microseconds, text):
    assert words.delay(microseconds) == text


@pytest.mark.parametrize(
    ("queue", "text"),
    [
        (Queue(), "1 Mbit/s"),
        (Queue(length=2.0), "1 Mbit/s, queue 2 bdp"),
        (Queue(length=50, unit=QueueUnit.PACKETS), "1 Mbit/s, queue 50 packets"),
        (Queue(length=1, unit=QueueUnit.PACKETS), "1 Mbit/s, queue 1 packet"),
        (Queue(length=64_000, unit=QueueUnit.BYTES), "1 Mbit/s, queue 64kB"),
    ],
)
def test_queues_that_are_not_the_usual_ones(queue, text):
    way = Impairment(rate_bit=1_000_000, queue=queue)
    assert words.ways(way, way) == text


def test_losses():
    assert words.loss(0.001) == "0.1 % loss"
    assert words.loss(1) == "100 % loss"


def test_links():
    ends = {
        "a": End(node="a", interface="eth0", mac="02:00:00:00:00:01"),
        "b": End(node="b", interface="lan", mac="02:00:00:00:00:02"),
    }
    assert words.link(Link(**ends)) == ""
    assert words.link(Link(**ends, mtu=1400)) == "MTU 1400"
    assert (
        words.link(Link(**ends, a_to_b=DSL.up, b_to_a=DSL.down, backend=Backend.FERRY))
        == "8 Mbit/s up, 50 Mbit/s down, 10 ms, ferry"
    )
    one_way = Link(**ends, b_to_a=Impairment(loss=0.05), backend=Backend.KERNEL)
    assert words.link(one_way, backend=False) == "5 % loss down"


def test_nats():
    assert words.nat(HOME) == "EIM, APDF, ports preserved"
    assert words.nat_kind(CGNAT) == "cgnat"
    assert words.nat_kind(Nat()) == "EIM/APDF"


def test_firewalls():
    assert words.firewall(Firewall()) == "everything passes"
    assert words.firewall(WEB_ONLY) == "out only tcp/80, tcp/443, udp/53"
    closed = Direction(default=Verdict.DROP)
    no_udp = Direction(rules=(Rule(verdict=Verdict.REJECT, protocol="udp"),))
    assert (
        words.firewall(Firewall(outbound=no_udp, inbound=closed)) == "out all but udp; in nothing"
    )
    mixed = Direction(
        default=Verdict.DROP,
        rules=(
            Rule(verdict=Verdict.DROP, remote="10.0.0.0/8"),
            Rule(verdict=Verdict.ACCEPT, protocol="udp", ports=((1, 9),)),
        ),
    )
    assert (
        words.firewall(Firewall(inbound=mixed))
        == "in drop any to 10.0.0.0/8, accept udp/1-9, drop the rest"
    )


def test_nothing_is_said_of_nothing():
    assert summary(Plan(lab="x", nodes=(), links=())) == "nothing"


def test_a_shared_segment_is_no_node_to_people():
    home = RouterSpec(name="home", via="internet")
    hosts = tuple(NodeSpec(name=name, via="home") for name in ("alice", "bob"))
    plan = compile_topology(Topology(name="t", routers=(home,), nodes=hosts), Machine())
    assert "1 shared segment" in summary(plan)
    assert plan.node_count == len({"internet", "home", "alice", "bob"})
