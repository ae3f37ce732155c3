"""IPv6: firewalls of routers and hosts are what they claim, and verification notices if not."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from msgspec.structs import replace
from verify_support import Running, lab_command, new_name

from lab.fabric import netns
from lab.plan.model import Node, Nptv6, Plan
from lab.topology.behaviour import (
    Dependence,
    Direction,
    Firewall,
    PortPolicy,
    Ports,
    Rule,
    Verdict,
)
from lab.verify import Report, verify
from lab.verify.report import Dimension

pytestmark = pytest.mark.kernel

LAB = """\
name: six
ip: dual
internet: 0ms
routers:
  home: {nat: home}
  office:
    nat: home
    firewall:
      outbound: [drop tcp/25, drop udp/53 to 2001:db8:7::/48]
      inbound: {default: reject, rules: [tcp/22, udp/5000-5010 from 2001:db8:8::/48]}
  plain: {ip: 6, firewall: open}
  site: {ip: 6, nptv6: true}
  mobile: {ip: 6, nat64: true}
nodes:
  stun: {via: internet, service: stun}
  alice: {via: home, peer: true}
  carol: {via: office}
  bob: {via: plain, peer: true}
  nina: {via: site, peer: true}
  phone: {via: mobile, peer: true}
  tablet: {via: mobile}
  guarded: {via: internet, firewall: stateful, peer: true}
"""
STATEFUL = Firewall(inbound=Direction(default=Verdict.DROP))


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("v6")
    file = folder / "six.yaml"
    file.write_text(LAB)
    name = new_name("six")
    try:
        yield Running.up(folder / "s", str(file), name)
    finally:
        lab_command(folder / "s", "down", name, "--quiet")


def declare(plan: Plan, changed: Node) -> Plan:
    nodes = tuple(changed if node.name == changed.name else node for node in plan.nodes)
    return replace(plan, nodes=nodes)


def different(report: Report) -> set[tuple[str, str, str]]:
    return {(one.family, str(one.dimension), one.protocol) for one in report.findings if not one.ok}


def test_everything_is_as_declared(six: Running) -> None:
    report = verify(six.plan, six.paths)
    assert report.differences == ()
    assert report.unmeasured == ()
    said = {(one.node, one.family, str(one.dimension)) for one in report.findings}
    for node in ("home", "office", "guarded", "plain", "site", "mobile"):
        assert {(node, "IPv6", "firewall in"), (node, "IPv6", "firewall out")} <= said
    assert {("site", "IPv6", "prefix"), ("mobile", "NAT64", "mapping")} <= said
    turned = {one.observed for one in report.findings if one.dimension is Dimension.HAIRPIN}
    assert "external-source" in turned  # Behind a NAT64, which is passed twice.
    peers = {(one.node, one.family): one for one in report.peers}
    assert peers["alice", "IPv6"].observed == "symmetric UDP firewall"
    assert peers["alice", "IPv6"].mapping == "no NAT"
    assert peers["alice", "IPv6"].filtering == "address-and-port-dependent"
    assert peers["bob", "IPv6"].observed == "open internet"
    assert ("bob", "IPv4") not in peers
    assert peers["nina", "IPv6"].mapping == "endpoint-independent"
    assert peers["phone", "NAT64"].filtering == "address-dependent"
    assert peers["phone", "IPv6"].mapping == "no NAT"


@pytest.mark.parametrize(
    ("loaded", "wrong"),
    [
        (None, {("IPv6", "firewall in", protocol) for protocol in ("udp", "tcp", "icmp")}),
        (
            replace(
                STATEFUL, outbound=Direction(rules=(Rule(Verdict.DROP, "tcp", ((443, 443),)),))
            ),
            {("IPv6", "firewall out", "tcp")},
        ),
        (
            replace(STATEFUL, inbound=Direction(default=Verdict.REJECT)),
            {("IPv6", "firewall in", protocol) for protocol in ("udp", "tcp", "icmp")},
        ),
        (
            Firewall(
                inbound=Direction(
                    rules=(Rule(Verdict.ACCEPT, "udp", ((8443, 8443),)),), default=Verdict.DROP
                )
            ),
            {("IPv6", "firewall in", "udp")},
        ),
    ],
    ids=["gone", "one port not out", "rejects", "one port in"],
)
def test_a_broken_ipv6_firewall_is_noticed(
    six: Running, loaded: Firewall | None, wrong: set[tuple[str, str, str]]
) -> None:
    home = six.plan.node("home")
    try:
        six.load_node(replace(home, firewall6=loaded))
        assert different(verify(six.plan, six.paths, ["home"])) == wrong
    finally:
        six.load_node(home)


def test_rules_that_name_ipv6_are_tried_there(six: Running) -> None:
    office = six.plan.node("office")
    assert office.firewall is not None
    without = replace(office.firewall, outbound=Direction())
    try:
        six.load_node(replace(office, firewall=without))
        found = different(verify(six.plan, six.paths, ["office"]))
        assert ("IPv6", "firewall out", "udp") in found
        assert {("IPv4", "firewall out", "tcp"), ("IPv6", "firewall out", "tcp")} <= found
    finally:
        six.load_node(office)


def test_a_host_that_lets_ipv6_in_is_noticed(six: Running) -> None:
    guarded = six.plan.node("guarded")
    plan = declare(six.plan, guarded)
    try:
        six.load_node(replace(guarded, firewall=None, firewall6=Firewall()))
        found = different(verify(plan, six.paths, ["guarded"]))
        assert {("IPv6", "firewall in", "udp"), ("IPv6", "firewall in", "tcp")} <= found
    finally:
        six.load_node(guarded)


def test_a_peer_sees_that_its_firewall_is_open(six: Running) -> None:
    home = six.plan.node("home")
    try:
        six.load_node(replace(home, firewall6=Firewall()))
        (four, six_) = verify(six.plan, six.paths, ["alice"]).peers
        assert (four.ok, six_.ok) == (True, False)
        assert six_.observed == "open internet"
    finally:
        six.load_node(home)


@pytest.mark.parametrize("broken", ["gone", "another prefix"])
def test_a_broken_prefix_translation_is_noticed(six: Running, broken: str) -> None:
    site = six.plan.node("site")
    assert site.nptv6 is not None
    ((inside, outside),) = site.nptv6.subnets
    other = outside.replace("::/64", "").rpartition(":")[0] + ":bad::/64"
    loaded = None if broken == "gone" else Nptv6(subnets=((inside, other),))
    try:
        six.load_node(replace(site, nptv6=loaded))
        report = verify(six.plan, six.paths, ["site"])
        assert ("IPv6", "prefix", "") in different(report)
        (prefix,) = (one for one in report.findings if one.dimension == "prefix")
        assert prefix.observed == ("not translated" if broken == "gone" else f"as {other}")
    finally:
        six.load_node(site)


def test_a_prefix_translation_that_turns_nothing_around_is_noticed(six: Running) -> None:
    try:
        with netns.inside(six.paths.netns("site")):
            subprocess.run(["nft", "flush", "chain", "ip6", "nptv6", "hairpin"], check=True)
        report = verify(six.plan, six.paths, ["site"])
        assert different(report) == {("IPv6", "hairpin", "")}
        assert [one.observed for one in report.findings if not one.ok] == ["off"]
    finally:
        six.load_node(six.plan.node("site"))


def test_another_nat_behind_a_nat64_is_noticed(six: Running) -> None:
    mobile = six.plan.node("mobile")
    assert mobile.nat is not None
    dependent = replace(
        mobile.nat,
        mapping=Dependence.ADDRESS_AND_PORT_DEPENDENT,
        ports=Ports(policy=PortPolicy.RANDOM),
    )
    try:
        six.load_node(replace(mobile, nat=dependent))
        report = verify(six.plan, six.paths, ["mobile", "phone"])
        found = different(report)
        assert {("NAT64", "mapping", "udp"), ("NAT64", "mapping", "tcp")} <= found
        assert {family for family, _, _ in found} == {"NAT64"}
        wrong = {one.family for one in report.peers if not one.ok}
        assert wrong == {"NAT64"}
    finally:
        six.load_node(mobile)
