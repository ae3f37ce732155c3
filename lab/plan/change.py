"""What a change makes of a running lab: pure functions from a plan to a plan.

What a change leaves behind in the plan is carried out as the difference
between the two, like every other change of a lab; what it does besides (a
router's state is lost) comes as operations of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from lab.errors import InputError
from lab.plan import words
from lab.plan.attachment import Attachments, cut_link, declared_link, find_link, set_link, upper_end
from lab.plan.gateways import furnish
from lab.plan.model import Node, NodeKind, Plan
from lab.plan.move import moved, told_anew
from lab.plan.operations import AnyOperation, ResetNode, StartDaemon, StopDaemon
from lab.plan.partition import fenced, format_groups
from lab.plan.portmap import DAEMON as PORT_MAPPER
from lab.topology.behaviour import Firewall, Nat
from lab.topology.changes import (
    Activity,
    AnyChange,
    CutLink,
    Divide,
    FlushNat,
    Heal,
    Move,
    Reboot,
    SetActivity,
    SetFirewall,
    SetLink,
    SetNat,
)
from lab.topology.link import LinkSpec
from lab.topology.problems import one_of


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


def changed(plan: Plan, changes: Sequence[AnyChange]) -> Plan:
    """`plan` after `changes`; InputError if one of them is about what is not there."""
    after = plan
    for change in changes:
        after = _with(after, change)
    if after is plan:
        return plan
    if any(isinstance(change, SetFirewall | Move) for change in changes):
        after = furnish(after)
    return fenced(after)


def _with(plan: Plan, change: AnyChange) -> Plan:
    """`plan` after one change, without what follows from it for other nodes."""
    match change:
        case SetNat(router=router, nat=nat):
            node = translating(plan, router)
            _check_pool(node, nat)
            return _instead(plan, replace(node, nat=nat))
        case SetFirewall(node=name, firewall=firewall):
            return _instead(plan, replace(filtering(plan, name), firewall=firewall))
        case FlushNat(router=router):
            translating(plan, router)
            return plan
        case Reboot(router=router):
            _find(plan, router, (NodeKind.ROUTER,), "router")
            return plan
        case SetLink(node=node, via=via, link=link):
            return set_link(plan, node, via, link)
        case CutLink(node=node, via=via, down=down):
            return cut_link(plan, node, via, down=down)
        case SetActivity():
            return _with_activity(plan, change)
        case Divide(groups=groups, on=on):
            if on == (groups in plan.partitions):
                return plan
            others = tuple(each for each in plan.partitions if each != groups)
            return replace(plan, partitions=(*others, groups) if on else others)
        case Heal():
            return replace(plan, partitions=())
        case Move(node=node, via=via, link=link):
            return moved(plan, node, via, link)
    raise TypeError(f"not a change: {change!r}")


def _instead(plan: Plan, node: Node) -> Plan:
    """`plan` with `node` instead of the one of that name."""
    nodes = (node if each.name == node.name else each for each in plan.nodes)
    return replace(plan, nodes=tuple(nodes))


def running(plan: Plan, name: str) -> Node:
    """The node of that name, in which something runs; else InputError."""
    node = _find(plan, name, (NodeKind.ROUTER, NodeKind.HOST), "node")
    if not node.programs:
        upstream = Attachments.of(plan).upstream(name)
        raise InputError(
            f"nothing runs in {name} that could be stopped or paused",
            remedy=f"to take it off the network: lab link down {name} {upstream}",
        )
    return node


def _with_activity(plan: Plan, change: SetActivity) -> Plan:
    name, activity = change.node, change.activity
    node = running(plan, name)
    if node.activity is activity:
        return plan
    if (node.activity, activity) == (Activity.STOPPED, Activity.PAUSED):
        raise InputError(
            f"{name} is stopped: there is nothing to pause", remedy=f"lab node start {name}"
        )
    if node.activity is Activity.STOPPED and change.only_paused:
        raise InputError(
            f"{name} is stopped, not paused: there is nothing to resume",
            remedy=f"lab node start {name}",
        )
    if node.activity is Activity.STOPPED:
        node = told_anew(plan, name)
    return _instead(plan, replace(node, activity=activity))


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
        case SetLink(node=node, via=via, link=None):
            return f"{node} -- {via}: as declared"
        case SetLink(node=node, via=via, link=LinkSpec() as link):
            return f"{node} -- {via}: {_link(link)}"
        case CutLink(node=node, via=via, down=down):
            return f"{node} -- {via}: {'down' if down else 'up'}"
        case SetActivity(node=node, activity=activity):
            return f"{node}: {activity}"
        case Divide(groups=groups, on=on):
            return f"{format_groups(groups)}: {'' if on else 'no longer '}apart"
        case Heal():
            return "no partitions"
        case Move(node=node, via=via, link=None):
            return f"{node}: moved to {via}"
        case Move(node=node, via=via, link=LinkSpec() as link):
            return f"{node}: moved to {via} ({_link(link)})"
    raise TypeError(f"not a change: {change!r}")


def _link(spec: LinkSpec) -> str:
    name = f"{spec.preset}: " if spec.preset else ""
    mtu = f"MTU {spec.mtu}" if spec.mtu != LinkSpec().mtu else ""
    return name + (", ".join(filter(None, (words.ways(spec.up, spec.down), mtu))) or "plain wire")


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
            case SetLink(node=node, via=via):
                link = find_link(plan, node, via)
                return replace(change, node=link.a.node, via=upper_end(link), link=link.spec)
            case CutLink(node=node, via=via):
                link = find_link(plan, node, via)
                return replace(change, node=link.a.node, via=upper_end(link), down=link.down)
            case SetActivity(node=node):
                return replace(change, activity=plan.node(node).activity)
            case Divide(groups=groups):
                return replace(change, on=groups in plan.partitions)
            case Move(node=node):
                link = Attachments.of(plan).links[node]
                return replace(change, via=upper_end(link), link=link.spec)
            case _:
                return None
    except (KeyError, InputError):
        return None


def canonical(plan: Plan, change: AnyChange) -> AnyChange:
    """`change` as `as_it_is` tells it once it is made to `plan`."""
    match change:
        case SetLink(node=node, via=via, link=spec):
            link = find_link(plan, node, via)
            spec = declared_link(plan, link) if spec is None else spec
            return replace(change, node=link.a.node, via=upper_end(link), link=spec)
        case CutLink(node=node, via=via):
            link = find_link(plan, node, via)
            return replace(change, node=link.a.node, via=upper_end(link))
        case Move(node=node, link=None):
            return replace(change, link=Attachments.of(plan).links[node].spec)
    return change


def about(change: AnyChange) -> tuple[object, ...]:
    """What a change sets: two that are about the same cover each other."""
    match change:
        case SetNat(router=name) | FlushNat(router=name) | Reboot(router=name):
            return type(change), name
        case SetFirewall(node=name) | SetActivity(node=name) | Move(node=name):
            return type(change), name
        case SetLink(node=node, via=via) | CutLink(node=node, via=via):
            return type(change), node, via
        case Divide(groups=groups):
            return type(change), groups
        case Heal():
            return (type(change),)
    raise TypeError(f"not a change: {change!r}")


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
