"""From a topology to a plan: a pure function.

Equal arguments give equal plans, byte by byte, on every machine and in every
process.  A topology is a tree whose root is the internet:

    internet  one namespace that forwards between all attachments
    router    `wan` leads up; `lan` leads to its only member by a direct wire,
              or to a shared segment (a bridge in a namespace of its own)
    host      `eth0` leads up

The work is divided by question: `tree` (who is attached to whom), `subnets`
and `addressing` (which addresses), `wiring` (which links, carried by what),
`services` and `programs` (what runs, and what it is told).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from msgspec.structs import replace

from lab.errors import InputError
from lab.plan.addressing import Addresses, assign
from lab.plan.change import changed
from lab.plan.gateways import furnish, told
from lab.plan.history import History
from lab.plan.ipv4 import address_text
from lab.plan.machine import Machine
from lab.plan.model import Interface, Node, NodeKind, Plan, Program, Route
from lab.plan.names import DEFAULT_ROUTE, HOST_UPLINK, LAN, WAN, segment_name
from lab.plan.portmap import daemons_of
from lab.plan.programs import notes as program_notes
from lab.plan.programs import program_of
from lab.plan.services import Services
from lab.plan.tree import Tree
from lab.plan.wiring import links_of, port_tables
from lab.plan.wiring import notes as link_notes
from lab.topology.model import INTERNET, NodeSpec, RouterSpec, Topology


def compile_topology(
    topology: Topology,
    machine: Machine,
    *,
    lab: str | None = None,
    previous: Plan | None = None,
) -> Plan:
    """The plan of `topology` on `machine`, for a lab named `lab` (else the topology's name).

    With the `previous` plan of the same lab, whatever existed keeps its
    addresses and MAC addresses, and only what is new is given free ones.

    Raises InputError for what is wrong in the topology, MissingError for what
    the machine cannot do.
    """
    lab = lab or topology.name
    history = History.of(previous)
    tree = Tree.of(topology)
    addresses = assign(tree, history)
    ports = port_tables(tree, history)
    links = tuple(links_of(tree, ports, topology.internet, machine))
    services = Services.of(tree, addresses, topology.seed)
    network = _Network(tree, addresses, ports, history, topology.seed)
    hosts = (
        network.host(spec, program_of(spec, lab=lab, machine=machine, services=services))
        for spec in topology.nodes
    )
    plan = Plan(
        lab=lab,
        nodes=(*network.nodes(), *hosts),
        links=links,
        seed=topology.seed,
        description=topology.description,
        source=topology.source,
        runtime=machine.runtime,
        expect=topology.expect,
        timeline=topology.timeline,
        netem=machine.netem,
        topology=replace(topology, expect=(), timeline=()),
        notes=(*program_notes(topology, machine), *link_notes(links, machine)),
    )
    plan = furnish(plan, {spec.name: spec.where for spec in tree.attached})
    _try_out(plan)
    return replace(plan, nodes=tuple(map(_informed, plan.nodes)))


def _try_out(plan: Plan) -> None:
    """Raise InputError if something that is to happen could not, whenever it comes."""
    for happening in plan.timeline:
        try:
            changed(plan, happening.changes)
        except InputError as error:
            raise InputError(error.message, remedy=error.remedy, where=happening.where) from None


def _informed(node: Node) -> Node:
    """`node` with its program told of the servers that firewalls above it offer."""
    more = told(node)
    if node.program is None or not more:
        return node
    env = tuple(sorted((dict(node.program.env) | more).items()))
    return replace(node, program=replace(node.program, env=env))


@dataclass(frozen=True, slots=True)
class _Network:
    """Everything about nodes but their programs."""

    tree: Tree
    addresses: Addresses
    ports: dict[str, dict[str, str]]
    history: History
    seed: int

    def nodes(self) -> Iterator[Node]:
        """The internet, then every router with its segment."""
        routed = self._routed()
        if INTERNET in self.ports:
            yield self._internet(routed)
        for spec in self.tree.routers.values():
            yield self._router(spec, routed)
            if ports := self.ports.get(segment_name(spec.name)):
                yield Node(
                    name=segment_name(spec.name),
                    kind=NodeKind.SEGMENT,
                    interfaces=tuple(Interface(name=port) for port in ports.values()),
                )

    def host(self, spec: NodeSpec, program: Program | None) -> Node:
        """A host: one interface and a default route."""
        uplink = self.addresses.uplinks[spec.name]
        return Node(
            name=spec.name,
            kind=NodeKind.HOST,
            interfaces=(Interface(name=HOST_UPLINK, addresses=uplink.interface_addresses),),
            routes=(self._default(spec.name, HOST_UPLINK),),
            firewall=spec.firewall,
            program=program,
        )

    def _internet(self, routed: dict[str, tuple[str, ...]]) -> Node:
        attached = self.tree.members[INTERNET]
        ports = self.ports[INTERNET]
        uplinks = self.addresses.uplinks
        return Node(
            name=INTERNET,
            kind=NodeKind.INTERNET,
            forwarding=True,
            interfaces=tuple(
                Interface(
                    name=ports[spec.name],
                    addresses=(
                        f"{address_text(uplinks[spec.name].gateway)}/{uplinks[spec.name].length}",
                    ),
                )
                for spec in attached
            ),
            routes=tuple(
                self._inward(spec.name, prefix, ports[spec.name])
                for spec in attached
                for prefix in routed.get(spec.name, ())
            ),
        )

    def _router(self, spec: RouterSpec, routed: dict[str, tuple[str, ...]]) -> Node:
        lan = self.addresses.lans[spec.name]
        inside = address_text(self.addresses.gateways[spec.name])
        return Node(
            name=spec.name,
            kind=NodeKind.ROUTER,
            forwarding=True,
            interfaces=(
                Interface(
                    name=WAN, addresses=self.addresses.uplinks[spec.name].interface_addresses
                ),
                Interface(name=LAN, addresses=(f"{inside}/{lan.length}",)),
            ),
            routes=(
                self._default(spec.name, WAN),
                *(
                    self._inward(member.name, prefix, LAN)
                    for member in self.tree.members[spec.name]
                    for prefix in routed.get(member.name, ())
                ),
            ),
            wan=WAN,
            lan=LAN,
            nat=spec.nat,
            port_mapping=spec.port_mapping,
            firewall=spec.firewall,
            subscribers=self._subscribers(spec),
            daemons=daemons_of(spec, self.seed),
        )

    def _routed(self) -> dict[str, tuple[str, ...]]:
        """The prefixes that are reached through each router without NAT."""
        routed: dict[str, tuple[str, ...]] = {}
        for spec in reversed(self.tree.top_down):
            if spec.nat is None:
                below = (routed.get(member.name, ()) for member in self.tree.members[spec.name])
                routed[spec.name] = (
                    str(self.addresses.lans[spec.name]),
                    *(prefix for prefixes in below for prefix in prefixes),
                )
        return routed

    def _default(self, name: str, interface: str) -> Route:
        gateway = address_text(self.addresses.uplinks[name].gateway)
        return Route(destination=DEFAULT_ROUTE, gateway=gateway, interface=interface)

    def _inward(self, router: str, prefix: str, interface: str) -> Route:
        gateway = address_text(self.addresses.uplinks[router].addresses[0])
        return Route(destination=prefix, gateway=gateway, interface=interface)

    def _subscribers(self, spec: RouterSpec) -> tuple[str, ...]:
        """Those of before in their order, so that their port blocks stay where they can."""
        if spec.nat is None:
            return ()
        now = tuple(
            address_text(number)
            for member in self.tree.behind(spec.name)
            for number in self.addresses.uplinks[member.name].addresses
        )
        before = self.history.subscribers.get(spec.name, ())
        if not before:
            return now
        known, still = set(before), set(now)
        return (
            *(address for address in before if address in still),
            *(address for address in now if address not in known),
        )
