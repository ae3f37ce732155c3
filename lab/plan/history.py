"""What a running plan has settled already, so that an apply changes no more than it must.

Names of nodes and interfaces mean here what `lab.plan.compile` makes of them.
A plan that is only partly there (an apply that failed) settles less.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from lab.plan.ipv4 import Prefix
from lab.plan.ipv6 import Prefix6
from lab.plan.model import Interface, Node, NodeKind, Plan
from lab.plan.names import DEFAULT_ROUTE, DEFAULT_ROUTE6, LAN, UPLINKS, segment_owner, upstream_name

P = TypeVar("P", bound=Prefix)


@dataclass(frozen=True, slots=True)
class Settled(Generic[P]):
    """An interface of the running plan: its addresses, in order, and their subnet."""

    upstream: str
    """What its subnet belongs to: the internet, or the router whose LAN it is."""
    addresses: tuple[int, ...]
    prefix: P
    gateway: int


@dataclass(frozen=True, slots=True)
class History:
    """The decisions of the running plan that bind the next one."""

    uplinks: dict[str, Settled[Prefix]] = field(default_factory=dict)
    """By attached node."""
    lans: dict[str, Settled[Prefix]] = field(default_factory=dict)
    """By router; the gateway is the router's own address."""
    members: dict[str, set[int]] = field(default_factory=dict)
    """All addresses attached to the internet or to a router's LAN."""
    uplinks6: dict[str, Settled[Prefix6]] = field(default_factory=dict)
    """By attached node."""
    delegated6: dict[str, Prefix6] = field(default_factory=dict)
    """By router."""
    nat64: dict[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    """By router, the hosts behind its NAT64 and their IPv4 addresses."""
    members6: dict[str, set[int]] = field(default_factory=dict)
    segments: frozenset[str] = frozenset()
    """Routers whose LAN is a shared segment."""
    subscribers: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan | None) -> History:
        """What `plan` has settled; nothing if there is no plan."""
        if plan is None:
            return cls()
        upstream = {
            link.a.node: upstream_name(link.b.node)
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
                    above = upstream[node.name]
                    if settled := _settled(Prefix, above, interface, _gateway(node)):
                        history.uplinks[node.name] = settled
                        history.members.setdefault(above, set()).update(settled.addresses)
                    if settled6 := _settled(Prefix6, above, interface, _gateway(node, six=True)):
                        history.uplinks6[node.name] = settled6
                        history.members6.setdefault(above, set()).update(settled6.addresses)
                elif interface.name == LAN and node.kind is NodeKind.ROUTER:
                    own = next(_addresses(interface, six=False), "").partition("/")[0]
                    if settled := _settled(Prefix, node.name, interface, own):
                        history.lans[node.name] = settled
            if node.nat64:
                history.nat64[node.name] = node.nat64.hosts
            if node.delegated:
                history.delegated6[node.name] = Prefix6.parse(node.delegated)
        return history


def _gateway(node: Node, *, six: bool = False) -> str:
    default = DEFAULT_ROUTE6 if six else DEFAULT_ROUTE
    return next((route.gateway for route in node.routes if route.destination == default), "")


def _addresses(interface: Interface, *, six: bool) -> Iterator[str]:
    return (address for address in interface.addresses if (":" in address) is six)


def _settled(kind: type[P], upstream: str, interface: Interface, gateway: str) -> Settled[P] | None:
    """None for what is only partly there."""
    split = [address.split("/") for address in _addresses(interface, six=issubclass(kind, Prefix6))]
    if not split or not gateway:
        return None
    numbers = tuple(kind.number(address) for address, _ in split)
    prefix = kind.around(numbers[0], int(split[0][1]))
    return Settled(upstream, numbers, prefix, kind.number(gateway))
