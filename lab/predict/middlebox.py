"""What one NAT or firewall does to a packet: RFC 4787 as a small state machine.

A mapping belongs to an inside endpoint (endpoint-independent), to an inside
endpoint and a destination's address, or to these and its port (RFC 4787,
section 4.1), and has an external port that no other mapping has.  A filter
admits everybody to a mapping, whom the inside has sent to by that mapping, or
only the very endpoints it has sent to (section 5).  Once admitted, a flow
passes both ways.  A firewall judges the first packet of a flow (`lab.predict.wall`)
and admits the rest.

Time does not pass here: an attempt is shorter than any lifetime, and nothing
is ever forgotten, so more packets never close what fewer have opened.  Ports
are numbers that never meet by chance: a new mapping has a port that nobody can
have guessed.  (A real NAT with 60 000 ports is guessed once in 60 000 tries,
and a technique that does better than chance has to be acted out as such.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from lab.plan.model import Node, NodeKind
from lab.plan.nptv6 import renumbered
from lab.predict.packet import Endpoint, Lost, Packet, Why
from lab.predict.wall import refused, wall_of
from lab.topology.behaviour import (
    Dependence,
    Hairpin,
    Pooling,
    PortPolicy,
    Unsolicited,
)

Route = Callable[[str], str]
"""The interface that leads to an address; empty if none does."""


@dataclass(frozen=True, slots=True)
class Passed:
    """A packet that goes on, and what was done to it."""

    packet: Packet
    turned: bool = False
    answering: bool = False
    """Whether a firewall let it in for being an answer, and would not have otherwise."""


@dataclass(slots=True)
class Middlebox:
    """The NAT and the firewall of one node, with everything they have learned."""

    node: Node
    fresh: Iterator[int]
    """Ports that nobody has, here or elsewhere."""
    flows: dict[tuple[str, Endpoint, Endpoint], tuple[Endpoint, Endpoint]] = field(
        default_factory=dict
    )
    """Source and destination of the next packet of a flow, by what they are before it."""
    mappings: dict[tuple[object, ...], Endpoint] = field(default_factory=dict)
    """External endpoint of each mapping."""
    inside: dict[tuple[str, int], Endpoint] = field(default_factory=dict)
    """Protocol and external port to the inside endpoint that holds it."""
    asked: dict[tuple[str, int], set[Endpoint]] = field(default_factory=dict)
    """Whom the inside has sent to by an external port."""
    taken: set[tuple[str, Endpoint, Endpoint]] = field(default_factory=set)
    """Flows that the router took for its own: no mapping can have them any more."""

    opened: dict[tuple[str, int], Endpoint] = field(default_factory=dict)
    """Ports that a host asked for, and where they lead; nothing filters there."""

    counted: dict[str, int] = field(default_factory=dict)
    """The last port that a NAT which counts has given, by protocol."""

    @property
    def externals(self) -> tuple[str, ...]:
        """The addresses that mappings are on; none without a NAT."""
        if self.node.nat is None:
            return ()
        return tuple(
            address
            for interface in self.node.interfaces
            if interface.name == self.node.wan
            for address in (text.partition("/")[0] for text in interface.addresses)
            if ":" not in address
        )

    @property
    def by_chance(self) -> bool:
        """Whether mappings of one inside endpoint may be on several addresses."""
        nat = self.node.nat
        return (
            nat is not None
            and nat.pooling is Pooling.ARBITRARY
            and len(self.externals) > 1
            and nat.mapping is not Dependence.ENDPOINT_INDEPENDENT
        )

    def open_port(self, protocol: str, inside: Endpoint) -> Endpoint:
        """Open a port to `inside`, as miniupnpd does when it is asked to."""
        external = Endpoint(self.externals[0], next(self.fresh))
        self.opened[protocol, external.port] = inside
        return external

    # --- packets ----------------------------------------------------------

    def forward(self, packet: Packet, arrived: str, route: Route) -> Passed | Lost:
        """What becomes of a packet that comes in by the interface `arrived`."""
        turned = arrived != self.node.wan and packet.destination.address in self.externals
        if known := self.flows.get(packet.key):
            moved = packet.moved(*known)
            inward = packet.moved(packet.source, known[1])
            answering = arrived == self.node.wan and bool(refused(self.node, inward, inbound=True))
            return Passed(moved, turned=turned, answering=answering)
        if packet.key in self.taken:
            return Lost(Why.FILTERED, self.node.name, packet)
        asked = self._asked_for(packet, arrived)
        translated = (asked, None) if asked else self._inward(packet, arrived)
        if isinstance(translated, Lost):
            if self.node.nat and self.node.nat.unsolicited is Unsolicited.ACCEPT and not turned:
                self.taken.add(packet.key)
            return translated
        destination, seen_as = translated
        leaves = route(destination.address)
        if not leaves:
            return Lost(Why.NO_ROUTE, self.node.name, packet)
        wan = self.node.wan
        nat = self.node.nat if packet.family == 4 else None
        if arrived == wan and nat and destination == packet.destination:
            return Lost(Why.UNTRANSLATED, self.node.name, packet)
        inward = packet.moved(packet.source, destination)
        unasked = arrived == wan and not asked
        if lost := refused(self.node, inward, inbound=unasked, outbound=leaves == wan):
            return lost
        source = packet.source
        if leaves == wan and arrived != wan:
            source = self._map(packet) if nat else self._renumbered(source, outward=True)
        elif nat and seen_as and nat.hairpin is Hairpin.EXTERNAL_SOURCE:
            source = seen_as
        self._confirm(packet, source, destination)
        return Passed(packet.moved(source, destination), turned=turned)

    def leave(self, packet: Packet) -> Lost | None:
        """Whether a host's own firewall keeps a packet of its programs back."""
        return self._at_host(packet, inbound=False)

    def enter(self, packet: Packet) -> Lost | None:
        """Whether a host's own firewall keeps a packet from its programs."""
        return self._at_host(packet, inbound=True)

    def _at_host(self, packet: Packet, *, inbound: bool) -> Lost | None:
        if wall_of(self.node, packet.family) is None or packet.key in self.flows:
            return None
        if lost := refused(self.node, packet, inbound=inbound, outbound=not inbound):
            return lost
        self._confirm(packet, packet.source, packet.destination)
        return None

    # --- network address translation --------------------------------------

    def _asked_for(self, packet: Packet, arrived: str) -> Endpoint | None:
        """Where a port that a host asked for leads; from outside alone, as miniupnpd has it."""
        to = packet.destination
        if arrived != self.node.wan or to.address not in self.externals[:1]:
            return None
        return self.opened.get((packet.protocol, to.port))

    def _inward(self, packet: Packet, arrived: str) -> tuple[Endpoint, Endpoint | None] | Lost:
        """Where a packet goes, and by what mapping if it is turned around."""
        nat = self.node.nat
        if packet.family == 6 and arrived == self.node.wan:
            return self._renumbered(packet.destination, outward=False), None
        if nat is None or packet.destination.address not in self.externals:
            return packet.destination, None
        caller, seen_as = packet.source, None
        if arrived != self.node.wan:
            if nat.hairpin is Hairpin.OFF:
                return Lost(Why.NO_HAIRPIN, self.node.name, packet)
            # It is filtered as if it went out and came back.
            caller = seen_as = self._map(packet)
        port = packet.protocol, packet.destination.port
        if port not in self.inside:
            return Lost(Why.UNMAPPED, self.node.name, packet)
        if not self._admits(port, caller):
            return Lost(Why.FILTERED, self.node.name, packet)
        return self.inside[port], seen_as

    def _renumbered(self, endpoint: Endpoint, *, outward: bool) -> Endpoint:
        """`endpoint` behind the prefix that NPTv6 gives it on the other side.

        RFC 6296 also changes a word of the rest, so that checksums stay as they
        are; that is one to one as well, and nothing here depends on which.
        """
        if self.node.nptv6 is None:
            return endpoint
        subnets = self.node.nptv6.subnets
        return Endpoint(renumbered(subnets, endpoint.address, outward=outward), endpoint.port)

    def _admits(self, port: tuple[str, int], caller: Endpoint) -> bool:
        asked = self.asked.get(port, set())
        assert self.node.nat  # noqa: S101 - only a NAT has mappings
        match self.node.nat.filtering:
            case Dependence.ENDPOINT_INDEPENDENT:
                return True
            case Dependence.ADDRESS_DEPENDENT:
                return any(endpoint.address == caller.address for endpoint in asked)
            case Dependence.ADDRESS_AND_PORT_DEPENDENT:
                return caller in asked

    def _map(self, packet: Packet) -> Endpoint:
        """The external endpoint of the mapping for a packet, a new one if there is none."""
        nat = self.node.nat
        assert nat  # noqa: S101 - as above
        key: tuple[object, ...] = packet.protocol, packet.source
        if nat.mapping is Dependence.ADDRESS_DEPENDENT:
            key = (*key, packet.destination.address)
        elif nat.mapping is Dependence.ADDRESS_AND_PORT_DEPENDENT:
            key = (*key, packet.destination)
        if key not in self.mappings:
            own = packet.protocol, packet.source.port
            keep = nat.ports.policy is PortPolicy.PRESERVE and own not in self.inside
            port = packet.source.port if keep else self._next_port(packet.protocol)
            # Of a pool's addresses, the one that helps: `by_chance` says that it is luck.
            self.mappings[key] = Endpoint(self.externals[0], port)
            self.inside[packet.protocol, port] = packet.source
        made = self.mappings[key]
        self.asked.setdefault((packet.protocol, made.port), set()).add(packet.destination)
        return made

    def _next_port(self, protocol: str) -> int:
        """The port of a new mapping: one that nobody can guess, unless this NAT counts."""
        nat = self.node.nat
        if nat is None or nat.ports.policy is not PortPolicy.SEQUENTIAL:
            return next(self.fresh)
        port = self.counted.get(protocol)
        port = next(self.fresh) if port is None else port + nat.ports.stride
        self.counted[protocol] = port
        return port

    def _confirm(self, packet: Packet, source: Endpoint, destination: Endpoint) -> None:
        """Remember a flow and the way back."""
        while self._has((packet.protocol, destination, source)):
            # The inside has a flow of its own with this endpoint, by another
            # external port: it sees the new one as from another port.
            source = Endpoint(source.address, next(self.fresh))
        self.flows[packet.key] = source, destination
        self.flows[packet.protocol, destination, source] = packet.destination, packet.source

    def _has(self, key: tuple[str, Endpoint, Endpoint]) -> bool:
        return key in self.flows or key in self.taken


def has_behaviour(node: Node) -> bool:
    """Whether `node` is a middlebox at all, or a host with a firewall."""
    return any((node.nat, node.nptv6, node.firewall, node.firewall6))


def is_router(node: Node) -> bool:
    """Whether packets pass through `node`."""
    return node.kind in (NodeKind.ROUTER, NodeKind.INTERNET)
