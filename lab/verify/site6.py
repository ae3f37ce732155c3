"""Where to stand to measure what a router does with IPv6, and with IPv4 through a NAT64."""

from __future__ import annotations

import dataclasses
import math
from ipaddress import IPv6Network, ip_network

from msgspec.structs import replace

from lab.peer.families import Embedding
from lab.plan.ipv6 import Prefix6
from lab.plan.model import Node, Plan
from lab.topology.behaviour import Firewall
from lab.verify.expect import outbound_of
from lab.verify.site import Site, UnreachableError, addresses_of, directions, place_beside

OUTSIDE6 = ("2001:db8:1::11", "2001:db8:1::12", "2001:db8:2::13")
"""Outside addresses that probes play: documentation space (RFC 3849), which no lab routes."""
_GLOBAL = ("8.8.8.11", "8.8.8.12", "9.9.9.13")
"""Outside IPv4 addresses to play: translators refuse documentation space, which is not global
(RFC 6052, section 3.1).  No lab has these either, whose addresses begin with 45."""
_FIRST_PLAYED = 0x76_0000_0000_0001
"""The interface part of the first inside address that probes play; plans count from 1."""
_THROUGH_NAT64 = 4
"""Hops through a router whose NAT64 is a program: to it, in it, and out again."""


def wall_of(node: Node) -> Firewall | None:
    """What filters IPv6 at `node`."""
    return node.firewall or node.firewall6


def of_router6(plan: Plan, node: Node) -> Site:
    """A router as IPv6 sees it: without a NAT, with what filters IPv6 as its firewall."""
    outer, inner = addresses_of(node, node.wan, 6), addresses_of(node, node.lan, 6)
    if not outer or not inner:
        raise UnreachableError("it has no IPv6 address on either side")
    seen = replace(node, nat=None, firewall=wall_of(node), firewall6=None, port_mapping=None)
    hosts = _played(inner[0])
    return _between(
        plan, seen, outer=outer[0], inner=inner[0], hosts=hosts, seen_as=_renumbered(node, hosts)
    )


def of_nat64(plan: Plan, node: Node) -> Site:
    """A router with NAT64: its hosts have IPv6, and what they send comes out as IPv4."""
    outer, gateway = addresses_of(node, node.wan, 4), addresses_of(node, node.lan, 6)
    nat64 = node.nat64
    if nat64 is None or not outer or not gateway:
        raise UnreachableError("it has no IPv4 address outside, or no IPv6 address inside")
    hosts = tuple(host for host, _ in nat64.hosts)
    if not hosts:
        raise UnreachableError("nobody is behind its NAT64")
    seen = replace(node, subscribers=hosts)
    site = _between(plan, seen, outer=outer[0], inner=outer[0], hosts=hosts[:2])
    return dataclasses.replace(
        site,
        ipv4=Embedding(nat64.prefix),
        pool=outer[: node.nat.pool if node.nat else None],
        gateway=gateway[0],
        hops=_THROUGH_NAT64,
        remotes=_GLOBAL,
    )


def of_host6(plan: Plan, node: Node) -> Site:
    """A host with a firewall of its own, by its IPv6 address."""
    for port in node.interfaces:
        own = addresses_of(node, port.name, 6)
        if own:
            break
    else:
        raise UnreachableError("it has no IPv6 address")
    outer, link = place_beside(plan, node.name, port.name)
    return Site(
        node=node,
        outside=outer,
        inside=None,
        outer=own[0],
        pool=(),
        inner="",
        hosts=own[:1],
        quiet=False,
        spares=(),
        round_trip_s=sum(way.delay_us for way in directions(link)) / 1e6,
        loss=1 - math.prod(1 - way.loss for way in directions(link)),
        remotes=_remotes6(node),
    )


def _between(
    plan: Plan,
    node: Node,
    *,
    outer: str,
    inner: str,
    hosts: tuple[str, ...],
    seen_as: tuple[tuple[str, str], ...] = (),
) -> Site:
    outside, outer_link = place_beside(plan, node.name, node.wan)
    inside, inner_link = place_beside(plan, node.name, node.lan)
    both = (*directions(outer_link), *directions(inner_link))
    taken = {a for other in plan.nodes for i in other.interfaces for a in i.addresses}
    return Site(
        node=node,
        outside=outside,
        inside=inside,
        outer=outer,
        pool=(outer,),
        inner=inner,
        hosts=hosts,
        quiet=not any(address.partition("/")[0] in hosts for address in taken),
        spares=(),
        round_trip_s=sum(way.delay_us for way in both) / 1e6,
        loss=1 - math.prod(1 - way.loss for way in both),
        remotes=_remotes6(node),
        seen_as=seen_as,
    )


def _played(gateway: str) -> tuple[str, str]:
    """Two addresses in the LAN of `gateway` that nobody has."""
    lan = Prefix6.around(Prefix6.number(gateway), 64).first
    return Prefix6.text(lan + _FIRST_PLAYED), Prefix6.text(lan + _FIRST_PLAYED + 1)


def _renumbered(node: Node, hosts: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """The outside addresses of `hosts` behind NPTv6."""
    found = []
    for inner, outer in node.nptv6.subnets if node.nptv6 else ():
        here, there = Prefix6.parse(inner), Prefix6.parse(outer)
        for host in hosts:
            number = Prefix6.number(host)
            if here.first <= number <= here.last:
                found.append((host, Prefix6.text(there.first + number - here.first)))
    return tuple(found)


def _remotes6(node: Node) -> tuple[str, ...]:
    named = []
    if node.firewall is not None:
        for direction in (outbound_of(node), node.firewall.inbound):
            for rule in direction.rules:
                network = ip_network(rule.remote, strict=False) if rule.remote else None
                if isinstance(network, IPv6Network) and network.prefixlen:
                    named.append(str(network[min(1, network.num_addresses - 1)]))
    return tuple(dict.fromkeys((*OUTSIDE6, *named)))
