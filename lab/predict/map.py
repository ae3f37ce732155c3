"""What does not change while packets travel: who is where, and what leads whereto.

A host behind a NAT64 counts as one that has the IPv4 address by which the
router's NAT knows it: what lies between, translation without state (RFC 7915),
changes the form of packets and not their way.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec

from lab.plan.ipv4 import Prefix
from lab.plan.ipv6 import Prefix6
from lab.plan.linklocal import claims_address
from lab.plan.model import Node, NodeKind, Plan

Port = tuple[str, str]
"""A node and an interface of it."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line of a routing table."""

    prefix: Prefix
    gateway: str
    interface: str

    @property
    def family(self) -> int:
        """4 or 6."""
        return 6 if isinstance(self.prefix, Prefix6) else 4

    def leads_to(self, address: str) -> bool:
        """Whether `address` is behind it."""
        if (":" in address) != (self.family == 6):
            return False
        return self.prefix.first <= self.prefix.number(address) <= self.prefix.last


class Map:
    """What does not change while packets travel: who is where, and what leads whereto."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan = _with_addresses(plan)
        self.nodes: dict[str, Node] = {node.name: node for node in plan.nodes}
        self._tables: dict[str, tuple[_Entry, ...]] = {}

    @cached_property
    def _wires(self) -> dict[Port, str]:
        """The Ethernet that an interface is on, by name."""
        wires = {}
        for link in self.plan.links:
            ends = link.a, link.b
            shared = [e.node for e in ends if self.nodes[e.node].kind is NodeKind.SEGMENT]
            for end in ends:
                wires[end.node, end.interface] = shared[0] if shared else link.name
        return wires

    @cached_property
    def _holders(self) -> dict[tuple[str, str], Port]:
        """Who has an address on an Ethernet."""
        own = {
            (self._wires[node.name, interface.name], text.partition("/")[0]): (
                node.name,
                interface.name,
            )
            for node in self.plan.nodes
            for interface in node.interfaces
            for text in interface.addresses
            if (node.name, interface.name) in self._wires
        }
        for (wire, address), port in tuple(own.items()):
            if lent := self._lent.get(address):
                own[wire, lent] = port
        return own

    @cached_property
    def _lent(self) -> dict[str, str]:
        """The IPv4 addresses that NAT64s know IPv6 hosts by."""
        return {
            address: lent
            for node in self.plan.nodes
            if node.nat64
            for address, lent in node.nat64.hosts
        }

    def own_addresses(self, node: str) -> tuple[str, ...]:
        """The addresses of a node, in the order of its interfaces, IPv4 first."""
        found = [
            text.partition("/")[0]
            for interface in self.nodes[node].interfaces
            for text in interface.addresses
        ]
        return tuple(sorted(found, key=lambda address: ":" in address))

    def addresses(self, node: str) -> tuple[str, ...]:
        """The addresses of a node, and those that a NAT64 knows it by."""
        own = self.own_addresses(node)
        return (*own, *(self._lent[address] for address in own if address in self._lent))

    def source(self, node: str, to: str) -> str:
        """The address from which `node` sends to `to`; "0.0.0.0" or "::" if it has none."""
        leaves = self.interface_to(node, to)
        on_way = [
            text.partition("/")[0]
            for interface in self.nodes[node].interfaces
            if interface.name == leaves
            for text in interface.addresses
        ]
        six = ":" in to
        known = (*on_way, *self.addresses(node))
        return next((a for a in known if (":" in a) == six), "::" if six else "0.0.0.0")

    def uplink_s(self, router: str) -> float:
        """What a packet takes over the line of `router`, one way, on average of both directions."""
        port = router, self.nodes[router].wan
        ways = [
            way.delay_us
            for link in self.plan.links
            if port in ((link.a.node, link.a.interface), (link.b.node, link.b.interface))
            for way in (link.a_to_b, link.b_to_a)
        ]
        return sum(ways) / len(ways) / 1e6 if ways else 0.0

    def interface_to(self, node: str, address: str) -> str:
        """The interface that leads from `node` to `address`; empty if none does."""
        entry = self._lookup(node, address)
        return entry.interface if entry else ""

    def next_hop(self, node: str, address: str) -> Port | None:
        """Who gets a packet to `address` from `node`, and on which interface."""
        entry = self._lookup(node, address)
        if entry is None or (node, entry.interface) not in self._wires:
            return None
        return self._holders.get((self._wires[node, entry.interface], entry.gateway or address))

    def _lookup(self, node: str, address: str) -> _Entry | None:
        return next((e for e in self._table(node) if e.leads_to(address)), None)

    def _table(self, name: str) -> tuple[_Entry, ...]:
        """The routing table of a node, longest prefix first."""
        if name not in self._tables:
            node = self.nodes[name]
            entries = [
                _Entry(_of(address).around(_of(address).number(address), int(length)), "", name)
                for name, address, length in _addressed(node)
            ]
            entries += [
                _Entry(
                    _of(route.destination).parse(route.destination), route.gateway, route.interface
                )
                for route in node.routes
            ]
            entries += self._translated(node, entries)
            entries.sort(key=lambda entry: -entry.prefix.length)
            self._tables[name] = tuple(entries)
        return self._tables[name]

    def _translated(self, node: Node, entries: Sequence[_Entry]) -> list[_Entry]:
        """The ways of IPv4 through a NAT64: to it from its hosts, and from it to them."""
        found = []
        if any(address in self._lent for _, address, _ in _addressed(node)):
            everywhere = Prefix.parse("0.0.0.0/0")
            found += [
                _Entry(everywhere, entry.gateway, entry.interface)
                for entry in entries
                if entry.family == 6 and entry.prefix.length == 0
            ]
        if node.nat64:
            for address, lent in node.nat64.hosts:
                way = next((entry for entry in entries if entry.leads_to(address)), None)
                if way:
                    found.append(_Entry(Prefix(Prefix.number(lent), 32), "", way.interface))
        return found


def _with_addresses(plan: Plan) -> Plan:
    """`plan` with any address for each host that claims one: which it will be is not declared."""
    last = itertools.count(1)

    def with_address(node: Node) -> Node:
        if not claims_address(node):
            return node
        faces = (
            msgspec.structs.replace(face, addresses=(_claimable(next(last)),))
            for face in node.interfaces
        )
        return msgspec.structs.replace(node, interfaces=tuple(faces))

    if not any(map(claims_address, plan.nodes)):
        return plan
    return msgspec.structs.replace(plan, nodes=tuple(map(with_address, plan.nodes)))


def _claimable(number: int) -> str:
    """The address of that number among those that can be claimed (RFC 3927, section 2.1)."""
    return f"169.254.{1 + number // 256 % 254}.{number % 256}/16"


def _of(text: str) -> type[Prefix]:
    return Prefix6 if ":" in text else Prefix


def _addressed(node: Node) -> Iterator[tuple[str, str, str]]:
    """Interface, address and prefix length of each address of a node."""
    for interface in node.interfaces:
        for text in interface.addresses:
            address, _, length = text.partition("/")
            yield interface.name, address, length
