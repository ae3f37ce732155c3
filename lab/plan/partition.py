"""Partitions: groups of nodes between which nothing passes, as fences in what joins them.

A topology is a tree, so the way between two nodes goes through the lowest
router, or the internet, that is above both.  There it enters and leaves by two
ports that stand for the groups, and a fence between these ports stops what
passes between the groups and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from msgspec.structs import replace

from lab.errors import InputError
from lab.plan.attachment import Attachments
from lab.plan.model import Fence, Node, NodeKind, Plan
from lab.plan.names import core_region
from lab.topology.changes import Partition
from lab.topology.model import INTERNET
from lab.topology.problems import one_of

_Groups = tuple[frozenset[str], ...]


def format_groups(partition: Partition) -> str:
    """`a, b / c`; a single group is kept apart from the rest."""
    groups = [", ".join(group) for group in partition]
    return " / ".join(groups if len(groups) > 1 else [*groups, "the rest"])


def described(partition: Partition) -> str:
    """`partition of a, b from c`; a single group is kept apart from the rest."""
    groups = [", ".join(group) for group in partition]
    return f"partition of {' from '.join(groups if len(groups) > 1 else [*groups, 'the rest'])}"


def fenced(plan: Plan) -> Plan:
    """`plan` with the fences that its partitions ask for, and no others.

    Raises InputError for a group that can't be told from its surroundings.
    """
    if not plan.partitions and not any(node.fences for node in plan.nodes):
        return plan
    division = _Division(plan, Attachments.of(plan))
    fences: dict[str, list[Fence]] = {}
    for partition in plan.partitions:
        for node, fence in division.fences(partition):
            fences.setdefault(node, []).append(replace(fence, partition=described(partition)))
    return replace(
        plan,
        nodes=tuple(
            replace(node, fences=tuple(fences.get(node.name, ())))
            if node.fences or node.name in fences
            else node
            for node in plan.nodes
        ),
    )


@dataclass(frozen=True, slots=True)
class _Division:
    plan: Plan
    attachments: Attachments

    def fences(self, partition: Partition) -> Iterator[tuple[str, Fence]]:
        """Each fence of `partition`, and the node that it is in."""
        groups = self._hosts(partition)
        for one, other in combinations(groups, 2):
            for junction, (here, there) in self._junctions(one, other).items():
                for name in sorted(here):
                    self._check_whole(name, one)
                for name in sorted(there):
                    self._check_whole(name, other)
                yield from self._between(junction, sorted(here), sorted(there))

    def _hosts(self, partition: Partition) -> _Groups:
        """The hosts of each group; a single group has the rest for another one."""
        found: list[frozenset[str]] = []
        taken: dict[str, str] = {}
        for group in partition:
            hosts: set[str] = set()
            for name in group:
                for host in self._meant(name):
                    if host in taken and host not in hosts:
                        raise InputError(
                            f"{host} is in two groups, by {taken[host]} and by {name}",
                            remedy="groups are disjoint; a router stands for all behind it",
                        )
                    taken[host] = name
                    hosts.add(host)
            found.append(frozenset(hosts))
        if len(found) == 1:
            everybody = (n.name for n in self.plan.nodes if n.kind is NodeKind.HOST)
            found.append(frozenset(everybody) - found[0])
        return tuple(found)

    def _meant(self, name: str) -> Iterator[str]:
        """The hosts that `name` stands for: itself, all behind it, or all of a region."""
        links = self.attachments.links
        kinds = {node.name: node.kind for node in self.plan.nodes}
        tops = [name] if name in links else []
        if not tops:
            tops = [n for n, link in links.items() if core_region(link.b.node) == name]
        if not tops:
            known = [*links, *filter(None, map(core_region, kinds))]
            raise InputError(
                f"lab {self.plan.lab!r} has no node, router or region {name!r}",
                remedy=one_of(name, known, "names"),
            )
        for top in tops:
            for one in self.attachments.below(top):
                if kinds[one] is NodeKind.HOST:
                    yield one

    def _junctions(
        self, one: frozenset[str], other: frozenset[str]
    ) -> dict[str, tuple[set[str], set[str]]]:
        """What joins the groups, and the branches below it that lead to each."""
        ways = {host: (host, *self.attachments.above(host)) for host in (*one, *other)}
        branches: dict[str, tuple[set[str], set[str]]] = {}
        for first in one:
            for second in other:
                # From the internet down, until the ways part.
                here, there = ways[first][::-1], ways[second][::-1]
                depth = next(i for i, (a, b) in enumerate(zip(here, there, strict=False)) if a != b)
                ends = branches.setdefault(here[depth - 1], (set(), set()))
                ends[0].add(here[depth])
                ends[1].add(there[depth])
        return branches

    def _check_whole(self, branch: str, group: frozenset[str]) -> None:
        """Raise InputError if others than `group` would be cut off with a branch."""
        kinds = {node.name: node.kind for node in self.plan.nodes}
        others = [
            one
            for one in self.attachments.below(branch)
            if kinds[one] is NodeKind.HOST and one not in group
        ]
        if others:
            raise InputError(
                f"{others[0]} is behind {branch} like members of a group, and not in that group",
                remedy=f"put {others[0]} into the group too, or name {branch}",
            )

    def _between(
        self, junction: str, here: list[str], there: list[str]
    ) -> Iterator[tuple[str, Fence]]:
        places: dict[str, tuple[list[str], list[str]]] = {}
        for side, names in enumerate((here, there)):
            for name in names:
                end = self.attachments.links[name].b
                places.setdefault(end.node, ([], []))[side].append(end.interface)
        for place, (ports, others) in places.items():
            if ports and others:
                yield place, Fence(ports=tuple(ports), others=tuple(others))
        if junction != INTERNET or len(places) == 1:
            return
        # Between regions, where a packet goes is all that tells whose it is.
        for place, sides in places.items():
            for ports, far in ((sides[0], 1), (sides[1], 0)):
                prefixes = tuple(
                    prefix
                    for other, ends in places.items()
                    if other != place
                    for prefix in _prefixes(self.plan.node(other), ends[far])
                )
                if ports and prefixes:
                    yield place, Fence(ports=tuple(ports), prefixes=prefixes)


def _prefixes(core: Node, ports: list[str]) -> Iterator[str]:
    """What is reached through these ports of a core."""
    wanted = set(ports)
    for interface in core.interfaces:
        if interface.name in wanted:
            yield from interface.addresses
    for route in core.routes:
        if route.interface in wanted:
            yield route.destination
