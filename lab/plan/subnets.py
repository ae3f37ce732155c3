"""Which prefix every subnet gets: written in the file, kept from before, or assigned.

The internet hands every attachment a subnet of its own out of ordinary global
unicast space, because real software refuses to work with the rest.  LANs
behind a NAT get private space, behind a carrier's NAT shared space (RFC 6598),
and routed ones space that is routed in their realm.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass

from lab.errors import InputError
from lab.plan.history import History
from lab.plan.ipv4 import Pool, Prefix, address_number, address_text
from lab.plan.tree import Attached, Tree, addresses_needed, has_ip4
from lab.topology.model import INTERNET, RouterSpec

_Spaces = tuple[Prefix, ...]

ATTACHMENTS: _Spaces = (Prefix.parse("45.0.0.0/9"),)
ROUTED: _Spaces = (Prefix.parse("45.128.0.0/9"),)
CARRIER: _Spaces = (Prefix.parse("100.64.0.0/10"),)
HOME: _Spaces = (Prefix.parse("192.168.0.0/16"), Prefix.parse("10.0.0.0/8"))

_LEFT_OUT = Prefix.parse("192.168.0.0/24")
"""So that the first home is 192.168.1.0/24, as people expect."""
_PRIVATE: _Spaces = (*HOME, *CARRIER, Prefix.parse("172.16.0.0/12"))
_UNUSABLE: _Spaces = tuple(map(Prefix.parse, ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3")))

_LAN_LENGTH = 24
"""LANs are at least this large, so that members can be added without renumbering."""


@dataclass(frozen=True, slots=True, eq=False)
class Subnet:
    """A LAN, or the point-to-point subnet of one attachment to the internet."""

    members: tuple[Attached, ...]
    realm: str
    router: RouterSpec | None = None
    """Whose LAN it is; None for an attachment to the internet."""

    @property
    def upstream(self) -> str:
        """What the members are attached to."""
        return self.router.name if self.router else INTERNET

    @property
    def longest(self) -> int:
        """The longest prefix that has room for the members and the gateway."""
        needed = 1 + sum(map(addresses_needed, self.members))
        return 32 - (needed + 1).bit_length()

    @property
    def where(self) -> str:
        return self.router.where if self.router else self.members[0].where

    def __str__(self) -> str:
        if self.router:
            return f"the LAN of {self.router.name}"
        return f"the subnet between {self.members[0].name} and the internet"


def choose(tree: Tree, history: History) -> list[tuple[Subnet, Prefix]]:
    """Every subnet of `tree` with its prefix, a router's LAN after the subnet of its uplink.

    Raises InputError for what is written and cannot be: no prefix, too small,
    or overlapping another that must be told apart from it.
    """
    subnets = tuple(_subnets(tree))
    chosen = {subnet: prefix for subnet in subnets if (prefix := _written(subnet, history))}
    claims = _Claims(tree)
    for subnet, prefix in chosen.items():
        if clash := claims.clash(subnet, prefix):
            raise InputError(
                f"{subnet} is {prefix}, which overlaps {clash[1]}, {clash[0]}",
                remedy="Choose one that is free, or leave it out to have one assigned.",
                where=subnet.where,
            )
        claims.add(subnet, prefix)
    for subnet in subnets:
        if subnet not in chosen:
            kept = _kept(subnet, history)
            if kept and not claims.clash(subnet, kept):
                claims.add(subnet, kept)
                chosen[subnet] = kept
    taken = (_LEFT_OUT, *chosen.values())
    pools = {spaces: Pool(spaces, taken) for spaces in (ATTACHMENTS, ROUTED, CARRIER, HOME)}
    return [(subnet, chosen.get(subnet) or _assigned(tree, subnet, pools)) for subnet in subnets]


def _subnets(tree: Tree) -> Iterator[Subnet]:
    for spec in tree.members[INTERNET]:
        if has_ip4(spec):
            yield Subnet((spec,), INTERNET)
    for router in tree.top_down:
        if router.ip.v4:
            members = tuple(filter(has_ip4, tree.members[router.name]))
            yield Subnet(members, tree.realms[router.name], router)


def _written(subnet: Subnet, history: History) -> Prefix | None:
    """What the file says about the prefix of `subnet`, by itself or by a member's address."""
    if subnet.router and subnet.router.lan:
        return _written_lan(subnet, subnet.router)
    written = [number for spec in subnet.members if (number := written_address(spec))]
    if not written:
        return None
    kept = _kept(subnet, history)
    if kept and all(map(kept.usable, written)):
        return kept
    length = min(subnet.longest, _LAN_LENGTH) if subnet.router else subnet.longest
    while not Prefix.around(written[0], length).usable(written[0]):
        length -= 1
    return Prefix.around(written[0], length)


def _written_lan(subnet: Subnet, router: RouterSpec) -> Prefix:
    try:
        prefix = Prefix.parse(router.lan)
    except ValueError:
        raise InputError(
            f"{router.name} has the LAN {router.lan}, which is not an IPv4 prefix",
            remedy="Write the first address and the length, such as 192.168.1.0/24.",
            where=router.where,
        ) from None
    if any(map(prefix.overlaps, _UNUSABLE)):
        raise InputError(
            f"{router.name} has the LAN {prefix}, where hosts cannot have addresses",
            remedy="Choose a prefix in 192.168.0.0/16 or 10.0.0.0/8.",
            where=router.where,
        )
    if prefix.length > subnet.longest:
        raise InputError(
            f"{subnet} is {prefix}, too small for the router and what is attached to it",
            remedy=f"Make it a /{subnet.longest} or larger.",
            where=router.where,
        )
    return prefix


def written_address(spec: Attached) -> int:
    """The address that the file gives to `spec`, 0 if it gives none.

    Raises InputError if it is not one that a host can have.
    """
    if not spec.address:
        return 0
    try:
        number = address_number(spec.address)
    except ValueError:
        number = 0
    if any(space.first <= number <= space.last for space in _UNUSABLE):
        raise InputError(
            f"{spec.name} has the address {spec.address}, which no host can have in IPv4",
            remedy=f"Write four numbers, such as {address_text(ATTACHMENTS[0].first + 2)}.",
            where=spec.where,
        )
    return number


def _kept(subnet: Subnet, history: History) -> Prefix | None:
    """The prefix that `subnet` has already, if it still fits its members and its realm."""
    if subnet.router:
        settled = history.lans.get(subnet.router.name)
    else:
        settled = history.uplinks.get(subnet.members[0].name)
    if not settled or settled.upstream != subnet.upstream:
        return None
    prefix = settled.prefix
    private = any(map(prefix.overlaps, _PRIVATE))
    if prefix.length > subnet.longest or (subnet.router and private == (subnet.realm == INTERNET)):
        return None
    return prefix


def _assigned(tree: Tree, subnet: Subnet, pools: dict[_Spaces, Pool[Prefix]]) -> Prefix:
    """The next free prefix of the kind that `subnet` should have."""
    length, spaces = min(subnet.longest, _LAN_LENGTH), HOME
    if not subnet.router:
        length, spaces = subnet.longest, ATTACHMENTS
    elif subnet.realm == INTERNET:
        spaces = ROUTED
    elif tree.carrier_grade(subnet.router):
        spaces = CARRIER
    prefix = pools[spaces].take(length)
    if prefix is None:
        raise InputError(
            f"no prefix is left for {subnet}: {' and '.join(map(str, spaces))} are used up",
            remedy="Give it one by `lan:`, or make the topology smaller.",
            where=subnet.where,
        )
    return prefix


class _Claims:
    """Prefixes that are given already, and which others they exclude."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._ascending: list[Prefix] = []
        self._subnets: dict[Prefix, list[Subnet]] = {}
        self._lengths: set[int] = set()

    def add(self, subnet: Subnet, prefix: Prefix) -> None:
        """Note that `subnet` has `prefix`."""
        if prefix not in self._subnets:
            insort(self._ascending, prefix)
            self._lengths.add(prefix.length)
        self._subnets.setdefault(prefix, []).append(subnet)

    def clash(self, subnet: Subnet, prefix: Prefix) -> tuple[Subnet, Prefix] | None:
        """A claim that does not let `subnet` have `prefix`."""
        for claimed in self._overlapping(prefix):
            for other in self._subnets.get(claimed, ()):
                if not (self._told_apart(subnet, other) and self._told_apart(other, subnet)):
                    return other, claimed
        return None

    def _overlapping(self, prefix: Prefix) -> Iterator[Prefix]:
        """Of two prefixes that overlap, one contains the other."""
        for length in self._lengths:
            if length < prefix.length:
                yield Prefix.around(prefix.first, length)
        index = bisect_left(self._ascending, (prefix.first, prefix.length))
        while index < len(self._ascending) and self._ascending[index].first <= prefix.last:
            yield self._ascending[index]
            index += 1

    def _told_apart(self, inner: Subnet, outer: Subnet) -> bool:
        """Whether nobody is confused if the two use the same addresses.

        They are in different realms; `outer` is not the internet, which
        `inner` must reach; nor is it on the other side of the router whose
        NAT makes the realm of `inner`.
        """
        if outer.realm in (inner.realm, INTERNET):
            return False
        return inner.realm == INTERNET or self._tree.routers[inner.realm].via != outer.upstream
