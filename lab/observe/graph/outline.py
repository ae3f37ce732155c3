"""What a drawing shows: a tree of boxes whose root is the internet.

Every node but a shared segment is a box; a segment is a property of the box
whose LAN it is.  In a large plan, siblings that differ in names and addresses
only are folded into one box that stands for all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from lab.plan import words
from lab.plan.model import Link, Node, NodeKind, Plan
from lab.plan.names import LAN, WAN
from lab.topology.character import Backend, Impairment

_FOLD_PLANS_ABOVE = 30
"""Plans with no more boxes than this are drawn in full."""
_FOLD_SIBLINGS_FROM = 4


class Look(StrEnum):
    """What kind of thing a box is, which decides its colour."""

    INTERNET = "internet"
    ROUTER = "router"
    SERVICE = "service"
    PEER = "peer"
    HOST = "host"


@dataclass(frozen=True, slots=True)
class Box:
    """A node, or several alike, and what hangs below."""

    node: str
    """The node's name, or the first one's."""
    title: str
    look: Look
    subtitle: str = ""
    nat: str = ""
    firewall: str = ""
    addresses: tuple[tuple[str, str], ...] = ()
    """Pairs of interface and address; the interface is empty where it is obvious."""
    link: tuple[str, ...] = ()
    """The character of the uplink, in lines; empty for a plain wire."""
    backend: Backend = Backend.PLAIN
    shared: bool = False
    """Whether what hangs below shares one segment."""
    count: int = 1
    below: tuple[Box, ...] = ()

    @property
    def badge(self) -> str:
        """How many nodes the box stands for, if they are several."""
        return f"\N{MULTIPLICATION SIGN} {self.count}" if self.count > 1 else ""


def outline(plan: Plan) -> tuple[Box, ...]:
    """The boxes at the top of `plan`: usually the internet and nothing else."""
    nodes = {node.name: node for node in plan.nodes}
    segments = {name for name, node in nodes.items() if node.kind is NodeKind.SEGMENT}
    owner = {link.b.node: link.a.node for link in plan.links if link.b.node in segments}
    for link in plan.links:
        if link.b.node in segments and link.a.interface == LAN:
            owner[link.b.node] = link.a.node
    uplinks: dict[str, Link] = {}
    below: dict[str, list[str]] = {}
    tops = [name for name, node in nodes.items() if node.kind is NodeKind.INTERNET]
    for link in plan.links:
        # Regions hang below the first one; that all are joined to all goes without saying.
        if link.a.node in tops and link.b.node != tops[0]:
            continue
        if owner.get(link.b.node) != link.a.node:
            uplinks[link.a.node] = link
            upstream = owner.get(link.b.node, link.b.node)
            below.setdefault(upstream, []).append(link.a.node)
    fold = len(nodes) - len(segments) > _FOLD_PLANS_ABOVE
    shared = set(owner.values())

    def boxes(names: list[str]) -> tuple[Box, ...]:
        drawn = (
            _box(
                nodes[name],
                uplinks.get(name),
                shared=name in shared,
                below=boxes(below.get(name, [])),
            )
            for name in names
        )
        return _arranged(_folded(drawn) if fold else drawn)

    return boxes([name for name in nodes if name not in uplinks and name not in segments])


def walk(boxes: tuple[Box, ...]) -> Iterator[Box]:
    """All boxes, each before what hangs below it."""
    for box in boxes:
        yield box
        yield from walk(box.below)


def _arranged(boxes: Iterator[Box]) -> tuple[Box, ...]:
    """Services in the middle, between those who use them."""
    services: list[Box] = []
    users: list[Box] = []
    for box in boxes:
        (services if box.look is Look.SERVICE else users).append(box)
    half = (len(users) + 1) // 2
    return (*users[:half], *services, *users[half:])


def _box(node: Node, uplink: Link | None, *, shared: bool, below: tuple[Box, ...]) -> Box:
    return Box(
        node=node.name,
        title=node.name,
        look=_look(node),
        subtitle=_subtitle(node),
        nat=f"{words.nat_kind(node.nat)}: {words.nat(node.nat)}" if node.nat else "",
        firewall=words.firewall(node.firewall) if node.firewall else words.ipv6(node),
        addresses=tuple(_addresses(node)),
        link=_link_lines(uplink) if uplink else (),
        backend=uplink.backend if uplink else Backend.PLAIN,
        shared=shared and len(below) > 0,
        below=below,
    )


def _look(node: Node) -> Look:
    if node.kind is NodeKind.INTERNET:
        return Look.INTERNET
    if node.kind is NodeKind.ROUTER:
        return Look.ROUTER
    if node.program is None:
        return Look.HOST
    return Look.SERVICE if node.program.stage == 0 else Look.PEER


def _subtitle(node: Node) -> str:
    if node.kind is NodeKind.ROUTER:
        return "router" if node.nat is None else ""
    if node.program is None:
        return "" if node.kind is NodeKind.INTERNET else "no program"
    if node.program.roles:
        roles = " + ".join(node.program.roles)
        return "" if roles == node.name else roles
    return words.program(node.program)


def _addresses(node: Node) -> Iterator[tuple[str, str]]:
    if node.kind is NodeKind.INTERNET:
        return
    for interface in node.interfaces:
        label = interface.name if interface.name in {WAN, LAN} else ""
        for address in interface.addresses:
            # The LAN's length says what the members share; elsewhere it says nothing new.
            yield label, address if label == LAN else address.partition("/")[0]


def _link_lines(link: Link) -> tuple[str, ...]:
    up, down = link.a_to_b, link.b_to_a
    lines = (
        _directions(words.rate(up.rate_bit) if up.rate_bit else "",
                    words.rate(down.rate_bit) if down.rate_bit else ""),
        ", ".join(filter(None, (
            _directions(_delay(up), _delay(down)),
            _directions(_loss(up), _loss(down)),
            f"MTU {link.mtu}" if link.mtu != 1500 else "",
        ))),
    )  # fmt: skip
    return tuple(filter(None, lines))


def _delay(way: Impairment) -> str:
    return words.spread(way)


def _loss(way: Impairment) -> str:
    return words.losses(way)


def _directions(up: str, down: str) -> str:
    if up == down:
        return up
    return "  ".join(f"{arrow} {text}" for arrow, text in (("↑", up), ("↓", down)) if text)


# --- folding --------------------------------------------------------------


def _folded(boxes: Iterator[Box]) -> Iterator[Box]:
    """`boxes` with those alike folded into one, in the place of the first."""
    groups: dict[Box, list[Box]] = {}
    for box in boxes:
        groups.setdefault(_nameless(box), []).append(box)
    for group in groups.values():
        if len(group) < _FOLD_SIBLINGS_FROM:
            yield from group
        else:
            yield _fold(group)


def _nameless(box: Box) -> Box:
    """`box` without what differs between things that were counted."""
    return replace(
        box,
        node="",
        title=re.sub(r"[0-9]+", "#", box.title),
        addresses=tuple((label, "") for label, _ in box.addresses),
        below=tuple(map(_nameless, box.below)),
    )


def _fold(group: list[Box]) -> Box:
    first, last = group[0], group[-1]
    return replace(
        first,
        title=f"{first.title} … {last.title}",
        count=sum(box.count for box in group),
        addresses=tuple((label, f"{one} …") for label, one in first.addresses),
        below=tuple(map(_of_each, zip(*(box.below for box in group), strict=True))),
    )


def _of_each(alike: tuple[Box, ...]) -> Box:
    """What hangs below each of the boxes that were folded."""
    return _fold(list(alike))
