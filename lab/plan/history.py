"""What a running plan has settled already, so that an apply changes no more than it must.

Names of nodes and interfaces mean here what `lab.plan.compile` makes of them.
A plan that is only partly there (an apply that failed) settles less.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lab.plan.ipv4 import Prefix, address_number
from lab.plan.model import Interface, Node, NodeKind, Plan
from lab.plan.names import DEFAULT_ROUTE, LAN, UPLINKS, segment_owner


@dataclass(frozen=True, slots=True)
class Settled:
    """An interface of the running plan: its addresses, in order, and their subnet."""

    upstream: str
    """What its subnet belongs to: the internet, or the router whose LAN it is."""
    addresses: tuple[int, ...]
    prefix: Prefix
    gateway: int


@dataclass(frozen=True, slots=True)
class History:
    """The decisions of the running plan that bind the next one."""

    uplinks: dict[str, Settled] = field(default_factory=dict)
    """By attached node."""
    lans: dict[str, Settled] = field(default_factory=dict)
    """By router; the gateway is the router's own address."""
    members: dict[str, set[int]] = field(default_factory=dict)
    """All addresses attached to the internet or to a router's LAN."""
    segments: frozenset[str] = frozenset()
    """Routers whose LAN is a shared segment."""
    subscribers: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan | None) -> History:
        """What `plan` has settled; nothing if there is no plan."""
        if plan is None:
            return cls()
        upstream = {
            link.a.node: segment_owner(link.b.node) or link.b.node
            for link in plan.links
            if link.a.interface in UPLINKS
        }
        history = cls(
            segments=frozenset(
                segment_owner(node.name) for node in plan.nodes if node.kind is NodeKind.SEGMENT
            ),
            subscribers={node.name: node.subscribers for node in plan.nodes if node.subscribers},
        )
        for node in plan.nodes:
            for interface in node.interfaces:
                if interface.name in UPLINKS and node.name in upstream:
                    settled = _settled(upstream[node.name], interface, _gateway(node))
                    if settled:
                        history.uplinks[node.name] = settled
                        history.members.setdefault(settled.upstream, set()).update(
                            settled.addresses
                        )
                elif interface.name == LAN and node.kind is NodeKind.ROUTER:
                    settled = _settled(node.name, interface, _own(interface))
                    if settled:
                        history.lans[node.name] = settled
        return history


def _gateway(node: Node) -> str:
    defaults = (route for route in node.routes if route.destination == DEFAULT_ROUTE)
    return next((route.gateway for route in defaults), "")


def _own(interface: Interface) -> str:
    return interface.addresses[0].split("/")[0] if interface.addresses else ""


def _settled(upstream: str, interface: Interface, gateway: str) -> Settled | None:
    """None for what is only partly there."""
    if not interface.addresses or not gateway:
        return None
    split = [address.split("/") for address in interface.addresses]
    numbers = tuple(address_number(address) for address, _ in split)
    prefix = Prefix.around(numbers[0], int(split[0][1]))
    return Settled(upstream, numbers, prefix, address_number(gateway))
