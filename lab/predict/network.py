"""Carrying packets through a plan: routes, segments, and every middlebox on the way."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

from lab.plan.ipv4 import Prefix, address_number
from lab.plan.model import Node, NodeKind, Plan
from lab.predict.middlebox import Middlebox, has_behaviour, is_router
from lab.predict.packet import Arrived, Endpoint, Lost, Packet, Step, Why

_LONGEST_WAY = 64
"""Hops, as the kernel's initial TTL has it."""

Port = tuple[str, str]
"""A node and an interface of it."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line of a routing table."""

    prefix: Prefix
    gateway: str
    interface: str


class Map:
    """What does not change while packets travel: who is where, and what leads whereto."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
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
        return {
            (self._wires[node.name, interface.name], text.partition("/")[0]): (
                node.name,
                interface.name,
            )
            for node in self.plan.nodes
            for interface in node.interfaces
            for text in interface.addresses
            if (node.name, interface.name) in self._wires
        }

    def addresses(self, node: str) -> tuple[str, ...]:
        """The IPv4 addresses of a node, in the order of its interfaces."""
        return tuple(
            text.partition("/")[0]
            for interface in self.nodes[node].interfaces
            for text in interface.addresses
            if ":" not in text
        )

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
        number = address_number(address)
        return next(
            (e for e in self._table(node) if e.prefix.first <= number <= e.prefix.last), None
        )

    def _table(self, name: str) -> tuple[_Entry, ...]:
        """The routing table of a node, longest prefix first."""
        if name not in self._tables:
            node = self.nodes[name]
            entries = [
                _Entry(Prefix.around(address_number(address), int(length)), "", interface.name)
                for interface in node.interfaces
                for address, _, length in (text.partition("/") for text in interface.addresses)
                if ":" not in address
            ]
            entries += [
                _Entry(Prefix.parse(route.destination), route.gateway, route.interface)
                for route in node.routes
                if ":" not in route.destination
            ]
            entries.sort(key=lambda entry: -entry.prefix.length)
            self._tables[name] = tuple(entries)
        return self._tables[name]


@dataclass(slots=True)
class Network:
    """A plan's network in which packets travel and leave traces in middleboxes."""

    map: Map
    boxes: dict[str, Middlebox] = field(default_factory=dict)
    _fresh: Iterator[int] = field(default_factory=lambda: itertools.count(50001))

    def send(self, sender: str, protocol: str, port: int, to: Endpoint) -> Arrived | Lost:
        """Send from a port of a host; where it arrives, or what stops it."""
        source = Endpoint(self._own_address(sender, to), port)
        packet = Packet(protocol, source, to)
        box = self._box(sender)
        if box and (lost := box.leave(packet)):
            return lost
        if to.address in self.map.addresses(sender):
            return Lost(Why.STRANGER, sender, packet)
        return self._travel(sender, packet)

    @property
    def size(self) -> int:
        """How much middleboxes have learned; it never shrinks."""
        return sum(
            len(box.flows) + sum(map(len, box.asked.values())) for box in self.boxes.values()
        )

    @property
    def by_chance(self) -> bool:
        """Whether some NAT on the way draws lots for addresses."""
        return any(box.by_chance for box in self.boxes.values())

    def external(self, router: str) -> str:
        """The address that the NAT of `router` maps to, the first of several; empty if none."""
        box = self._box(router)
        return box.externals[0] if box and box.externals else ""

    def open_port(self, router: str, protocol: str, inside: Endpoint) -> Endpoint:
        """Have the NAT of `router` lead a port of its outside to `inside`, as if asked to."""
        box = self._box(router)
        assert box  # noqa: S101 - a NAT is a middlebox
        return box.open_port(protocol, inside)

    def _own_address(self, sender: str, to: Endpoint) -> str:
        leaves = self.map.interface_to(sender, to.address)
        node = self.map.nodes[sender]
        for interface in node.interfaces:
            if interface.name == leaves and interface.addresses:
                return interface.addresses[0].partition("/")[0]
        return next(iter(self.map.addresses(sender)), "0.0.0.0")

    def _travel(self, at: str, packet: Packet) -> Arrived | Lost:
        turned_by = ""
        trail: tuple[Step, ...] = ()
        entered: tuple[str, ...] = ()
        for _ in range(_LONGEST_WAY):
            hop = self.map.next_hop(at, packet.destination.address)
            if hop is None:
                return Lost(Why.NO_ROUTE, at, packet, trail)
            at, interface = hop
            box = self._box(at)
            if not is_router(self.map.nodes[at]):
                return self._delivered(box, Arrived(at, packet, trail, entered, turned_by))
            if box is None:
                if packet.destination.address in self.map.addresses(at):
                    return Lost(Why.STRANGER, at, packet, trail)
                continue
            passed = box.forward(packet, interface, partial(self._route, at))
            if isinstance(passed, Lost):
                return replace(passed, trail=trail)
            if passed.packet.source != packet.source:
                trail = (*trail, Step(at, passed.packet.source))
            if passed.packet.destination != packet.destination:
                entered = (*entered, at)
            packet = passed.packet
            turned_by = at if passed.turned else turned_by
        return Lost(Why.NO_ROUTE, at, packet, trail)

    def _delivered(self, box: Middlebox | None, arrived: Arrived) -> Arrived | Lost:
        lost = box.enter(arrived.packet) if box else None
        return replace(lost, trail=arrived.trail) if lost else arrived

    def _route(self, node: str, address: str) -> str:
        """The interface towards `address`; empty if it is the node's own."""
        if address in self.map.addresses(node):
            return ""
        return self.map.interface_to(node, address)

    def _box(self, name: str) -> Middlebox | None:
        if name not in self.boxes:
            node = self.map.nodes[name]
            if not has_behaviour(node):
                return None
            self.boxes[name] = Middlebox(node, self._fresh)
        return self.boxes[name]
