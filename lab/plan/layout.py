"""What a topology is laid out as: its nodes, addresses, links and programs, at the beginning.

A topology is a tree whose root is the internet:

    internet  one namespace that forwards between all attachments
    router    `wan` leads up; `lan` leads to its only member by a direct wire,
              or to a shared segment (a bridge in a namespace of its own)
    host      `eth0` leads up

The work is divided by question: `tree` (who is attached to whom), `subnets`
and `addressing` (which addresses), `wiring` (which links, carried by what),
`nodes` (what each node has and does), `services` and `programs` (what runs,
and what it is told).
"""

from __future__ import annotations

from msgspec.structs import replace

from lab.plan.addressing import assign
from lab.plan.gateways import furnish, told
from lab.plan.history import History
from lab.plan.machine import Machine
from lab.plan.model import Link, Node, Plan
from lab.plan.nodes import Network
from lab.plan.programs import notes as program_notes
from lab.plan.programs import program_of
from lab.plan.services import Services
from lab.plan.tree import Tree
from lab.plan.wiring import links_of, on_wire_of, port_tables
from lab.plan.wiring import notes as link_notes
from lab.topology.model import Topology


def lay_out(
    topology: Topology, machine: Machine, *, lab: str, previous: Plan | None = None
) -> Plan:
    """The plan of `topology` on `machine`, whose timeline nobody has tried.

    Takes and raises what `lab.plan.compile.compile_topology` does.
    """
    history = History.of(previous)
    tree = Tree.of(topology)
    addresses = assign(tree, history, topology.seed)
    ports = port_tables(tree, history)
    links = _on_wires_of(
        previous, tuple(links_of(tree, ports, topology.internet, machine)), machine
    )
    services = Services.of(tree, addresses, topology.seed)
    regions = topology.internet.regions
    network = Network(tree, addresses, ports, history, topology.seed, regions)
    hosts = (
        network.host(
            spec,
            program_of(spec, lab=lab, machine=machine, services=services),
            services.daemons(lab, spec),
        )
        for spec in tree.nodes
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
        netem_seed=machine.netem_seed,
        splice=machine.splice,
        topology=replace(topology, expect=(), timeline=()),
        notes=(*program_notes(topology, machine), *link_notes(links, machine)),
    )
    plan = furnish(plan, {spec.name: spec.where for spec in tree.attached})
    return replace(plan, nodes=tuple(map(_informed, plan.nodes)))


def _on_wires_of(
    previous: Plan | None, links: tuple[Link, ...], machine: Machine
) -> tuple[Link, ...]:
    """`links`, those that there are already on their wires."""
    there = {(link.a, link.b): link for link in previous.links} if previous else {}
    return tuple(
        on_wire_of(there[link.a, link.b], link, splice=machine.splice)
        if (link.a, link.b) in there
        else link
        for link in links
    )


def _informed(node: Node) -> Node:
    """`node` with its program told of the servers that firewalls above it offer."""
    more = told(node)
    if node.program is None or not more:
        return node
    env = tuple(sorted((dict(node.program.env) | more).items()))
    return replace(node, program=replace(node.program, env=env))
