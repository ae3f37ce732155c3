"""A host leaves its router or switch for another one: what that makes of a plan.

The topology that the plan was made from is laid out again with the host in its
new place and the running plan as history, so that everything else keeps its
addresses.  What was changed while the lab ran is laid over the result.
"""

from __future__ import annotations

from msgspec.structs import replace

from lab.errors import InputError
from lab.plan.attachment import Attachments
from lab.plan.layout import lay_out
from lab.plan.machine import Machine
from lab.plan.model import Link, Node, NodeKind, Plan
from lab.plan.names import UPLINKS
from lab.topology.link import LinkSpec
from lab.topology.model import INTERNET, Ip, NodeSpec, Topology
from lab.topology.problems import one_of

_PLACES = "routers and switches"
"""Where a host can move to."""


def moved(plan: Plan, host: str, via: str, link: LinkSpec | None) -> Plan:
    """`plan` with `host` attached to `via`, by `link` or else by one like its present one.

    Its address there is a new one; its program stays as it is.  Raises
    InputError if it can't move there.
    """
    topology, spec = _checked(plan, host, via)
    now = Attachments.of(plan).links[host]
    there = replace(
        spec, via=via, link=link or now.spec, address="", address6="", ip=_ip(topology, spec, via)
    )
    nodes = tuple(there if each is spec else each for each in topology.nodes)
    fresh = _laid_out(plan, replace(topology, nodes=nodes))
    before = {each.name: each for each in plan.nodes}
    wires = {each.a: each for each in plan.links if each.a.interface in UPLINKS}
    wires.pop(now.a)
    return replace(
        plan,
        nodes=tuple(_as_it_runs(each, before.get(each.name)) for each in fresh.nodes),
        links=tuple(_as_it_is(each, wires.get(each.a)) for each in fresh.links),
        topology=fresh.topology,
    )


def told_anew(plan: Plan, name: str) -> Node:
    """The node of that name, its program's environment true of where it is now."""
    node = plan.node(name)
    if node.program is None or plan.topology is None:
        return node
    fresh = _laid_out(plan, plan.topology).node(name).program
    if fresh is None:
        return node
    return replace(node, program=replace(node.program, env=fresh.env))


def _checked(plan: Plan, host: str, via: str) -> tuple[Topology, NodeSpec]:
    """What the plan was made from, and the host in it."""
    topology = plan.topology
    if topology is None:
        raise InputError("this plan does not say what it was made from")
    spec = next((each for each in topology.nodes if each.name == host), None)
    if spec is None:
        if any(each.name == host for each in topology.routers):
            raise InputError(
                f"{host} is a router, and only hosts roam",
                remedy="change its via: in the file, then `lab apply` it",
            )
        names = [each.name for each in topology.nodes]
        raise InputError(
            f"lab {plan.lab!r} has no host {host!r}", remedy=one_of(host, names, "hosts")
        )
    places = [each.name for each in topology.routers]
    places += [each.name for each in topology.switches]
    if via not in places:
        where = "the internet" if via == INTERNET else repr(via)
        raise InputError(
            f"{host} can't move to {where}, which is no router or switch",
            remedy=one_of(via, [each for each in places if each != spec.via], _PLACES),
        )
    if via == spec.via:
        raise InputError(
            f"{host} is attached to {via} already",
            remedy=one_of("", [each for each in places if each != via], f"other {_PLACES}")
            + f"; `lab link set {host} {via}` changes its link",
        )
    if spec.services:
        raise InputError(
            f"{host} is a service ({', '.join(spec.services)}), which others know by its address",
            remedy="move a node without a service",
        )
    return topology, spec


def _ip(topology: Topology, spec: NodeSpec, via: str) -> Ip:
    """What the host has at `via`: as before, but who began on a switch could not say what."""
    if spec.ip is not Ip.LINK_LOCAL or spec.via not in {one.name for one in topology.switches}:
        return spec.ip
    # At another switch it does not matter.
    return next((each.ip for each in topology.routers if each.name == via), spec.ip)


def _laid_out(plan: Plan, topology: Topology) -> Plan:
    machine = Machine(
        netem=plan.netem,
        netem_seed=plan.netem_seed,
        splice=plan.splice,
        containers=True,
        runtime=plan.runtime,
    )
    return lay_out(topology, machine, lab=plan.lab, previous=plan)


def _as_it_runs(fresh: Node, running: Node | None) -> Node:
    """`fresh` with what commands and the timeline may have changed, and the program that runs."""
    if running is None or fresh.kind not in (NodeKind.ROUTER, NodeKind.HOST):
        return fresh
    return replace(
        fresh,
        nat=running.nat,
        firewall=running.firewall,
        program=running.program,
        activity=running.activity,
    )


def _as_it_is(fresh: Link, wire: Link | None) -> Link:
    """`fresh` with the character that the link has now."""
    return fresh if wire is None else replace(wire, a=fresh.a, b=fresh.b)
