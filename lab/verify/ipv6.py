"""What a router does with IPv6, beside what it does with IPv4: filter, renumber, translate."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from msgspec.structs import replace

from lab.paths import LabPaths
from lab.peer.endpoint import Endpoint
from lab.plan.model import Node, Nptv6, Plan
from lab.topology.behaviour import Hairpin, Verdict
from lab.verify import expect, firewall, nat
from lab.verify.probe import INSIDE, Probe
from lab.verify.report import IPV6, NAT64, Dimension, Finding
from lab.verify.site import addresses_of
from lab.verify.site6 import of_nat64, of_router6, wall_of
from lab.verify.trial import Trial


def has_ipv4(node: Node) -> bool:
    """Whether the LAN of a router has IPv4."""
    return bool(addresses_of(node, node.lan, 4))


def translates_or_filters(node: Node) -> bool:
    """Whether a router does anything with IPv6 that can be measured."""
    inside = bool(addresses_of(node, node.lan, 6))
    return inside and any((wall_of(node), node.nptv6, node.nat64))


def findings(plan: Plan, paths: LabPaths, node: Node) -> Iterator[Finding]:
    """The firewall, prefix translation and NAT64 of a router; UnreachableError without a place."""
    if not translates_or_filters(node):
        return
    wall = wall_of(node)
    if wall or node.nptv6:
        with Probe(of_router6(plan, node), paths) as probe:
            if node.nptv6:
                yield _named(IPV6, _renumbering(probe, node.nptv6))
                yield _named(IPV6, _turning(probe))
            if wall:
                for found in firewall.findings(probe, wall):
                    yield _named(IPV6, found)
    if node.nat64 and node.nat:
        with Probe(of_nat64(plan, node), paths) as probe:
            for protocol in ("udp", "tcp"):
                for found in nat.findings(Trial(probe, node.nat, protocol)):
                    yield _named(NAT64, found)


def _named(family: str, finding: Finding) -> Finding:
    return replace(finding, family=family)


def _renumbering(probe: Probe, nptv6: Nptv6) -> Finding:
    """Packets of two hosts, from one port each: the other prefix, the same rest, and back."""
    site = probe.site
    declared = ", ".join(f"{inner} as {outer}" for inner, outer in nptv6.subnets)
    outbound = expect.outbound_of(site.node)
    to = next(
        (
            Endpoint(site.remotes[0], port)
            for port in expect.telling_ports(outbound, "udp", (3478, 443))
            if expect.verdict(outbound, "udp", port, site.remotes[0]) is Verdict.ACCEPT
        ),
        None,
    )
    if to is None:
        return _renumbered(site.node.name, declared, "blocked", "the firewall lets no UDP out")
    inside = [Endpoint(host, probe.port()) for host in site.hosts]
    seen = probe.external("udp", [probe.out("udp", source, to) for source in inside])
    expected = dict(site.seen_as)
    wrong = [
        f"{here} as {there or 'nothing'}"
        for here, there in zip(inside, seen, strict=True)
        if there != Endpoint(expected.get(here.address, ""), here.port)
    ]
    answers = [probe.back("udp", to, there) for there in seen if there]
    came = [outcome.on(INSIDE) for outcome in probe.exchange(answers, range(len(answers)))]
    if not wrong and [packet.destination for packet in came if packet] != inside:
        wrong = ["answers do not come back"]
    if not wrong:
        return _renumbered(site.node.name, declared, declared)
    prefixes = {str(ip_network(f"{there.address}/64", strict=False)) for there in seen if there}
    kept = {there.address for there in seen if there} <= set(site.hosts)
    observed = "not translated" if kept and prefixes else f"as {', '.join(sorted(prefixes))}"
    return _renumbered(site.node.name, declared, observed, "; ".join(wrong))


def _turning(probe: Probe) -> Finding:
    """A packet to a neighbour's outside address: there, as if from outside (RFC 6296, 4.3)."""
    one, other = probe.site.hosts
    seen_as = dict(probe.site.seen_as)
    source, target = Endpoint(one, probe.port()), Endpoint(other, probe.port())
    sent = probe.out("udp", source, Endpoint(seen_as[other], target.port))
    came = probe.exchange([sent], [0])[0].on(INSIDE)
    declared = str(Hairpin.EXTERNAL_SOURCE)
    if came is None or came.destination != target:
        observed = str(Hairpin.OFF)
    elif came.source == Endpoint(seen_as[one], source.port):
        observed = declared
    else:
        observed = str(Hairpin.INTERNAL_SOURCE if came.source == source else came.source)
    return Finding(
        node=probe.site.node.name,
        dimension=Dimension.HAIRPIN,
        protocol="",
        declared=declared,
        observed=observed,
        ok=declared == observed,
    )


def _renumbered(node: str, declared: str, observed: str, detail: str = "") -> Finding:
    return Finding(
        node=node,
        dimension=Dimension.PREFIX,
        protocol="",
        declared=declared,
        observed=observed,
        ok=declared == observed,
        detail=detail,
    )
