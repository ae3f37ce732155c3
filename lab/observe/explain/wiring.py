"""Who is on the way between two peers in a plan, and which interfaces share a wire."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from lab.plan.model import Node, NodeKind, Plan

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


def own_addresses(plan: Plan, way: Way) -> tuple[str, ...]:
    """The addresses by which packets of the two peers are known anywhere on the way."""
    names = (way.local, way.remote, *way.above_local, *way.above_remote)
    found = [
        address.partition("/")[0]
        for name in names
        for interface in plan.node(name).interfaces
        for address in interface.addresses
    ]
    return tuple(dict.fromkeys(found))


def wires(plan: Plan) -> dict[Place, tuple[Place, ...]]:
    """For each interface, the others on its wire; a shared segment is one wire."""
    segments = {node.name for node in plan.nodes if node.kind is NodeKind.SEGMENT}
    groups: dict[str, list[Place]] = defaultdict(list)
    for link in plan.links:
        ends = [(link.a.node, link.a.interface), (link.b.node, link.b.interface)]
        shared = next((node for node, _ in ends if node in segments), link.name)
        groups[shared] += [end for end in ends if end[0] not in segments]
    return {
        place: tuple(other for other in group if other != place)
        for group in groups.values()
        for place in group
    }


def _serves(node: Node) -> bool:
    """Whether the node's program starts before those of peers, for them."""
    return (
        node.kind is NodeKind.HOST
        and node.program is not None
        and (node.program.stage == 0 or "relay" in node.program.roles)
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
