"""From a topology to a plan: a pure function.

Equal arguments give equal plans, byte by byte, on every machine and in every
process.  A plan is laid out (`layout`), and then everything that its timeline
will do is tried on it, by the functions that will do it while the lab runs
(`change`).
"""

from __future__ import annotations

from msgspec.structs import replace

from lab.errors import InputError
from lab.plan.change import changed
from lab.plan.layout import lay_out
from lab.plan.machine import Machine
from lab.plan.model import Plan
from lab.topology.changes import Happening, Move
from lab.topology.character import Backend
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
    return _rehearsed(lay_out(topology, machine, lab=lab, previous=previous))


def _rehearsed(plan: Plan) -> Plan:
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
