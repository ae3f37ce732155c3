"""Where to stand to measure a router, and what its wires are like: from the plan alone."""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass

from lab.peer.families import Embedding
from lab.plan.model import End, Interface, Link, Node, NodeKind, Plan
from lab.topology.behaviour import PortPolicy
from lab.topology.character import Impairment
from lab.verify.expect import far_side, outbound_of

OUTSIDE = ("198.51.100.11", "198.51.100.12", "203.0.113.13")
"""Outside addresses that probes play: documentation space (RFC 5737), which no lab routes."""
_FREE = 34
"""Free inside addresses to look for."""


@dataclass(frozen=True, slots=True)
class Place:
    """An interface beside the router, and the MAC address of the router's end."""

    node: str
    interface: str
    peer_mac: str


@dataclass(frozen=True, slots=True)
class Site:
    """A node to measure, seen from both ends of its wires.  `inside` is None for a host."""

    node: Node
    outside: Place
    inside: Place | None
    outer: str
    """The node's address on the outside."""
    pool: tuple[str, ...]
    """The addresses that its NAT may use."""
    inner: str
    """The router's address on its LAN."""
    hosts: tuple[str, ...]
    """Two inside addresses to play; one if the LAN has no more."""
    quiet: bool
    """Whether nobody has these addresses, so that nobody answers what comes to them."""
    round_trip_s: float
    """Over both wires, without queues."""
    loss: float
    """Of a packet that passes the router: over both wires."""
    spares: tuple[str, ...]
    """More inside addresses that nobody has: for a test that spoils the one that it plays."""
    remotes: tuple[str, ...]
    """Outside addresses to play: three of no consequence, and those that rules speak of."""
    seen_as: tuple[tuple[str, str], ...] = ()
    """Inside addresses, each with what it is outside, where a prefix is translated."""
    ipv4: Embedding | None = None
    """How the inside writes the IPv4 addresses of the outside, before a NAT64."""
    gateway: str = ""
    """The router's address on its LAN where `inner` is another one."""
    hops: int = 2
    """That a packet from inside may make: through the router, and no further."""

    def outside_of(self, host: str) -> str:
        """The address of an inside host as the outside knows it."""
        return dict(self.seen_as).get(host, host)

    @property
    def rounds(self) -> int:
        """How often to send a packet so that it practically never gets lost."""
        return 2 if self.loss == 0 else min(2 + math.ceil(-9 / math.log10(self.loss)), 60)

    @property
    def hurry_s(self) -> float:
        """How long a packet that must come takes where nothing is amiss."""
        return 0.25 + 2 * self.round_trip_s

    @property
    def patience_s(self) -> float:
        """How long a packet that must come is waited for: also on a busy machine."""
        return 1.0 + 4 * self.round_trip_s


class UnreachableError(Exception):
    """There is no place to measure from; the text says why."""


def of_router(plan: Plan, node: Node) -> Site:
    """The site of a router; UnreachableError if it has no wire inside or outside."""
    outer, outer_link = place_beside(plan, node.name, node.wan)
    inner, inner_link = place_beside(plan, node.name, node.lan)
    free = _free(plan, node)
    hosts = free[:2] or node.subscribers[:2]
    ways = [*directions(outer_link), *directions(inner_link)]
    return Site(
        node=node,
        outside=outer,
        inside=inner,
        outer=address_of(node, node.wan),
        pool=addresses_of(node, node.wan, 4)[: node.nat.pool if node.nat else None],
        inner=address_of(node, node.lan),
        hosts=hosts,
        quiet=bool(free),
        spares=free[2:],
        round_trip_s=sum(way.delay_us for way in ways) / 1e6,
        loss=1 - math.prod(1 - way.loss for way in ways),
        remotes=_remotes(plan, node),
    )


def of_host(plan: Plan, node: Node) -> Site:
    """The site of a host with a firewall of its own; UnreachableError without a wire."""
    port = next((port for port in node.interfaces if _ipv4(port)), None)
    if port is None:
        raise UnreachableError("it has no IPv4 address")
    outer, link = place_beside(plan, node.name, port.name)
    ways = directions(link)
    return Site(
        node=node,
        outside=outer,
        inside=None,
        outer=_ipv4(port),
        pool=(),
        inner="",
        hosts=(_ipv4(port),),
        quiet=False,
        spares=(),
        round_trip_s=sum(way.delay_us for way in ways) / 1e6,
        loss=1 - math.prod(1 - way.loss for way in ways),
        remotes=_remotes(plan, node),
    )


def address_of(node: Node, interface: str) -> str:
    """The first IPv4 address of an interface; empty if it has none."""
    return next((_ipv4(port) for port in node.interfaces if port.name == interface), "")


def addresses_of(node: Node, interface: str, family: int) -> tuple[str, ...]:
    """The addresses of an interface, of IPv4 or of IPv6."""
    texts = (text for port in node.interfaces if port.name == interface for text in port.addresses)
    return tuple(text.partition("/")[0] for text in texts if (":" in text) == (family == 6))


def _ipv4(port: Interface) -> str:
    texts = (text.partition("/")[0] for text in port.addresses)
    return next((text for text in texts if ":" not in text), "")


def place_beside(plan: Plan, node: str, interface: str) -> tuple[Place, Link]:
    """The other end of what is attached to an interface; UnreachableError if nothing is."""
    for link in plan.links:
        for here, there in ((link.a, link.b), (link.b, link.a)):
            if (here.node, here.interface) == (node, interface):
                if link.down:
                    raise UnreachableError("its link is down")
                return Place(there.node, there.interface, here.mac), link
    raise UnreachableError(f"nothing is attached to {interface or 'it'}")


def directions(link: Link) -> tuple[Impairment, Impairment]:
    """What a link does, one way and the other."""
    return (link.a_to_b, link.b_to_a)


def _free(plan: Plan, node: Node) -> tuple[str, ...]:
    """Inside addresses that nobody has: two at least, or none, where subscribers have to do."""
    nat = node.nat
    if nat is not None and nat.ports.policy is PortPolicy.BLOCK and not _rest(node):
        return ()
    taken = {
        text.partition("/")[0]
        for other in plan.nodes
        for port in other.interfaces
        for text in port.addresses
    }
    (lan,) = (port for port in node.interfaces if port.name == node.lan)
    network = next(
        (ipaddress.IPv4Interface(text).network for text in lan.addresses if ":" not in text),
        None,
    )
    if network is None:
        raise UnreachableError("it has no IPv4 address inside")
    # From the far end: new members of a LAN get the first free address.
    last = int(network.broadcast_address)
    free = []
    for number in range(last - 1, max(int(network.network_address), last - 4096), -1):
        text = str(ipaddress.IPv4Address(number))
        if text not in taken:
            free.append(text)
        if len(free) == _FREE:
            break
    if len(free) > 1:
        return tuple(free)
    if not node.subscribers:
        raise UnreachableError("its LAN has no free address to measure from")
    return ()


def _near(plan: Plan) -> list[ipaddress.IPv4Network]:
    """The networks that any node is attached to."""
    texts = (text for node in plan.nodes for port in node.interfaces for text in port.addresses)
    return list({ipaddress.IPv4Interface(text).network for text in texts if ":" not in text})


def _rest(node: Node) -> bool:
    """Whether blocks leave ports for addresses that are no subscribers'."""
    assert node.nat is not None  # noqa: S101 - for the type checker: the caller looked
    ports = node.nat.ports
    available = ports.last - ports.first + 1
    count = max(len(node.subscribers), 1)
    return not node.subscribers or (ports.block or available // count) * count < available


def _remotes(plan: Plan, node: Node) -> tuple[str, ...]:
    named: list[str] = []
    near = _near(plan)
    if node.firewall is not None:
        for direction in (outbound_of(node), node.firewall.inbound):
            for rule in direction.rules:
                named += far_side(rule, near)
    return tuple(dict.fromkeys((*OUTSIDE, *named)))


def way_out(plan: Plan, host: str) -> tuple[Node, ...]:
    """The routers between a node and the internet, from inside out."""
    beside: dict[tuple[str, str], End] = {}
    for link in plan.links:
        beside[link.a.node, link.a.interface] = link.b
        beside[link.b.node, link.b.interface] = link.a
    above = {
        beside[node.name, node.lan].node: node
        for node in plan.nodes
        if node.lan and (node.name, node.lan) in beside
    }
    """The router whose LAN a segment is, or that a node is directly attached to."""
    by_name = {node.name: node for node in plan.nodes}
    found: list[Node] = []
    here = by_name[host]
    while True:
        uplinks = [here.wan] if here.wan else [port.name for port in here.interfaces]
        nexts = [beside[here.name, name] for name in uplinks if (here.name, name) in beside]
        if not nexts:
            return tuple(found)
        there = by_name[nexts[0].node]
        if there.kind is NodeKind.SEGMENT:
            router = above.get(there.name)
        elif there.kind is NodeKind.ROUTER:
            router = there
        else:
            return tuple(found)
        if router is None or router in found:
            return tuple(found)
        found.append(router)
        here = router


def delay_out_s(plan: Plan, hosts: tuple[str, ...]) -> float:
    """A round trip over all links of the routers and hosts named, without queues."""
    return (
        sum(
            link.a_to_b.delay_us + link.b_to_a.delay_us
            for link in plan.links
            if {link.a.node, link.b.node} & set(hosts)
        )
        / 1e6
    )
