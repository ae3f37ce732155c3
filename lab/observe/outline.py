"""The shape of a plan as a person sees it: the internet on top, everything else below.

Nodes hang below the one that connects them to the internet.  Segments are the
wire, not something to look at, so who shares one hangs below the router on it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass

from lab.plan.model import Link, Node, NodeKind, Plan
from lab.topology.character import Impairment

FOLD_FROM = 7
"""So many alike siblings, or more, are shown as one and a count."""

_Wire = tuple[Impairment, Impairment, bool]
"""Downwards, upwards, and whether it is cut."""


@dataclass(frozen=True, slots=True)
class Branch:
    """A node, how it is attached to the one above it, and what is below it."""

    node: Node
    down: Impairment
    """Of what comes to it from above."""
    up: Impairment
    cut: bool
    """Whether the link to the one above it is down."""
    branches: tuple[Branch, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the drawn tree: a branch, or how many more there are of its kind."""

    guide: str
    branch: Branch
    more: int = 0
    """If not 0, the line stands for so many siblings like `like`; `branch` is the last."""
    like: str = ""


def tree(plan: Plan) -> tuple[Branch, ...]:
    """The trees of `plan`: one below the internet, and what is attached to nothing."""
    nodes = {node.name: node for node in plan.nodes}
    order = {name: index for index, name in enumerate(nodes)}
    wires: dict[str, list[tuple[str, Link]]] = {name: [] for name in nodes}
    for wire in plan.links:
        wires[wire.a.node].append((wire.b.node, wire))
        wires[wire.b.node].append((wire.a.node, wire))
    roots = sorted(nodes.values(), key=_rank)
    seen: set[str] = set()
    above: dict[str, list[tuple[str, _Wire]]] = {name: [] for name in nodes}
    tops = []
    for root in roots:
        if root.name in seen:
            continue
        tops.append(root)
        seen.add(root.name)
        queue = [root.name]
        for name in queue:
            for other, wire in wires[name]:
                if other in seen:
                    continue
                seen.add(other)
                queue.append(other)
                downward = wire.a.node == name
                down, up = (wire.a_to_b, wire.b_to_a) if downward else (wire.b_to_a, wire.a_to_b)
                above[name].append((other, (down, up, wire.down)))

    def children(name: str) -> Iterator[tuple[str, _Wire]]:
        for other, wire in above[name]:
            if nodes[other].kind is NodeKind.SEGMENT:
                yield from children(other)
            else:
                yield other, wire

    def branch(name: str, wire: _Wire) -> Branch:
        below = sorted(children(name), key=lambda child: order[child[0]])
        return Branch(nodes[name], *wire, tuple(branch(*child) for child in below))

    return tuple(branch(top.name, (Impairment(), Impairment(), False)) for top in tops)


def lines(branches: tuple[Branch, ...], look: Callable[[Branch], Hashable]) -> Iterator[Line]:
    """The lines of the trees, many alike siblings folded.

    Two are alike if `look` says the same of them and of everything below.
    """

    def alike(branch: Branch) -> Hashable:
        return (look(branch), tuple(alike(below) for below in branch.branches))

    def below(siblings: tuple[Branch, ...], prefix: str) -> Iterator[Line]:
        kinds: dict[Hashable, list[Branch]] = {}
        for sibling in siblings:
            kinds.setdefault(alike(sibling), []).append(sibling)
        shown: list[tuple[Branch, int, str]] = []
        for kind in kinds.values():
            if len(kind) < FOLD_FROM:
                shown += [(branch, 0, "") for branch in kind]
            else:
                shown += [(kind[0], 0, ""), (kind[-1], len(kind) - 1, kind[0].node.name)]
        for index, (branch, more, like) in enumerate(shown):
            last = index == len(shown) - 1
            yield Line(f"{prefix}{'└─ ' if last else '├─ '}", branch, more, like)
            if not more:
                yield from below(branch.branches, f"{prefix}{'   ' if last else '│  '}")

    for top in branches:
        yield Line("", top)
        yield from below(top.branches, "")


def _rank(node: Node) -> int:
    """Which node is the top of a tree: the internet, else a router, else whatever there is."""
    return (NodeKind.INTERNET, NodeKind.ROUTER, NodeKind.SEGMENT, NodeKind.HOST).index(node.kind)
