"""IPv6 in plans: families, delegated prefixes, translation, and what an apply keeps."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import InputError
from lab.plan.compile import compile_topology
from lab.plan.ipv6 import Prefix6
from lab.plan.machine import Machine
from lab.plan.model import Node, NodeKind, Plan
from lab.plan.nptv6 import outside
from lab.topology.loader import loads

MACHINE = Machine(netem=True)


def compiled(text: str, previous: Plan | None = None) -> Plan:
    return compile_topology(loads(text, "t.yaml"), MACHINE, previous=previous)


def addresses(node: Node, interface: str = "") -> list[str]:
    return [
        address
        for port in node.interfaces
        if interface in ("", port.name)
        for address in port.addresses
    ]


def environment(plan: Plan, node: str) -> dict[str, str]:
    program = plan.node(node).program
    assert program is not None
    return dict(program.env)


SERVED = """
ip: dual
routers:
  home: {nat: home}
  old: {ip: 4, nat: home}
  new: {ip: 6}
  mobile: {ip: 6, nat64: true}
nodes:
  stun: {via: internet, service: stun}
  rendezvous: {via: internet, ip: 4, service: rendezvous}
  relay: {via: internet, ip: 6, service: relay}
  alice: {via: home, peer: true}
  bob: {via: old, peer: true}
  carol: {via: new, peer: true}
  dave: {via: mobile, peer: true}
"""


def test_services_are_told_of_in_the_families_that_both_have():
    plan = compiled(SERVED)
    stun4, stun6 = (
        "45.0.0.18:3478,45.0.0.19:3479",
        "[2a00:1:0:3::2]:3478,[2a00:1:0:3::3]:3479",
    )
    told = {name: environment(plan, name) for name in ("alice", "bob", "carol", "dave")}
    assert told["alice"]["LAB_STUN"] == f"{stun4},{stun6}"
    assert told["bob"]["LAB_STUN"] == stun4
    assert told["carol"]["LAB_STUN"] == stun6
    assert told["dave"]["LAB_STUN"] == f"{stun4},{stun6}", "what it has no family for is mapped"
    assert told["dave"]["LAB_NAT64"] == "64:ff9b::/96"
    assert not any("LAB_NAT64" in told[name] for name in ("alice", "bob", "carol"))
    # Nothing in common: as it is.
    assert told["bob"]["LAB_RELAY"].startswith("[2a00:1:")
    assert told["carol"]["LAB_RENDEZVOUS"].startswith("45.0.0.")
    assert told["alice"]["LAB_ADDRESSES"] == "192.168.1.2,2a02:1::2"
    assert told["carol"]["LAB_ADDRESSES"] == "2a02:1:1::2"


def test_everything_is_reached_by_a_route():
    plan = compiled("""
ip: dual
routers:
  carrier: {}
  home: {via: carrier, nat: home}
  inner: {via: home}
  flat: {}
nodes:
  alice: {via: inner}
  bob: {via: home}
  carol: {via: carrier}
  dave: {via: flat}
  erin: {via: internet}
""")
    core = plan.node("internet")
    for host in (node for node in plan.nodes if node.kind is NodeKind.HOST):
        own = IPv6Address(next(a for a in addresses(host) if ":" in a).split("/")[0])
        known = [ip_network(r.destination) for r in core.routes if ":" in r.destination]
        known += [IPv6Network(a, strict=False) for a in addresses(core) if ":" in a]
        assert sum(own in each for each in known) == 1, host.name
        assert [r.gateway for r in host.routes if r.destination == "::/0"]
    # What a router has, the one above routes to it, and no two have the same.
    delegated = [ip_network(node.delegated) for node in plan.nodes if node.delegated]
    above = {r.destination for node in plan.nodes for r in node.routes}
    assert {str(each) for each in delegated} <= above
    carrier, home, inner, flat = delegated
    assert carrier.supernet_of(home)
    assert home.supernet_of(inner)
    assert not carrier.overlaps(flat)
    assert [each.prefixlen for each in delegated] == [48, 56, 60, 48]


def test_what_there_is_of_ipv4_does_not_change():
    text = SERVED.replace("  new: {ip: 6}\n", "").replace("  mobile: {ip: 6, nat64: true}\n", "")
    text = text.replace("  carol: {via: new, peer: true}\n", "").replace(
        ", ip: 6, service", ", service"
    )
    text = text.replace("  dave: {via: mobile, peer: true}\n", "")
    four, dual = compiled(text.replace("ip: dual", "ip: 4")), compiled(text)
    for node in four.nodes:
        assert addresses(node) == [a for a in addresses(dual.node(node.name)) if ":" not in a]
        if node.kind is not NodeKind.INTERNET:
            assert node.nat == dual.node(node.name).nat
    assert four.links == dual.links
    assert not any(":" in address for node in four.nodes for address in addresses(node))


GROWING = """
ip: dual
routers:
%s  carrier: {}
  home: {via: carrier, nat: home}
nodes:
%s  alice: {via: home}
  web: {via: internet}
"""


def test_an_apply_keeps_addresses():
    before = compiled(GROWING % ("", ""))
    more = (
        "  another: {via: carrier}\n  third: {}\n",
        "  zoe: {via: home}\n  a: {via: internet}\n",
    )
    grown = compiled(GROWING % more, before)
    for node in before.nodes:
        if node.kind is not NodeKind.INTERNET:
            assert addresses(grown.node(node.name)) == addresses(node), node.name
    taken = [a for node in grown.nodes for a in addresses(node) if ":" in a]
    assert len(taken) == len(set(taken))
    back = compiled(GROWING % ("", ""), grown)
    for node in before.nodes:
        if node.kind is not NodeKind.INTERNET:
            assert addresses(back.node(node.name)) == addresses(node)


def test_a_nat64_keeps_who_is_who():
    text = "routers:\n  m: {ip: 6, nat64: true}\nnodes:\n%s  alice: {via: m}\n  bob: {via: m}\n"
    before = compiled(text % "")
    grown = compiled(text % "  aaron: {via: m}\n", before)
    assert before.node("m").nat64 is not None
    old, new = dict(before.node("m").nat64.hosts), dict(grown.node("m").nat64.hosts)  # type: ignore[union-attr]
    assert old.items() <= new.items()
    assert len(set(new.values())) == 3
    assert set(grown.node("m").subscribers) == set(new.values())


@pytest.mark.parametrize(
    ("router", "firewall"),
    [
        ("{nat: home}", True),
        ("{nptv6: true}", True),
        ("{}", False),
        ("{nat: home, firewall: open}", False),
        ("{nat: cgnat}", False),
        ("{ip: 4, nat: home}", False),
    ],
)
def test_a_home_has_a_firewall_for_ipv6(router: str, firewall: bool):
    plan = compiled(f"ip: dual\nrouters: {{r: {router}}}\nnodes: {{a: {{via: r}}}}\n")
    assert (plan.node("r").firewall6 is not None) is firewall


def test_a_large_carrier_has_room_for_all():
    plan = compiled("""
ip: dual
routers:
  carrier: {}
  home: {via: carrier, count: 600}
nodes:
  host: {via: home, count: 600}
""")
    carrier = ip_network(plan.node("carrier").delegated)
    homes = [ip_network(n.delegated) for n in plan.nodes if n.name.startswith("home-")]
    assert len(homes) == len(set(homes)) == 600
    assert all(carrier.supernet_of(each) for each in homes)


def test_more_than_a_translated_prefix_holds():
    with pytest.raises(InputError, match="what NPTv6 translates") as caught:
        compiled("ip: 6\nrouters:\n  r: {nptv6: true}\n  s: {via: r, count: 300}\n")
    assert caught.value.remedy
    assert caught.value.where == "t.yaml:3"


def _sum(address: bytes) -> int:
    total = sum(int.from_bytes(address[i : i + 2], "big") for i in range(0, 16, 2))
    return total % 0xFFFF


@given(st.integers(0, 2**40 - 1), st.integers(0, 2**24 - 1), st.integers(0, 0xFFFE), st.data())
def test_translation_keeps_the_checksum_and_is_one_to_one(site, provider, subnet, data):
    internal = Prefix6(0xFD << 120 | site << 80, 48)
    external = Prefix6(0x2A02 << 112 | provider << 80, 48)
    lan = Prefix6(internal.first | subnet << 64, 64)
    seen = outside(lan, internal, external)
    assert external.contains(seen)
    host = data.draw(st.integers(1, 2**64 - 1))
    inner, outer = (ip_address((p.first | host).to_bytes(16, "big")) for p in (lan, seen))
    assert _sum(inner.packed) == _sum(outer.packed)
    other = data.draw(st.integers(0, 0xFFFE).filter(lambda each: each != subnet))
    assert outside(Prefix6(internal.first | other << 64, 64), internal, external) != seen


def test_the_example_of_the_rfc():
    """RFC 6296, section 3.6: fd01:203:405::/48 and 2001:db8:1::/48, subnet 1 becomes d550."""
    lan = Prefix6.parse("fd01:203:405:1::/64")
    inner, outer = Prefix6.parse("fd01:203:405::/48"), Prefix6.parse("2001:db8:1::/48")
    assert str(outside(lan, inner, outer)) == "2001:db8:1:d550::/64"


WRITTEN = """
ip: dual
routers:
  home: {nat: home, lan: [192.168.5.0/24, 2a02:5:0:1::/64]}
  inner: {via: home, lan: "2a02:5:0:200::/64"}
  ula: {ip: 6, nptv6: true, lan: "fd00:5:0:7::/64"}
  other: {ip: 6}
nodes:
  alice: {via: home, address: [192.168.5.20, 2a02:5:0:1::20]}
  bob: {via: home}
  carol: {via: internet, address: 2a02:9::9, service: stun}
  dave: {via: ula, address: "fd00:5:0:7::7"}
  erin: {via: other, address: "2a02:7:0:1::7"}
"""


def test_a_file_chooses_prefixes_and_addresses():
    plan = compiled(WRITTEN)
    assert addresses(plan.node("alice")) == ["192.168.5.20/24", "2a02:5:0:1::20/64"]
    assert "2a02:5:0:1::1/64" in addresses(plan.node("home"))
    delegated = {node.name: node.delegated for node in plan.nodes if node.delegated}
    assert delegated == {
        "home": "2a02:5::/48",
        "inner": "2a02:5:0:200::/56",
        "ula": "2a02:1::/48",
        "other": "2a02:7::/48",
    }
    # A STUN server has two; the subnet is that of the one that is written.
    assert [a for a in addresses(plan.node("carol")) if ":" in a] == [
        "2a02:9::9/64",
        "2a02:9::2/64",
    ]
    nptv6 = plan.node("ula").nptv6
    assert nptv6 is not None
    assert [inside for inside, _ in nptv6.subnets] == ["fd00:5:0:7::/64"]
    assert addresses(plan.node("erin")) == ["2a02:7:0:1::7/64"]


def test_what_a_file_chooses_goes_before_what_there_was():
    before = compiled(SERVED)
    assert addresses(before.node("carol")) == ["2a02:1:1::2/64"]
    # What carol had is written for another; what new had, for the home.
    text = SERVED.replace("home: {nat: home}", 'home: {nat: home, lan: "2a02:1:1::/64"}')
    text = text.replace("alice: {via: home,", 'alice: {via: home, address: "2a02:1:1::2",')
    after = compiled(text, before)
    assert "2a02:1:1::2/64" in addresses(after.node("alice"))
    new = Prefix6.parse(after.node("new").delegated)
    assert not new.overlaps(Prefix6.parse("2a02:1:1::/48"))
    assert compiled(text, after) == after


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ('a: {lan: "2001:db8:1::/64"}', "the internet does not route"),
        ('a: {lan: "fd00::/64"}', "the internet does not route"),
        ('a: {lan: "2a00:1:5::/64"}', "where attachments to the internet are"),
        ('a: {lan: "2a02:5::/64"}\n  b: {lan: "2a02:5:0:7::/64"}', "what a has around its LAN"),
        ('a: {lan: "2a02:5::/64"}\n  b: {via: a, lan: "2a02:6::/64"}', "has 2a02:5::/48"),
        ('a: {lan: "2a02:5::/64"}\n  b: {via: a, lan: "2a02:5:0:7::/64"}', "the LAN of a"),
        ('a: {nptv6: true, lan: "2a02:5::/64"}', "unique local"),
        ('a: {nptv6: true, lan: "fd00:0:0:ffff::/64"}', "no counterpart"),
        ('a: {nat64: 2a02:5:1::/96}\n  b: {lan: "2a02:5:1::/64"}', "the NAT64 prefix of a"),
        ('a: {}\nnodes:\n  c: {via: a, address: "2a02:5::1"}', "that of the router"),
        (
            'a: {}\nnodes: {c: {via: a, address: "2a02:5::2"}, d: {via: a, address: "2a02:6::2"}}',
            "but the subnet there is 2a02:5::/64",
        ),
        (
            'a: {lan: "2a02:5::/64"}\nnodes:\n  c: {via: internet, address: "2a02:5:0:9::2"}',
            "the subnet between c and the internet",
        ),
    ],
)
def test_what_a_file_can_not_choose(lines: str, problem: str):
    with pytest.raises(InputError, match=problem) as caught:
        compiled(f"ip: 6\nrouters:\n  {lines}\n")
    assert caught.value.where.startswith("t.yaml:")
    assert caught.value.remedy
