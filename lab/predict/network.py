"""Packets that travel through a plan and leave traces in every middlebox on the way."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from lab.predict.map import Map
from lab.predict.middlebox import Middlebox, has_behaviour, is_router
from lab.predict.packet import Arrived, Endpoint, Lost, Packet, Step, Why

_LONGEST_WAY = 64
"""Hops, as the kernel's initial TTL has it."""


@dataclass(slots=True)
class Network:
    """A plan's network in which packets travel and leave traces in middleboxes."""

    map: Map
    boxes: dict[str, Middlebox] = field(default_factory=dict)
    _fresh: Iterator[int] = field(default_factory=lambda: itertools.count(50001))

    def send(
        self, sender: str, protocol: str, port: int, to: Endpoint, address: str = ""
    ) -> Arrived | Lost:
        """Send from a port of a host; where it arrives, or what stops it.

        `address` is for a host with several that answers from where it was asked.
        """
        source = Endpoint(address or self.map.source(sender, to.address), port)
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

    def _travel(self, at: str, packet: Packet) -> Arrived | Lost:
        turned_by = ""
        trail: tuple[Step, ...] = ()
        entered: tuple[str, ...] = ()
        answering: tuple[str, ...] = ()
        for _ in range(_LONGEST_WAY):
            hop = self.map.next_hop(at, packet.destination.address)
            if hop is None:
                return Lost(Why.NO_ROUTE, at, packet, trail)
            at, interface = hop
            box = self._box(at)
            if not is_router(self.map.nodes[at]):
                arrived = Arrived(at, packet, trail, entered, turned_by, answering)
                return self._delivered(box, arrived)
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
            if passed.answering:
                answering = (*answering, at)
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
