"""What a change makes of a running lab: pure functions from a plan to a plan.

What a change leaves behind in the plan is carried out as the difference
between the two, like every other change of a lab; what it does besides (a
router's state is lost) comes as operations of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from lab.errors import InputError
from lab.plan import words
from lab.plan.gateways import furnish
from lab.plan.model import Node, NodeKind, Plan
from lab.plan.operations import AnyOperation, ResetNode, StartDaemon, StopDaemon
from lab.plan.portmap import DAEMON as PORT_MAPPER
from lab.topology.behaviour import Firewall, Nat
from lab.topology.changes import AnyChange, FlushNat, Reboot, SetFirewall, SetNat
from lab.topology.problems import one_of


def with_nat(plan: Plan, router: str, nat: Nat) -> Plan:
    """`plan` with another NAT behaviour at `router`; InputError if it has no NAT."""
    return changed(plan, [SetNat(router=router, nat=nat)])


def with_firewall(plan: Plan, node: str, firewall: Firewall | None) -> Plan:
    """`plan` with another firewall, or none, at `node`; InputError if there is no such node.

    The servers that its firewall has in a router come and go with it.
    """
    return changed(plan, [SetFirewall(node=node, firewall=firewall)])


def translating(plan: Plan, router: str) -> Node:
    """The router of that name; InputError unless it is one, with a NAT."""
    node = _find(plan, router, (NodeKind.ROUTER,), "router")
    if node.nat is None:
        raise InputError(
            f"router {router!r} translates nothing",
            remedy="a NAT comes and goes with the routes around it: give it one in the file "
            "(nat: home), then `lab apply` it",
        )
    return node


def filtering(plan: Plan, name: str) -> Node:
    """The router or host of that name, which may have a firewall; else InputError."""
    return _find(plan, name, (NodeKind.ROUTER, NodeKind.HOST), "node")


def changed(plan: Plan, changes: Iterable[AnyChange]) -> Plan:
    """`plan` after `changes`; InputError if one of them is about what is not there."""
    nodes = {node.name: node for node in plan.nodes}
    filters = False
    for change in changes:
        match change:
            case SetNat(router=router, nat=nat):
                _check_pool(translating(plan, router), nat)
                nodes[router] = replace(nodes[router], nat=nat)
            case SetFirewall(node=name, firewall=firewall):
                filtering(plan, name)
                nodes[name] = replace(nodes[name], firewall=firewall)
                filters = True
            case FlushNat(router=router):
                translating(plan, router)
            case Reboot(router=router):
                _find(plan, router, (NodeKind.ROUTER,), "router")
    if all(nodes[node.name] is node for node in plan.nodes):
        return plan
    after = replace(plan, nodes=tuple(nodes.values()))
    return furnish(after) if filters else after


def momentary(plan: Plan, changes: Iterable[AnyChange]) -> tuple[AnyOperation, ...]:
    """What `changes` do besides what they leave behind in `plan`, the one after them."""
    operations: list[AnyOperation] = []
    for change in changes:
        match change:
            case FlushNat(router=router):
                node = plan.node(router)
                # What hosts asked for is forgotten too, and the daemon must know.
                mappers = [each for each in node.daemons if each.name == PORT_MAPPER]
                operations += [StopDaemon(node=router, daemon=each) for each in mappers]
                operations.append(ResetNode(node=node))
                operations += [StartDaemon(node=router, daemon=each) for each in mappers]
            case Reboot(router=router):
                node = plan.node(router)
                operations += [StopDaemon(node=router, daemon=each) for each in node.daemons]
                operations.append(ResetNode(node=node))
                operations += [StartDaemon(node=router, daemon=each) for each in node.daemons]
    return tuple(operations)


def describe_change(change: AnyChange) -> str:
    """`home-a: NAT symmetric (APDM, APDF, random ports)`."""
    match change:
        case SetNat(router=router, nat=nat):
            return f"{router}: NAT {words.nat_kind(nat)} ({words.nat(nat)})"
        case SetFirewall(node=node, firewall=None):
            return f"{node}: no firewall"
        case SetFirewall(node=node, firewall=Firewall() as firewall):
            name = f"{firewall.preset} " if firewall.preset else ""
            return f"{node}: firewall {name}({words.firewall(firewall)})"
        case FlushNat(router=router):
            return f"{router}: mappings forgotten"
        case Reboot(router=router):
            return f"{router}: rebooted"
    raise TypeError(f"not a change: {change!r}")


def as_it_is(plan: Plan, change: AnyChange) -> AnyChange | None:
    """The change that would set again what `change` sets, as it is in `plan` now.

    None if `change` sets nothing, so that it can't be undone, or if what it is
    about is gone.
    """
    try:
        match change:
            case SetNat(router=router):
                nat = plan.node(router).nat
                return None if nat is None else SetNat(router=router, nat=nat)
            case SetFirewall(node=node):
                return SetFirewall(node=node, firewall=plan.node(node).firewall)
            case _:
                return None
    except KeyError:
        return None


@dataclass(slots=True)
class _Layer:
    key: object
    change: AnyChange
    below: AnyChange
    """What it covers."""


@dataclass(slots=True)
class Layers:
    """What lasts for a time lies over what was there before; layers end in any order.

    The undoing of a layer brings back what it covers.  If another layer lies
    over it, that one covers it from then on; if somebody set something else
    meanwhile, that stays.
    """

    _layers: list[_Layer] = field(default_factory=list)

    def laid(self, plan: Plan, key: object, changes: Sequence[AnyChange]) -> None:
        """Take note that `changes` are about to be made to `plan`, until `lifted`."""
        for change in changes:
            below = as_it_is(plan, change)
            if below is not None:
                self._layers.append(_Layer(key, change, below))

    def lifted(self, plan: Plan, key: object) -> tuple[AnyChange, ...]:
        """The changes to `plan` that undo those laid with `key`; forgets them."""
        undoing: list[AnyChange] = []
        for layer in [each for each in self._layers if each.key == key]:
            place = self._layers.index(layer)
            del self._layers[place]
            over = [
                each for each in self._layers[place:] if _about(each.change) == _about(layer.change)
            ]
            if over and over[0].below == layer.change:
                over[0].below = layer.below
            elif not over and as_it_is(plan, layer.change) == layer.change:
                undoing.append(layer.below)
        return tuple(undoing)


def _about(change: AnyChange) -> tuple[type, str]:
    """What a change sets: two that are about the same cover each other."""
    return type(change), change.node if isinstance(change, SetFirewall) else change.router


def _check_pool(router: Node, nat: Nat) -> None:
    """Raise InputError if the router has too few external addresses for `nat`."""
    outside = next((each for each in router.interfaces if each.name == router.wan), None)
    has = sum(":" not in address for address in outside.addresses) if outside else 0
    if nat.pool > max(has, 1):
        raise InputError(
            f"router {router.name!r} has a pool of {has} external addresses, and that NAT wants "
            f"{nat.pool}",
            remedy=f"declare it with nat: {{pool: {nat.pool}}} and `lab apply` the file: "
            "addresses change too",
        )


def _find(plan: Plan, name: str, kinds: tuple[NodeKind, ...], what: str) -> Node:
    for node in plan.nodes:
        if node.name == name and node.kind in kinds:
            return node
    there = [node.name for node in plan.nodes if node.kind in kinds]
    raise InputError(
        f"lab {plan.lab!r} has no {what} {name!r}", remedy=one_of(name, there, f"{what}s")
    )
