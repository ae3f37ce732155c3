"""What each node of a plan has and does, but for its program: interfaces, routes, behaviour."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lab.plan.addressing import Addresses
from lab.plan.cores import core_nodes
from lab.plan.history import History
from lab.plan.ipv4 import address_text
from lab.plan.ipv6 import LAN_LENGTH, Prefix6
from lab.plan.linklocal import claimer
from lab.plan.model import Daemon, Interface, Nat64, Node, NodeKind, Program, Route
from lab.plan.names import DEFAULT_ROUTE, DEFAULT_ROUTE6, HOST_UPLINK, LAN, WAN, segment_name
from lab.plan.portmap import daemons_of
from lab.plan.translation import nat64_daemon, nat64_of, nat64_routes, nptv6_of
from lab.plan.tree import Tree
from lab.plan.wiring import cores
from lab.topology.behaviour import Direction, Firewall, Verdict
from lab.topology.model import NodeSpec, Regions, RouterSpec


@dataclass(frozen=True, slots=True)
class Network:
    """The nodes of one topology, of which everything is known but what programs are told."""

    tree: Tree
    addresses: Addresses
    ports: dict[str, dict[str, str]]
    history: History
    seed: int
    regions: Regions | None = None

    def nodes(self) -> Iterator[Node]:
        """The internet, then every router with its segment, then switches."""
        routed = self._routed()
        yield from core_nodes(
            {
                core: tuple(self._attachment(spec.name, routed, core) for spec in attached)
                for core, attached in cores(self.tree).items()
            },
            self.ports,
            self.regions,
        )
        for spec in self.tree.routers.values():
            yield self._router(spec, routed)
            if segment_name(spec.name) in self.ports:
                yield self._segment(segment_name(spec.name))
        yield from map(self._segment, self.tree.switches)

    def host(
        self, spec: NodeSpec, program: Program | None, daemons: tuple[Daemon, ...] = ()
    ) -> Node:
        """A host: one interface and a default route."""
        return Node(
            name=spec.name,
            kind=NodeKind.HOST,
            interfaces=(Interface(name=HOST_UPLINK, addresses=self._uplink(spec.name)),),
            routes=self._defaults(spec.name, HOST_UPLINK),
            firewall=spec.firewall,
            program=program,
            daemons=(*daemons, *claimer(spec, self.seed)),
        )

    def _segment(self, name: str) -> Node:
        ports = tuple(Interface(name=port) for port in self.ports[name].values())
        return Node(name=name, kind=NodeKind.SEGMENT, interfaces=ports)

    def _attachment(
        self, name: str, routed: dict[str, tuple[str, ...]], core: str
    ) -> tuple[Interface, tuple[Route, ...]]:
        """A core's interface to what is attached there, and the routes to what is behind it."""
        port = self.ports[core][name]
        face = Interface(name=port, addresses=self._across(name))
        return face, tuple(self._inward(name, routed, port))

    def _router(self, spec: RouterSpec, routed: dict[str, tuple[str, ...]]) -> Node:
        delegated = self.addresses.six.delegated.get(spec.name)
        nat64 = nat64_of(spec, self.tree, self.addresses, self.history)
        translator = (nat64_daemon(spec, nat64, self.addresses),) if nat64 else ()
        return Node(
            name=spec.name,
            kind=NodeKind.ROUTER,
            forwarding=True,
            interfaces=(
                Interface(name=WAN, addresses=self._uplink(spec.name)),
                Interface(name=LAN, addresses=self._inside(spec.name)),
            ),
            routes=(
                *self._defaults(spec.name, WAN),
                *nat64_routes(spec, self.addresses),
                *self._unassigned(spec.name),
                *(
                    route
                    for member in self.tree.members[spec.name]
                    for route in self._inward(member.name, routed, LAN)
                ),
            ),
            wan=WAN,
            lan=LAN,
            nat=spec.nat,
            port_mapping=spec.port_mapping,
            firewall=spec.firewall,
            firewall6=self._firewall6(spec),
            delegated=str(delegated or ""),
            nptv6=nptv6_of(spec, self.tree, self.addresses.six),
            nat64=nat64,
            subscribers=self._subscribers(spec, nat64),
            daemons=(*translator, *daemons_of(spec, self.seed)),
        )

    def _firewall6(self, spec: RouterSpec) -> Firewall | None:
        """A home's: what a NAT does in passing, nothing unsolicited in (RFC 6092, section 2.2)."""
        edge = (spec.nat is not None or spec.nptv6) and not self.tree.carrier_grade(spec)
        if not (edge and spec.ip.v6) or spec.firewall is not None:
            return None
        return Firewall(inbound=Direction(default=Verdict.DROP), preset="stateful")

    def _routed(self) -> dict[str, tuple[str, ...]]:
        """The IPv4 prefixes that are reached through each router without NAT."""
        routed: dict[str, tuple[str, ...]] = {}
        for spec in reversed(self.tree.top_down):
            if spec.nat is None and spec.ip.v4:
                below = (routed.get(member.name, ()) for member in self.tree.members[spec.name])
                routed[spec.name] = (
                    str(self.addresses.lans[spec.name]),
                    *(prefix for prefixes in below for prefix in prefixes),
                )
        return routed

    def _uplink(self, name: str) -> tuple[str, ...]:
        """The addresses of the interface by which `name` is attached, IPv4 first."""
        four, six = self.addresses.uplinks.get(name), self.addresses.six.uplinks.get(name)
        return (
            *(four.interface_addresses if four else ()),
            *(six.interface_addresses if six else ()),
        )

    def _across(self, name: str) -> tuple[str, ...]:
        """The addresses of the internet's interface to `name`."""
        four, six = self.addresses.uplinks.get(name), self.addresses.six.uplinks.get(name)
        return (
            *((f"{address_text(four.gateway)}/{four.length}",) if four else ()),
            *((f"{Prefix6.text(six.gateway)}/{LAN_LENGTH}",) if six else ()),
        )

    def _inside(self, router: str) -> tuple[str, ...]:
        """The addresses of a router in its LAN."""
        lan, six = self.addresses.lans.get(router), self.addresses.six
        gateway = self.addresses.gateways.get(router, 0)
        return (
            *((f"{address_text(gateway)}/{lan.length}",) if lan else ()),
            *(
                (f"{Prefix6.text(six.gateway(router))}/{LAN_LENGTH}",)
                if router in six.inside
                else ()
            ),
        )

    def _defaults(self, name: str, interface: str) -> tuple[Route, ...]:
        four, six = self.addresses.uplinks.get(name), self.addresses.six.uplinks.get(name)
        gateways = (
            (DEFAULT_ROUTE, address_text(four.gateway) if four else ""),
            (DEFAULT_ROUTE6, Prefix6.text(six.gateway) if six else ""),
        )
        return tuple(
            Route(destination=destination, gateway=gateway, interface=interface)
            for destination, gateway in gateways
            if gateway
        )

    def _unassigned(self, router: str) -> Iterator[Route]:
        """What a router has and gave to nobody: refused, not sent back (RFC 7084, WPD-5)."""
        six = self.addresses.six
        for prefix in dict.fromkeys((six.delegated.get(router), six.inside.get(router))):
            if prefix is not None and prefix.length < LAN_LENGTH:
                yield Route(destination=str(prefix))

    def _inward(
        self, member: str, routed: dict[str, tuple[str, ...]], interface: str
    ) -> Iterator[Route]:
        """The routes to what is behind `member`."""
        for prefix in routed.get(member, ()):
            gateway = address_text(self.addresses.uplinks[member].addresses[0])
            yield Route(destination=prefix, gateway=gateway, interface=interface)
        six = self.addresses.six
        if member in six.delegated:
            gateway = Prefix6.text(six.uplinks[member].addresses[0])
            destination = str(six.delegated[member])
            yield Route(destination=destination, gateway=gateway, interface=interface)

    def _subscribers(self, spec: RouterSpec, nat64: Nat64 | None) -> tuple[str, ...]:
        """Those of before in their order, so that their port blocks stay where they can."""
        if spec.nat is None:
            return ()
        now = tuple(four for _, four in nat64.hosts) if nat64 else self._inside4(spec)
        before = self.history.subscribers.get(spec.name, ())
        if not before:
            return now
        known, still = set(before), set(now)
        return (
            *(address for address in before if address in still),
            *(address for address in now if address not in known),
        )

    def _inside4(self, spec: RouterSpec) -> tuple[str, ...]:
        """Everything behind a NAT, by its IPv4 address."""
        return tuple(
            address_text(number)
            for member in self.tree.behind(spec.name)
            if member.name in self.addresses.uplinks
            for number in self.addresses.uplinks[member.name].addresses
        )
