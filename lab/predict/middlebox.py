"""What one NAT or firewall does to a packet: RFC 4787 as a small state machine.

A mapping belongs to an inside endpoint (endpoint-independent), to an inside
endpoint and a destination's address, or to these and its port (RFC 4787,
section 4.1), and has an external port that no other mapping has.  A filter
admits everybody to a mapping, whom the inside has sent to by that mapping, or
only the very endpoints it has sent to (section 5).  Once admitted, a flow
passes both ways.  A firewall judges the first packet of a flow and admits the
rest.

Time does not pass here: an attempt is shorter than any lifetime, and nothing
is ever forgotten, so more packets never close what fewer have opened.  Ports
are numbers that never meet by chance: a new mapping has a port that nobody can
have guessed.  (A real NAT with 60 000 ports is guessed once in 60 000 tries,
and a technique that does better than chance has to be acted out as such.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from lab.plan.model import Node, NodeKind
from lab.predict.packet import Endpoint, Lost, Packet, Why
from lab.topology.behaviour import Dependence, Direction, Hairpin, PortPolicy, Rule, Verdict

Route = Callable[[str], str]
"""The interface that leads to an address; empty if none does."""


@dataclass(frozen=True, slots=True)
class Passed:
    """A packet that goes on, and what was done to it."""

    packet: Packet
    turned: bool = False


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
    mappings: dict[tuple[object, ...], int] = field(default_factory=dict)
    """External port of each mapping."""
    inside: dict[tuple[str, int], Endpoint] = field(default_factory=dict)
    """Protocol and external port to the inside endpoint that holds it."""
    asked: dict[tuple[str, int], set[Endpoint]] = field(default_factory=dict)
    """Whom the inside has sent to by an external port."""

    @property
    def external(self) -> str:
        """The address that mappings are on."""
        if self.node.nat is None:
            return ""
        for interface in self.node.interfaces:
            if interface.name == self.node.wan:
                for text in interface.addresses:
                    address = text.partition("/")[0]
                    if ":" not in address:
                        return address
        return ""

    # --- packets ----------------------------------------------------------

    def forward(self, packet: Packet, arrived: str, route: Route) -> Passed | Lost:
        """What becomes of a packet that comes in by the interface `arrived`."""
        turned = arrived != self.node.wan and packet.destination.address == self.external
        if known := self.flows.get(packet.key):
            return Passed(packet.moved(*known), turned=turned)
        translated = self._inward(packet, arrived)
        if isinstance(translated, Lost):
            return translated
        destination, sender_port = translated
        leaves = route(destination.address)
        if not leaves:
            return Lost(Why.NO_ROUTE, self.node.name, packet)
        wan = self.node.wan
        if arrived == wan and self.node.nat and destination == packet.destination:
            return Lost(Why.UNTRANSLATED, self.node.name, packet)
        inward = packet.moved(packet.source, destination)
        if lost := self._refused(inward, inbound=arrived == wan, outbound=leaves == wan):
            return lost
        source, by_port = packet.source, 0
        nat = self.node.nat
        if nat and leaves == wan and arrived != wan:
            by_port = self._map(packet)
            source = Endpoint(self.external, by_port)
        elif nat and sender_port and nat.hairpin is Hairpin.EXTERNAL_SOURCE:
            source = Endpoint(self.external, sender_port)
        self._confirm(packet, source, destination)
        return Passed(packet.moved(source, destination), turned=turned)

    def leave(self, packet: Packet) -> Lost | None:
        """Whether a host's own firewall keeps a packet of its programs back."""
        return self._at_host(packet, inbound=False)

    def enter(self, packet: Packet) -> Lost | None:
        """Whether a host's own firewall keeps a packet from its programs."""
        return self._at_host(packet, inbound=True)

    def _at_host(self, packet: Packet, *, inbound: bool) -> Lost | None:
        if self.node.firewall is None or packet.key in self.flows:
            return None
        if lost := self._refused(packet, inbound=inbound, outbound=not inbound):
            return lost
        self._confirm(packet, packet.source, packet.destination)
        return None

    # --- network address translation --------------------------------------

    def _inward(self, packet: Packet, arrived: str) -> tuple[Endpoint, int] | Lost:
        """Where a packet goes, and the port it was given if it is turned around."""
        nat = self.node.nat
        if nat is None or packet.destination.address != self.external:
            return packet.destination, 0
        caller, sender_port = packet.source, 0
        if arrived != self.node.wan:
            if nat.hairpin is Hairpin.OFF:
                return Lost(Why.NO_HAIRPIN, self.node.name, packet)
            # It is filtered as if it went out and came back.
            sender_port = self._map(packet)
            caller = Endpoint(self.external, sender_port)
        port = packet.protocol, packet.destination.port
        if port not in self.inside:
            return Lost(Why.UNMAPPED, self.node.name, packet)
        if not self._admits(port, caller):
            return Lost(Why.FILTERED, self.node.name, packet)
        return self.inside[port], sender_port

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

    def _map(self, packet: Packet) -> int:
        """The external port of the mapping for a packet, a new one if there is none."""
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
            port = packet.source.port if keep else next(self.fresh)
            self.mappings[key] = port
            self.inside[packet.protocol, port] = packet.source
        port = self.mappings[key]
        self.asked.setdefault((packet.protocol, port), set()).add(packet.destination)
        return port

    def _confirm(self, packet: Packet, source: Endpoint, destination: Endpoint) -> None:
        """Remember a flow and the way back."""
        while (packet.protocol, destination, source) in self.flows:
            # The inside has a flow of its own with this endpoint, by another
            # external port: it sees the new one as from another port.
            source = Endpoint(source.address, next(self.fresh))
        self.flows[packet.key] = source, destination
        self.flows[packet.protocol, destination, source] = packet.destination, packet.source

    # --- firewall ---------------------------------------------------------

    def _refused(self, packet: Packet, *, inbound: bool, outbound: bool) -> Lost | None:
        wall = self.node.firewall
        if wall is None:
            return None
        if inbound and not _passes(wall.inbound, packet, packet.source):
            return Lost(Why.INBOUND, self.node.name, packet)
        if outbound and not _passes(wall.outbound, packet, packet.destination):
            return Lost(Why.OUTBOUND, self.node.name, packet)
        return None


def has_behaviour(node: Node) -> bool:
    """Whether `node` is a middlebox at all, or a host with a firewall."""
    return node.nat is not None or node.firewall is not None


def is_router(node: Node) -> bool:
    """Whether packets pass through `node`."""
    return node.kind in (NodeKind.ROUTER, NodeKind.INTERNET)


def _passes(direction: Direction, packet: Packet, remote: Endpoint) -> bool:
    """Whether the first packet of a flow is admitted: the first rule that matches decides."""
    for rule in direction.rules:
        if _matches(rule, packet, remote):
            return rule.verdict is Verdict.ACCEPT
    return direction.default is Verdict.ACCEPT


def _matches(rule: Rule, packet: Packet, remote: Endpoint) -> bool:
    if rule.protocol not in ("any", packet.protocol):
        return False
    port = packet.destination.port
    if rule.ports and not any(first <= port <= last for first, last in rule.ports):
        return False
    if not rule.remote:
        return True
    network = ip_network(rule.remote, strict=False)
    return network.version == 4 and ip_address(remote.address) in network
