"""Access links of a plan: who is attached to whom, by which link, and changes of these links."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from lab.errors import InputError
from lab.plan.model import Link, Plan
from lab.plan.names import UPLINKS, core_region, upstream_name
from lab.plan.tree import Attached
from lab.plan.wiring import shaped
from lab.topology.link import LEAST_MTU6, LinkSpec
from lab.topology.model import INTERNET
from lab.topology.problems import one_of


@dataclass(frozen=True, slots=True)
class Attachments:
    """Who is attached to whom in a plan; the internet is one, however many regions it has."""

    links: Mapping[str, Link]
    """By attached node."""

    @classmethod
    def of(cls, plan: Plan) -> Attachments:
        """The attachments of `plan`."""
        return cls({link.a.node: link for link in plan.links if link.a.interface in UPLINKS})

    def upstream(self, node: str) -> str:
        """The router that `node` is attached to, or the internet; empty for the internet itself."""
        link = self.links.get(node)
        return upstream_name(link.b.node) if link else ""

    def above(self, node: str) -> Iterator[str]:
        """What is between `node` and the internet, nearest first, and the internet."""
        while node := self.upstream(node):
            yield node

    def below(self, router: str) -> Iterator[str]:
        """`router` and everything behind it."""
        behind: dict[str, list[str]] = {}
        for node in self.links:
            behind.setdefault(self.upstream(node), []).append(node)
        reached = [router]
        for one in reached:
            reached += behind.get(one, ())
        yield from reached


def find_link(plan: Plan, one: str, other: str) -> Link:
    """The link by which one of the two nodes is attached to the other; InputError if none is.

    The internet may be named by the region that is meant, too.
    """
    attachments = Attachments.of(plan)
    for node, via in ((one, other), (other, one)):
        link = attachments.links.get(node)
        if link and via in (upstream_name(link.b.node), link.b.node, core_region(link.b.node)):
            return link
    for link in plan.links:
        if regions := core_region(link.a.node):
            ends = {regions, link.a.node}, {core_region(link.b.node), link.b.node}
            if any(one in a and other in b for a, b in (ends, ends[::-1])):
                return link
    names = [node.name for node in plan.nodes if node.name in attachments.links]
    for name in (one, other):
        if name not in (*names, INTERNET):
            raise InputError(
                f"lab {plan.lab!r} has no node {name!r}", remedy=one_of(name, names, "nodes")
            )
    there = [f"{name} {attachments.upstream(name)}" for name in (one, other) if name in names]
    raise InputError(
        f"there is no link between {one} and {other}",
        remedy=f"links that there are: {', '.join(there) or 'none of the internet'}",
    )


def upper_end(link: Link) -> str:
    """What that node is attached to; between regions, the earlier one."""
    between = core_region(link.a.node)
    return link.b.node if between else upstream_name(link.b.node)


def of_replaced_wire(link: Link) -> str:
    """What to say of a link that is on another wire now (`lab.plan.diff.rewired`)."""
    return (
        f"the wire of {link.a.node} to {upper_end(link)} was replaced:"
        " what was on it at that moment is lost"
    )


def declared_link(plan: Plan, link: Link) -> LinkSpec:
    """What `link` is like in the file, or since the last move."""
    topology, node = plan.topology, link.a.node
    if topology is not None and (region := core_region(node)):
        regions = topology.internet.regions
        return regions.between(region, core_region(link.b.node)) if regions else LinkSpec()
    specs: tuple[Attached, ...] = (*topology.routers, *topology.nodes) if topology else ()
    return next((spec.link for spec in specs if spec.name == node), LinkSpec())


def with_link(plan: Plan, link: Link) -> Plan:
    """`plan` with `link` instead of the one of that name."""
    links = (link if each.name == link.name else each for each in plan.links)
    return replace(plan, links=tuple(links))


def set_link(plan: Plan, one: str, other: str, spec: LinkSpec | None) -> Plan:
    """`plan` with another character of a link, or with that which was declared, and whole.

    Raises InputError if there is no such link, or nothing here can carry it.
    """
    link = find_link(plan, one, other)
    wanted = declared_link(plan, link) if spec is None else spec
    if wanted.mtu < LEAST_MTU6 and _has_ipv6(plan, link):
        raise InputError(
            f"the link of {link.a.node} carries IPv6, and an MTU of {wanted.mtu} is too small",
            remedy=f"use mtu={LEAST_MTU6} or more (RFC 8200, section 5)",
        )
    after = shaped(link, wanted, netem=plan.netem, seed=plan.netem_seed, splice=plan.splice)
    if after is None:
        raise InputError(
            f"the link of {link.a.node} is to be carried by the kernel, which has no netem here",
            remedy="leave the backend at auto: then it is carried in user space",
        )
    return with_link(plan, replace(after, down=False) if spec is None else after)


def _has_ipv6(plan: Plan, link: Link) -> bool:
    """Whether one of its ends has an IPv6 address."""
    return any(
        ":" in address
        for end in (link.a, link.b)
        for port in plan.node(end.node).interfaces
        if port.name == end.interface
        for address in port.addresses
    )


def cut_link(plan: Plan, one: str, other: str, *, down: bool) -> Plan:
    """`plan` with a link cut, or whole again; InputError if there is no such link."""
    return with_link(plan, replace(find_link(plan, one, other), down=down))
