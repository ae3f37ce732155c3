"""Rule sets as people read them: one golden set for each kind of node.

`LAB_UPDATE_GOLDEN=1` rewrites the files; the difference is then for review.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import InputError, LabError
from lab.fabric.rules import RuleSet, render
from lab.fabric.rules.firewall import arguments
from lab.plan.model import Interface, Node, NodeKind
from lab.topology.behaviour import (
    Dependence,
    Direction,
    Firewall,
    Hairpin,
    Lifetimes,
    Nat,
    Pooling,
    PortPolicy,
    Ports,
    Proxy,
    Refresh,
    Rule,
    Unsolicited,
    Verdict,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "rules"

STATEFUL = Firewall(inbound=Direction(default=Verdict.DROP))
CORPORATE = Firewall(
    outbound=Direction(
        default=Verdict.REJECT,
        rules=(
            Rule(verdict=Verdict.ACCEPT, protocol="tcp", ports=((80, 80),)),
            Rule(verdict=Verdict.ACCEPT, protocol="tcp", ports=((443, 443),)),
            Rule(verdict=Verdict.ACCEPT, protocol="udp", ports=((53, 53),), remote="45.0.0.53"),
            Rule(verdict=Verdict.ACCEPT, protocol="icmp"),
            Rule(verdict=Verdict.DROP, protocol="tcp", ports=((6881, 6889), (6969, 6969))),
        ),
    ),
    inbound=Direction(default=Verdict.DROP),
)


def router(nat: Nat | None, firewall: Firewall | None = None, **changes: object) -> Node:
    node = Node(
        name="home-a",
        kind=NodeKind.ROUTER,
        interfaces=(
            Interface(name="wan", addresses=("2001:db8::2/64", "45.0.0.2/30")),
            Interface(name="lan", addresses=("192.168.1.1/24",)),
        ),
        forwarding=True,
        wan="wan",
        lan="lan",
        nat=nat,
        firewall=firewall,
        subscribers=("192.168.1.2", "192.168.1.3"),
    )
    return msgspec.structs.replace(node, **changes)


POOL_INTERFACES = (
    Interface(name="wan", addresses=("45.0.0.2/29", "45.0.0.3/29")),
    Interface(name="lan", addresses=("192.168.1.1/24",)),
)

HOST = Node(
    name="alice",
    kind=NodeKind.HOST,
    interfaces=(Interface(name="eth0", addresses=("192.168.1.2/24",)),),
    firewall=CORPORATE,
)

NODES = {
    "home": router(Nat()),
    "full-cone": router(Nat(filtering=Dependence.ENDPOINT_INDEPENDENT)),
    "restricted-cone": router(Nat(filtering=Dependence.ADDRESS_DEPENDENT)),
    "symmetric": router(
        Nat(
            mapping=Dependence.ADDRESS_AND_PORT_DEPENDENT,
            ports=Ports(policy=PortPolicy.RANDOM),
        )
    ),
    "cgnat": router(
        Nat(
            filtering=Dependence.ENDPOINT_INDEPENDENT,
            ports=Ports(policy=PortPolicy.BLOCK, block=512),
            hairpin=Hairpin.EXTERNAL_SOURCE,
        )
    ),
    "sequential": router(
        Nat(
            mapping=Dependence.ADDRESS_DEPENDENT,
            filtering=Dependence.ADDRESS_DEPENDENT,
            ports=Ports(policy=PortPolicy.SEQUENTIAL, first=20000, stride=2),
            unsolicited=Unsolicited.RST,
        )
    ),
    "hairpin-internal": router(Nat(hairpin=Hairpin.INTERNAL_SOURCE)),
    "short-lived-reject": router(
        Nat(
            unsolicited=Unsolicited.REJECT,
            lifetimes=Lifetimes(udp_s=30, tcp_established_s=60, tcp_transitory_s=60),
            ports=Ports(first=40000, last=40099),
        )
    ),
    "clocked": router(
        Nat(
            filtering=Dependence.ADDRESS_DEPENDENT,
            lifetimes=Lifetimes(
                udp_s=60, udp_one_way_s=30, permission_s=20, refresh=Refresh.OUTBOUND
            ),
        )
    ),
    "accepting": router(Nat(unsolicited=Unsolicited.ACCEPT)),
    "overloading": router(Nat(ports=Ports(overload=True), sessions=1000)),
    "parity": router(Nat(ports=Ports(policy=PortPolicy.RANDOM, parity=True))),
    "pool-paired": router(
        Nat(filtering=Dependence.ADDRESS_DEPENDENT, pool=2), interfaces=POOL_INTERFACES
    ),
    "pool-arbitrary": router(
        Nat(
            filtering=Dependence.ENDPOINT_INDEPENDENT,
            pool=2,
            pooling=Pooling.ARBITRARY,
            hairpin=Hairpin.EXTERNAL_SOURCE,
        ),
        interfaces=POOL_INTERFACES,
    ),
    "corporate": router(Nat(), CORPORATE),
    "plain-router-stateful": router(None, STATEFUL),
    "host-corporate": HOST,
    "http-only": router(
        None,
        Firewall(
            outbound=Direction(
                default=Verdict.REJECT,
                rules=(Rule(verdict=Verdict.DROP, protocol="tcp", remote="45.0.0.66"),),
            ),
            inbound=Direction(default=Verdict.DROP),
            proxy=Proxy(),
        ),
    ),
    "host-http-only": msgspec.structs.replace(
        HOST,
        firewall=Firewall(outbound=Direction(default=Verdict.REJECT), proxy=Proxy(), resolver=True),
        proxy="192.168.1.1:3128",
        resolver="192.168.1.1",
    ),
    "captive": router(
        None, Firewall(inbound=Direction(default=Verdict.DROP), resolver=True, portal=True)
    ),
}


def as_text(rules: RuleSet) -> str:
    parts = {
        "iptables-restore": rules.ip4,
        "ip6tables-restore": rules.ip6,
        "nft": rules.nft,
        "nft, portal": rules.portal,
        "sysctl": "".join(f"net/{name} = {value}\n" for name, value in rules.sysctls),
    }
    return "".join(f"##### {name}\n\n{text}\n" for name, text in parts.items() if text)


@pytest.mark.parametrize("name", NODES)
def test_golden(name: str) -> None:
    text = as_text(render(NODES[name]))
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("LAB_UPDATE_GOLDEN"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert text == file.read_text()


def test_a_node_without_nat_and_firewall_has_no_rules() -> None:
    assert render(router(None)) == RuleSet()
    assert RuleSet().empty
    assert not render(HOST).empty


def test_every_combination_renders() -> None:
    policies = [Ports(policy=policy) for policy in PortPolicy]
    for mapping, filtering, ports, hairpin in itertools.product(
        Dependence, Dependence, policies, Hairpin
    ):
        nat = Nat(mapping=mapping, filtering=filtering, ports=ports, hairpin=hairpin)
        assert "udp_port" in render(router(nat)).nft


@given(
    first=st.integers(-10, 70000),
    last=st.integers(-10, 70000),
    block=st.integers(0, 70000),
    stride=st.integers(-2, 100),
    policy=st.sampled_from(PortPolicy),
)
def test_ports_that_can_not_be_had_are_refused(first, last, block, stride, policy) -> None:
    node = router(
        Nat(ports=Ports(policy=policy, first=first, last=last, stride=stride, block=block))
    )
    possible = 1 <= first <= last <= 65535
    if policy is PortPolicy.BLOCK:
        possible &= 0 <= 2 * block <= last - first + 1 and last > first
    if policy is PortPolicy.SEQUENTIAL:
        possible &= 1 <= stride <= 64
    if possible:
        assert "mod 0" not in render(node).nft
    else:
        with pytest.raises(InputError) as refused:
            render(node)
        assert refused.value.remedy
        assert refused.value.where == "router home-a"


def test_blocks_follow_each_other_and_leave_the_rest() -> None:
    ports = Ports(policy=PortPolicy.BLOCK, first=2000, last=2999, block=400)
    text = render(router(Nat(ports=ports))).nft
    assert 'comment "ports: 2000 to 2399"' in text
    assert 'comment "ports: 2400 to 2799"' in text
    assert 'comment "ports: 2800 to 2999"' in text


def test_too_many_subscribers_for_the_range() -> None:
    ports = Ports(policy=PortPolicy.BLOCK, first=2000, last=2999, block=600)
    with pytest.raises(InputError, match="2 subscribers with 600 ports each need more than"):
        render(router(Nat(ports=ports)))


def test_a_router_needs_its_interfaces() -> None:
    with pytest.raises(LabError, match="no outward interface"):
        render(router(Nat(), wan=""))
    with pytest.raises(LabError, match="no IPv4 address on wan"):
        render(router(Nat(), interfaces=()))


def test_firewall_rules_speak_of_their_own_ip_version() -> None:
    direction = Direction(
        rules=(
            Rule(verdict=Verdict.DROP, remote="2001:db8::/32"),
            Rule(verdict=Verdict.DROP, remote="10.0.0.0/8", protocol="udp", ports=((1, 9),)),
            Rule(verdict=Verdict.REJECT, protocol="icmp"),
        )
    )
    from_ten = (
        "-s 10.0.0.0/8 -p udp -m udp --dport 1:9 "
        '-m comment --comment "drop udp/1-9 from 10.0.0.0/8" -j DROP'
    )
    assert arguments(direction, version=4, inbound=True) == (
        from_ten,
        '-p icmp -m comment --comment "reject icmp" -j refuse',
        "-j ACCEPT",
    )
    assert arguments(direction, version=6, inbound=False) == (
        '-d 2001:db8::/32 -m comment --comment "drop any to 2001:db8::/32" -j DROP',
        '-p ipv6-icmp -m comment --comment "reject icmp" -j refuse',
        "-j ACCEPT",
    )
