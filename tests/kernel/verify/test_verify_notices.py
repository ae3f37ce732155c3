"""For each dimension: rules broken on purpose, and verification notices that, and only that."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from msgspec.structs import replace
from verify_support import Running, different, said

from lab.topology.behaviour import (
    Dependence,
    Direction,
    Firewall,
    Hairpin,
    Nat,
    Pooling,
    PortPolicy,
    Ports,
    Rule,
    Unsolicited,
    Verdict,
)
from lab.verify import verify

pytestmark = pytest.mark.kernel

HOME = Nat()
FULL_CONE = Nat(filtering=Dependence.ENDPOINT_INDEPENDENT)
RANDOM = Nat(ports=Ports(policy=PortPolicy.RANDOM))
BOTH = {"udp", "tcp"}


def both(*dimensions: str) -> set[tuple[str, str]]:
    return {(dimension, protocol) for dimension in dimensions for protocol in BOTH}


CASES = {
    "mapping by address": (
        RANDOM,
        replace(RANDOM, mapping=Dependence.ADDRESS_DEPENDENT),
        both("mapping") | {("class", "udp")},
    ),
    "mapping by flow": (
        replace(RANDOM, mapping=Dependence.ADDRESS_DEPENDENT),
        replace(RANDOM, mapping=Dependence.ADDRESS_AND_PORT_DEPENDENT),
        both("mapping"),
    ),
    "one mapping for all": (
        replace(RANDOM, mapping=Dependence.ADDRESS_AND_PORT_DEPENDENT),
        RANDOM,
        both("mapping") | {("class", "udp")},
    ),
    "filtering by address": (
        HOME,
        replace(HOME, filtering=Dependence.ADDRESS_DEPENDENT),
        both("filtering") | {("class", "udp")},
    ),
    "no filtering": (
        replace(HOME, filtering=Dependence.ADDRESS_DEPENDENT),
        FULL_CONE,
        both("filtering") | {("class", "udp")},
    ),
    "filtering too strict": (FULL_CONE, HOME, both("filtering") | {("class", "udp")}),
    "ports not kept": (HOME, RANDOM, both("ports")),
    "ports kept": (RANDOM, HOME, both("ports")),
    "ports in a row": (
        RANDOM,
        replace(RANDOM, ports=Ports(policy=PortPolicy.SEQUENTIAL, first=20000)),
        both("ports"),
    ),
    "another stride": (
        replace(HOME, ports=Ports(policy=PortPolicy.SEQUENTIAL, stride=2)),
        replace(HOME, ports=Ports(policy=PortPolicy.SEQUENTIAL, stride=4)),
        both("ports"),
    ),
    "another range": (
        replace(HOME, ports=Ports(policy=PortPolicy.RANDOM, first=5000, last=8999)),
        replace(HOME, ports=Ports(policy=PortPolicy.RANDOM, first=9000, last=19999)),
        both("ports"),
    ),
    "a part of the range": (
        RANDOM,
        replace(HOME, ports=Ports(policy=PortPolicy.RANDOM, first=9000, last=9999)),
        both("ports"),
    ),
    "no blocks": (
        replace(HOME, ports=Ports(policy=PortPolicy.BLOCK, block=512)),
        RANDOM,
        both("ports"),
    ),
    "no parity": (
        replace(HOME, ports=Ports(policy=PortPolicy.RANDOM, parity=True)),
        RANDOM,
        both("ports"),
    ),
    "ports overloaded": (
        HOME,
        replace(HOME, ports=Ports(overload=True)),
        both("overloading"),
    ),
    "ports not overloaded": (
        replace(HOME, ports=Ports(overload=True)),
        HOME,
        both("overloading"),
    ),
    "addresses not paired": (
        replace(FULL_CONE, pool=2),
        replace(FULL_CONE, pool=2, pooling=Pooling.ARBITRARY),
        both("pooling"),
    ),
    "addresses paired": (
        replace(RANDOM, pool=2, pooling=Pooling.ARBITRARY),
        replace(RANDOM, pool=2),
        both("pooling"),
    ),
    "no limit of sessions": (replace(HOME, sessions=12), HOME, {("sessions", "udp")}),
    "fewer sessions": (
        replace(HOME, sessions=24),
        replace(HOME, sessions=20),
        {("sessions", "udp")},
    ),
    "hairpin missing": (
        replace(FULL_CONE, hairpin=Hairpin.EXTERNAL_SOURCE),
        FULL_CONE,
        both("hairpin"),
    ),
    "hairpin filtered, missing": (
        replace(HOME, hairpin=Hairpin.EXTERNAL_SOURCE),
        HOME,
        both("hairpin"),
    ),
    "hairpin unasked for": (
        FULL_CONE,
        replace(FULL_CONE, hairpin=Hairpin.EXTERNAL_SOURCE),
        both("hairpin"),
    ),
    "hairpin with the inside's source": (
        replace(FULL_CONE, hairpin=Hairpin.EXTERNAL_SOURCE),
        replace(FULL_CONE, hairpin=Hairpin.INTERNAL_SOURCE),
        both("hairpin"),
    ),
    "unsolicited packets refused": (
        HOME,
        replace(HOME, unsolicited=Unsolicited.REJECT),
        both("unsolicited"),
    ),
    "unsolicited packets reset": (
        HOME,
        replace(HOME, unsolicited=Unsolicited.RST),
        {("unsolicited", "tcp")},
    ),
    "unsolicited packets dropped": (
        replace(HOME, unsolicited=Unsolicited.RST),
        HOME,
        {("unsolicited", "tcp")},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_as_declared(one: Running, case: str) -> None:
    declared, _, _ = CASES[case]
    one.fresh(declared)
    report = one.verify(declared)
    assert report.ok, report.differences


@pytest.mark.parametrize("case", CASES)
def test_another_nat_than_declared(one: Running, case: str) -> None:
    declared, loaded, noticed = CASES[case]
    one.fresh(loaded)
    report = one.verify(declared)
    assert different(report) == noticed, report.differences


# --- firewalls ------------------------------------------------------------

WEB = Direction(
    default=Verdict.DROP,
    rules=(
        Rule(verdict=Verdict.ACCEPT, protocol="tcp", ports=((80, 80), (443, 443))),
        Rule(verdict=Verdict.ACCEPT, protocol="udp", ports=((53, 53),), remote="9.9.9.0/24"),
        Rule(verdict=Verdict.REJECT, protocol="udp", ports=((6000, 6100),)),
    ),
)
SERVER = Direction(
    default=Verdict.DROP, rules=(Rule(verdict=Verdict.ACCEPT, protocol="tcp", ports=((22, 22),)),)
)
GUARD = Firewall(outbound=WEB, inbound=SERVER)


@contextlib.contextmanager
def rule(one: Running, node: str, *arguments: str) -> Iterator[None]:
    """An iptables rule more, at the top."""
    assert one.shell(node, "iptables-nft", "-I", *arguments) == ""
    try:
        yield
    finally:
        one.shell(node, "iptables-nft", "-D", *arguments)


@pytest.mark.parametrize("nat", [None, FULL_CONE, HOME], ids=["routed", "full cone", "home"])
def test_a_firewall_as_declared(one: Running, nat: Nat | None) -> None:
    one.load(nat, GUARD)
    report = one.verify(nat, GUARD)
    assert report.ok, report.differences
    assert said(report, "firewall out", "tcp").observed == "only 80, 443"
    if nat is None:
        assert said(report, "firewall in", "tcp").observed == "only 22"
    if nat is FULL_CONE:
        assert said(report, "filtering", "tcp").observed == "address-and-port-dependent (firewall)"


@pytest.mark.parametrize(
    ("arguments", "noticed"),
    [
        (
            ("FORWARD", "-o", "wan", "-p", "tcp", "--dport", "444", "-j", "ACCEPT"),
            {("firewall out", "tcp")},
        ),
        (
            ("outbound", "-p", "udp", "--dport", "53", "-j", "DROP"),
            {("firewall out", "udp")},
        ),
        (
            ("outbound", "-p", "udp", "--dport", "6050:6101", "-j", "REJECT"),
            {("firewall out", "udp")},
        ),
        (
            ("FORWARD", "-i", "wan", "-p", "tcp", "--dport", "23", "-j", "ACCEPT"),
            {("firewall in", "tcp")},
        ),
        (
            ("FORWARD", "-i", "wan", "-p", "udp", "-j", "ACCEPT"),
            {("firewall in", "udp")},
        ),
        (
            ("FORWARD", "-o", "wan", "-p", "icmp", "-j", "ACCEPT"),
            {("firewall out", "icmp")},
        ),
    ],
)
def test_a_hole_in_a_firewall(one: Running, arguments: tuple[str, ...], noticed: set) -> None:
    one.load(None, GUARD)
    with rule(one, "home", *arguments):
        report = one.verify(None, GUARD)
        assert different(report) == noticed, report.differences
    assert one.verify(None, GUARD).ok


def test_a_prefix_that_the_lab_itself_is_in(one: Running) -> None:
    """Nobody who has an address there is mistaken for an answer to the probe."""
    web = (Rule(verdict=Verdict.ACCEPT, protocol="tcp", ports=((80, 80),), remote="45.0.0.0/8"),)
    guard = Firewall(outbound=Direction(default=Verdict.DROP, rules=web))
    one.load(HOME, guard)
    report = one.verify(HOME, guard)
    assert report.ok, report.differences
    assert said(report, "filtering", "tcp").observed == "address-and-port-dependent"


def test_a_firewall_that_is_not_there(one: Running) -> None:
    one.load(FULL_CONE)
    report = one.verify(FULL_CONE, Firewall(inbound=Direction(default=Verdict.DROP)))
    noticed = different(report)
    assert both("filtering", "firewall in") <= noticed
    assert not any(dimension in ("mapping", "ports", "hairpin") for dimension, _ in noticed)


def test_the_firewall_of_a_host(one: Running) -> None:
    def look() -> set[tuple[str, str]]:
        return different(verify(one.plan, one.paths, ["guarded"]))

    assert look() == set()
    with rule(one, "guarded", "INPUT", "-p", "udp", "--dport", "443", "-j", "ACCEPT"):
        assert look() == {("firewall in", "udp")}
    with rule(one, "guarded", "OUTPUT", "-p", "tcp", "--dport", "443", "-j", "DROP"):
        assert look() == {("firewall out", "tcp")}
    with rule(one, "guarded", "INPUT", "-p", "tcp", "--dport", "443", "-j", "REJECT"):
        assert look() == {("firewall in", "tcp")}
