"""From a topology to a plan: a pure function.

Equal arguments give equal plans, byte by byte, on every machine and in every
process.  A topology is a tree whose root is the internet:

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

from lab.errors import InputError
from lab.plan.addressing import assign
from lab.plan.change import changed
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
from lab.topology.behaviour import Backend
from lab.topology.changes import Happening, Move
from lab.topology.model import Topology


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
        netem_seed=machine.netem_seed,
        splice=machine.splice,
        topology=replace(topology, expect=(), timeline=()),
        notes=(*program_notes(topology, machine), *link_notes(links, machine)),
    )
    plan = furnish(plan, {spec.name: spec.where for spec in tree.attached})
    plan = _tried_out(plan)
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


def _tried_out(plan: Plan) -> Plan:
    """`plan` with what carries its links ready for all that is to happen to them.

    Raises InputError if something that is to happen could not, whenever it comes.
    """
    ferried: set[str] = set()
    roamed = plan
    for happening in sorted(plan.timeline, key=lambda each: each.at_us):
        try:
            after = _possible(plan, roamed, happening)
        except InputError as error:
            raise InputError(error.message, remedy=error.remedy, where=happening.where) from None
        if any(isinstance(change, Move) for change in happening.changes):
            roamed = after
        ferried |= {link.name for link in after.links if link.backend is Backend.FERRY}
    # Another wire would cut off both ends for a moment.
    links = (
        replace(link, backend=Backend.FERRY) if link.name in ferried else link
        for link in plan.links
    )
    return replace(plan, links=tuple(links)) if ferried else plan


def _possible(plan: Plan, roamed: Plan, happening: Happening) -> Plan:
    """What `happening` makes of `plan`, or of `roamed`, where hosts are where they went before."""
    try:
        return changed(plan, happening.changes)
    except InputError:
        if roamed is plan:
            raise
    return changed(roamed, happening.changes)


def _informed(node: Node) -> Node:
    """`node` with its program told of the servers that firewalls above it offer."""
    more = told(node)
    if node.program is None or not more:
        return node
    env = tuple(sorted((dict(node.program.env) | more).items()))
    return replace(node, program=replace(node.program, env=env))
