"""What a change of the network is called in a ladder, for people who learn from it."""

from __future__ import annotations

from collections.abc import Sequence

from lab.plan import words
from lab.plan.change import describe_change
from lab.plan.model import Plan
from lab.plan.partition import format_groups
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
    SetLink,
    SetNat,
)


def tried(changes: Sequence[AnyChange] | None, why: str) -> tuple[tuple[str, str], ...]:
    """As `told`, of changes that failed together; None stands for those of a whole file.

    Without any it is the way back that failed.
    """
    if changes is None:
        return (("", f"a change of the whole lab failed and is taken back: {why}"),)
    if not changes:
        return (("", f"the way back failed, too: {why}"),)
    what = "; ".join(describe_change(change) for change in changes)
    return (("", f"a change failed and is taken back ({what}): {why}"),)


def told(change: AnyChange, after: Plan) -> tuple[str, str]:
    """The node that `change` is about, empty for more than one, and what it is.

    `after` is the plan that it leads to.
    """
    match change:
        case Reboot(router=router):
            nat = after.node(router).nat is not None
            lost = "and its NAT's table is gone" if nat else "and what it knew of flows is gone"
            return router, f"{router} rebooted, {lost}"
        case FlushNat(router=router):
            return router, f"{router} forgot its mappings and flows"
        case SetNat(router=router, nat=nat):
            return router, f"{router} became a {words.nat_kind(nat)} NAT ({words.nat(nat)})"
        case CutLink(node=node, via=via, down=down):
            return node, f"the link {node}\N{EM DASH}{via} was {'cut' if down else 'mended'}"
        case SetLink(node=node, via=via):
            now = describe_change(change).partition(": ")[2]
            return node, f"the link {node}\N{EM DASH}{via} became {now}"
        case SetActivity(node=node, activity=activity):
            did = {Activity.RUNNING: "went on", Activity.STOPPED: "was stopped"}
            return node, f"what runs in {node} {did.get(activity, 'was paused')}"
        case Move(node=node, via=via):
            interfaces = after.node(node).interfaces
            own = [address.partition("/")[0] for one in interfaces for address in one.addresses]
            now = f", and is {own[0]} there" if own else ""
            return node, f"{node} moved to {via}{now}"
        case Divide(groups=groups, on=on):
            became = "divided the network" if on else "ended"
            return "", f"the partition {format_groups(groups)} {became}"
        case Heal():
            return "", "every partition ended"
    node, _, what = describe_change(change).partition(": ")
    known = any(each.name == node for each in after.nodes)
    return (node if known else ""), f"{node}: {what}" if what else node
