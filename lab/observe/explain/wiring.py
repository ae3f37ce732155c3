"""Who is on the way between two peers in a plan, and which interfaces share a wire."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network, ip_address

from lab.plan.model import Node, NodeKind, Plan
from lab.plan.names import NAT64

Place = tuple[str, str]
"""A node and an interface of it."""


@dataclass(frozen=True, slots=True)
class Way:
    """What lies between two peers, each with the routers above it, nearest first."""

    local: str
    remote: str
    above_local: tuple[str, ...]
    above_remote: tuple[str, ...]
    cores: tuple[str, ...]
    servers: tuple[str, ...]
    """Hosts that serve others: STUN, rendezvous, relays."""

    @property
    def shared(self) -> tuple[str, ...]:
        """Routers above both."""
        return tuple(name for name in self.above_local if name in self.above_remote)

    @property
    def lanes(self) -> tuple[str, ...]:
        """From one peer over everything between to the other."""
        there = tuple(name for name in self.above_local if name not in self.shared)
        back = tuple(name for name in reversed(self.above_remote) if name not in self.shared)
        servers = tuple(name for name in self.servers if name not in (self.local, self.remote))
        return (self.local, *there, *self.shared, *servers, *back, self.remote)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Everything at which a packet of the two can be seen."""
        return (*self.lanes, *self.cores)


def way(plan: Plan, local: str, remote: str) -> Way:
    """The way between two hosts of `plan`."""
    upstream = _upstream(plan)
    kinds = {node.name: node.kind for node in plan.nodes}

    def above(name: str) -> tuple[str, ...]:
        found = []
        while (name := upstream.get(name, "")) and name not in found:
            if kinds[name] is NodeKind.ROUTER:
                found.append(name)
        return tuple(found)

    return Way(
        local=local,
        remote=remote,
        above_local=above(local),
        above_remote=above(remote),
        cores=tuple(node.name for node in plan.nodes if node.kind is NodeKind.INTERNET),
        servers=tuple(node.name for node in plan.nodes if _serves(node)),
    )


def ways(plans: Sequence[Plan], local: str, remote: str) -> Way:
    """All that lies between two hosts in any of `plans`, which were in force one after another."""
    found = [way(plan, local, remote) for plan in plans]

    def of(part: Callable[[Way], tuple[str, ...]]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for one in found for name in part(one)))

    return Way(
        local=local,
        remote=remote,
        above_local=of(lambda one: one.above_local),
        above_remote=of(lambda one: one.above_remote),
        cores=of(lambda one: one.cores),
        servers=of(lambda one: one.servers),
    )


def own_addresses(plan: Plan, way: Way) -> tuple[str, ...]:
    """The addresses by which packets of the two peers are known anywhere on the way."""
    found = (
        *addresses(plan, (way.local, *way.above_local)),
        *addresses(plan, (way.remote, *way.above_remote)),
    )
    return tuple(dict.fromkeys(found))


def addresses(plan: Plan, names: Sequence[str]) -> tuple[str, ...]:
    """The addresses of these nodes, and those by which routers among them make others known.

    Of those that are in `plan`.
    """
    nodes = [node for node in plan.nodes if node.name in names]
    found = [
        address.partition("/")[0]
        for node in nodes
        for interface in node.interfaces
        for address in interface.addresses
    ]
    for node in nodes:
        # What stands for hosts between a NAT64's translator and its NAT.
        found += [stand_in for _, stand_in in node.nat64.hosts] if node.nat64 else []
        for inside, outside in node.nptv6.subnets if node.nptv6 else ():
            found += [_moved(address, outside) for address in found if _is_in(address, inside)]
    return tuple(dict.fromkeys(found))


def _is_in(address: str, subnet: str) -> bool:
    parsed, network = ip_address(address), IPv6Network(subnet)
    return parsed.version == network.version and parsed in network


def _moved(address: str, subnet: str) -> str:
    """The same host in another /64."""
    network = IPv6Network(subnet)
    host = int(ip_address(address)) & int(network.hostmask)
    return str(IPv6Address(int(network.network_address) | host))


def wires(plan: Plan) -> dict[Place, tuple[Place, ...]]:
    """For each interface, the others on its wire; a shared segment is one wire.

    What a router hands to the translator of its NAT64 comes back by the same device.
    """
    segments = {node.name for node in plan.nodes if node.kind is NodeKind.SEGMENT}
    groups: dict[str, list[Place]] = defaultdict(list)
    for link in plan.links:
        ends = [(link.a.node, link.a.interface), (link.b.node, link.b.interface)]
        shared = next((node for node, _ in ends if node in segments), link.name)
        groups[shared] += [end for end in ends if end[0] not in segments]
    found = {
        place: tuple(other for other in group if other != place)
        for group in groups.values()
        for place in group
    }
    translators = [(node.name, NAT64) for node in plan.nodes if node.nat64]
    return found | {place: (place,) for place in translators}


def _serves(node: Node) -> bool:
    """Whether the node's program starts before those of peers, for them."""
    return (
        node.kind is NodeKind.HOST
        and node.program is not None
        and (
            node.program.stage == 0
            or "relay" in node.program.roles
            # A peer that relays for others.
            or any(name == "VOLUNTEER" for name, _ in node.program.env)
        )
    )


def _upstream(plan: Plan) -> dict[str, str]:
    segments = {node.name for node in plan.nodes if node.kind is NodeKind.SEGMENT}
    routers = {node.name: node for node in plan.nodes if node.kind is NodeKind.ROUTER}
    owner = {
        link.b.node: link.a.node
        for link in plan.links
        if link.b.node in segments
        and link.a.node in routers
        and link.a.interface == routers[link.a.node].lan
    }
    return {
        link.a.node: owner.get(link.b.node, link.b.node)
        for link in plan.links
        if owner.get(link.b.node) != link.a.node
    }
