"""The shape of a topology: who is attached to whom, and where NATs divide it.

Everything but the internet has exactly one upstream, so a topology is a tree.
Its address realms are the parts between NATs: inside one, prefixes are routed
and therefore distinct; across a NAT they may be used again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from lab.errors import InputError
from lab.topology.behaviour import PortPolicy
from lab.topology.changes import Move
from lab.topology.model import INTERNET, Ip, NodeSpec, RouterSpec, Topology

Attached = RouterSpec | NodeSpec
"""What can be attached to the internet, to a router, or to a switch."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A topology whose attachments were resolved.

    All orders are those of declaration, routers before nodes; `top_down` is
    the order in which a router comes after its upstream.
    """

    routers: dict[str, RouterSpec]
    members: dict[str, tuple[Attached, ...]]
    """Who is attached to the internet, to a router's LAN, or to a switch."""
    realms: dict[str, str]
    """The realm of a router's LAN: the router with the NAT above it, or the internet.  A switch
    is one of its own."""
    top_down: tuple[RouterSpec, ...]
    nodes: tuple[NodeSpec, ...]
    switches: tuple[str, ...] = ()
    roamed: frozenset[str] = frozenset()
    """Routers and switches that hosts leave or come to while the lab runs."""

    @classmethod
    def of(cls, topology: Topology) -> Tree:
        """The tree of `topology`.

        Raises InputError for a name used twice, a missing upstream or a
        circle of routers: the loader finds these first in a file, and nothing
        else needs to think of them.
        """
        routers = {router.name: router for router in topology.routers}
        switches = tuple(switch.name for switch in topology.switches)
        # Whatever a host has elsewhere, if it came from there.
        nodes = tuple(
            replace(node, ip=Ip.LINK_LOCAL) if node.via in switches else node
            for node in topology.nodes
        )
        members = _members((*topology.routers, *nodes), (INTERNET, *routers, *switches), switches)
        realms = {INTERNET: INTERNET, **{name: name for name in switches}}
        top_down: list[RouterSpec] = []
        below = [INTERNET]
        for upstream in below:
            for spec in members[upstream]:
                if isinstance(spec, RouterSpec):
                    realms[spec.name] = spec.name if spec.nat else realms[upstream]
                    top_down.append(spec)
                    below.append(spec.name)
        if len(top_down) < len(routers):
            circle = [router for router in topology.routers if router.name not in realms]
            raise InputError(
                f"routers in a circle: {', '.join(router.name for router in circle)}",
                remedy="Attach one of them to the internet: `via: internet`.",
                where=circle[0].where,
            )
        return cls(
            routers=routers,
            members=members,
            realms=realms,
            top_down=tuple(top_down),
            nodes=nodes,
            switches=switches,
            roamed=frozenset(_roamed(topology)),
        )

    @property
    def attached(self) -> Iterator[Attached]:
        """Everything that has an upstream."""
        yield from self.routers.values()
        yield from self.nodes

    def behind(self, router: str) -> Iterator[Attached]:
        """What a NAT in `router` sees as inside: its members, then those of routed networks."""
        below = [router]
        for upstream in below:
            for spec in self.members[upstream]:
                yield spec
                if isinstance(spec, RouterSpec) and spec.nat is None:
                    below.append(spec.name)

    def outward(self, upstream: str) -> Iterator[str]:
        """The realms that a member of `upstream` can open a flow to, nearest first."""
        realm = self.realms[upstream]
        if realm in self.switches:
            yield realm
            return
        while realm != INTERNET:
            yield realm
            realm = self.realms[self.routers[realm].via]
        yield INTERNET

    def nat64(self, upstream: str) -> str:
        """The prefix of the nearest NAT64 above a member of `upstream`; empty if there is none."""
        while upstream in self.routers:
            if prefix := self.routers[upstream].nat64:
                return prefix
            upstream = self.routers[upstream].via
        return ""

    def carrier_grade(self, router: RouterSpec) -> bool:
        """Whether `router` is a carrier's NAT: RFC 6598 space belongs behind it."""
        if router.nat is None:
            return False
        return router.nat.ports.policy is PortPolicy.BLOCK or any(
            isinstance(spec, RouterSpec) and spec.nat for spec in self.members[router.name]
        )


def has_ip4(spec: Attached) -> bool:
    """Whether it has IPv4 where it is attached: for itself, or for what its NAT64 translates."""
    return spec.ip.v4 or (isinstance(spec, RouterSpec) and bool(spec.nat64))


def _members(
    attached: Sequence[Attached], upstreams: Sequence[str], switches: Collection[str]
) -> dict[str, tuple[Attached, ...]]:
    """Who of `attached` hangs on each of `upstreams`; InputError if the names make no sense."""
    members: dict[str, list[Attached]] = {name: [] for name in upstreams}
    seen = {INTERNET, *switches}
    for spec in attached:
        if spec.name in seen:
            raise InputError(
                f"the name {spec.name} is used twice",
                remedy="Routers, switches and nodes share one space of names, and "
                "`internet` is taken.",
                where=spec.where,
            )
        seen.add(spec.name)
        if spec.via not in members:
            raise InputError(
                f"{spec.name} is attached to {spec.via}, which is not a router or switch",
                remedy="`via` names a router or switch of this topology, or `internet`.",
                where=spec.where,
            )
        members[spec.via].append(spec)
    return {name: tuple(specs) for name, specs in members.items()}


def _roamed(topology: Topology) -> Iterator[str]:
    home = {node.name: node.via for node in topology.nodes}
    for happening in topology.timeline:
        for change in happening.changes:
            if isinstance(change, Move) and change.node in home:
                yield from (home[change.node], change.via)


def addresses_needed(spec: Attached) -> int:
    """How many IPv4 addresses it has, if any.

    A STUN server answers from two (RFC 5780, section 3); a NAT may have a pool.
    """
    if isinstance(spec, RouterSpec):
        return spec.nat.pool if spec.nat is not None else 1
    return 2 if "stun" in spec.services else 1
