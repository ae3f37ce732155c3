"""Which IPv6 prefixes and addresses everything gets.

As providers do it (RFC 9099, RIPE-690): each attachment to the internet has a
/64 of its own, a router has a prefix delegated to it besides, its LAN is the
first /64 of that, and what is attached to its LAN as a router gets a part of
the rest.  Behind a router with NPTv6 the parts come from its unique local
prefix.  What a file says goes first (`written6`), and what a running lab has is
kept where it still fits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

from lab.errors import InputError
from lab.plan import nptv6, written6
from lab.plan.history import History
from lab.plan.ipv4 import Pool
from lab.plan.ipv6 import LAN_LENGTH, Prefix6
from lab.plan.tree import Attached, Tree, addresses_needed
from lab.topology.model import INTERNET, RouterSpec

# Ordinary global unicast space: real software refuses to work with the one for documentation.
ATTACHMENTS = Prefix6.parse("2a00:1::/32")
DELEGATED = Prefix6.parse("2a02::/16")

_LEFT_OUT = Prefix6.parse("2a02::/32")
"""So that the first is 2a02:1::/48, which reads well."""

_LENGTHS = (48, 56, 60, 62, 63, 64)
"""Of what a router has delegated, by how many are above it: fixed, so that those below may grow."""


@dataclass(frozen=True, slots=True)
class Uplink6:
    """The outward side of a host or router in IPv6."""

    addresses: tuple[int, ...]
    gateway: int

    @property
    def interface_addresses(self) -> tuple[str, ...]:
        """As an interface has them, with prefix length."""
        return tuple(f"{Prefix6.text(number)}/{LAN_LENGTH}" for number in self.addresses)


@dataclass(frozen=True, slots=True)
class Addresses6:
    """Every IPv6 address of a plan."""

    uplinks: dict[str, Uplink6] = field(default_factory=dict)
    """By attached node."""
    delegated: dict[str, Prefix6] = field(default_factory=dict)
    """What is routed to each router."""
    inside: dict[str, Prefix6] = field(default_factory=dict)
    """What a router gives to its LAN and to routers behind it: all it has, unless it translates."""
    lans: dict[str, Prefix6] = field(default_factory=dict)
    """By router; the first part of what it has, unless the file says another."""

    def gateway(self, router: str) -> int:
        """The router's own address in its LAN."""
        return self.lans[router].first + 1


def assign6(tree: Tree, history: History, seed: int) -> Addresses6:
    """IPv6 addresses for everything in `tree` that has IPv6.

    Raises InputError for more routers behind one than any prefix has room for,
    and for what the file asks for and cannot be.
    """
    if not any(spec.ip.v6 for spec in tree.attached):
        return Addresses6()
    return _Assignment(tree, history, seed).addresses


class _Assignment:
    def __init__(self, tree: Tree, history: History, seed: int) -> None:
        self._tree = tree
        self._history = history
        self._seed = seed
        self.addresses = Addresses6()
        self._written: list[tuple[Prefix6, str]] = []
        """Subnets between somebody and the internet that the file chooses."""
        self._lengths = dict(self._wanted())
        self._attach()
        self._delegate(INTERNET, DELEGATED, _LEFT_OUT)
        for router in tree.top_down:
            if router.ip.v6:
                self._below(router)

    def _members(self, upstream: str) -> list[Attached]:
        return [spec for spec in self._tree.members[upstream] if spec.ip.v6]

    def _routers(self, upstream: str) -> list[RouterSpec]:
        return [spec for spec in self._members(upstream) if isinstance(spec, RouterSpec)]

    def _wanted(self) -> Iterator[tuple[str, int]]:
        """The length of the prefix that each router needs."""
        depth = {INTERNET: 0}
        for router in self._tree.top_down:
            depth[router.name] = 1 if router.nptv6 else depth[router.via] + 1
        lengths: dict[str, int] = {}
        for router in reversed(self._tree.top_down):
            if not router.ip.v6:
                continue
            fit = _around([lengths[each.name] for each in self._routers(router.name)])
            if router.nptv6:
                if fit < nptv6.LENGTH:
                    raise InputError(
                        f"the routers behind {router.name} need a /{fit}, and what NPTv6 "
                        f"translates here is a /{nptv6.LENGTH}",
                        remedy="attach fewer routers to it, or leave nptv6 out",
                        where=router.where,
                    )
                fit = nptv6.LENGTH
            usual = _LENGTHS[min(depth[router.via], len(_LENGTHS) - 1)]
            lengths[router.name] = min(usual, fit)
            yield router.name, lengths[router.name]

    def _attach(self) -> None:
        """A /64 for each attachment to the internet."""
        members = self._members(INTERNET)
        chosen: dict[str, Prefix6] = {}
        for spec in members:
            if prefix := written6.subnet_of([spec]):
                written6.check_public(prefix, spec, self._tree)
                what = f"the subnet between {spec.name} and the internet"
                written6.check_free(prefix, spec, self._written, what)
                self._written.append((prefix, what))
                chosen[spec.name] = prefix
        for spec in members:
            settled = self._history.uplinks6.get(spec.name)
            if settled and settled.upstream == INTERNET and spec.name not in chosen:
                # Where the file chose once, it may have to make room again.
                free = not any(map(settled.prefix.overlaps, chosen.values()))
                if free and ATTACHMENTS.contains(settled.prefix):
                    chosen[spec.name] = settled.prefix
        pool = Pool((ATTACHMENTS,), chosen.values())
        for spec in members:
            self._settle([spec], chosen.get(spec.name) or _taken(pool, LAN_LENGTH, spec))

    def _below(self, router: RouterSpec) -> None:
        """The LAN of `router`, and the prefixes of the routers attached to it."""
        prefix = self.addresses.delegated[router.name]
        lan = written6.subnet_of(self._members(router.name), router)
        if router.nptv6:
            prefix = nptv6.unique_local(self._seed, router.name)
            if lan:
                written6.check_translated(lan, router)
                prefix = Prefix6.around(lan.first, nptv6.LENGTH)
        self.addresses.inside[router.name] = prefix
        self.addresses.lans[router.name] = lan = lan or prefix.lan()
        self._settle(self._members(router.name), lan)
        self._delegate(router.name, prefix, lan)

    def _delegate(self, upstream: str, space: Prefix6, left_out: Prefix6) -> None:
        """A prefix out of `space` for each router attached to `upstream`."""
        routers = self._routers(upstream)
        delegated = self.addresses.delegated
        delegated.update(self._chosen(upstream, space, left_out))
        written = [prefix for prefix, _ in self._written] if upstream == INTERNET else []
        taken = [left_out, *written, *(delegated[r.name] for r in routers if r.name in delegated)]
        for router in routers:
            if router.name in delegated:
                continue
            kept = self._history.delegated6.get(router.name)
            if (
                kept is not None
                and kept.length == self._lengths[router.name]
                and space.contains(kept)
                and not any(map(kept.overlaps, taken))
            ):
                taken.append(kept)
                delegated[router.name] = kept
        pool = Pool((space,), taken)
        # The largest first: smaller ones fit between them.
        for router in sorted(routers, key=lambda each: self._lengths[each.name]):
            if router.name not in delegated:
                delegated[router.name] = _taken(pool, self._lengths[router.name], router)

    def _chosen(self, upstream: str, space: Prefix6, lan: Prefix6) -> dict[str, Prefix6]:
        """What is delegated to routers attached to `upstream` whose LAN the file says."""
        chosen: dict[str, Prefix6] = {}
        taken = [(lan, f"the LAN of {upstream}")]
        if upstream == INTERNET:
            taken = [*self._written, (ATTACHMENTS, "where attachments to the internet are")]
        for router in self._routers(upstream):
            inner = written6.subnet_of(self._members(router.name), router)
            if inner is None or router.nptv6:
                continue
            prefix = Prefix6.around(inner.first, self._lengths[router.name])
            if upstream == INTERNET:
                written6.check_public(prefix, router, self._tree)
            else:
                written6.check_within(prefix, inner, router, space)
            what = f"what {router.name} has around its LAN"
            written6.check_free(prefix, router, taken, what)
            taken.append((prefix, what))
            chosen[router.name] = prefix
        return chosen

    def _settle(self, members: Sequence[Attached], subnet: Prefix6) -> None:
        """Addresses in `subnet` for `members`: those of before, or the next ones."""
        gateway = subnet.first + 1
        written = written6.addresses_in(subnet, members)
        former: set[int] = set(written.values())
        given: dict[str, list[int]] = {}
        for spec in members:
            settled = self._history.uplinks6.get(spec.name)
            mine = settled.addresses if settled and settled.upstream == spec.via else ()
            numbers = [subnet.first + (each & (1 << (128 - LAN_LENGTH)) - 1) for each in mine]
            others = [number for number in numbers if number not in written.values()]
            if spec.name in written:
                # Of two it had, the second stays what it was.
                others = [written[spec.name], *(n for n in numbers[1:] if n in others)]
            given[spec.name] = others[: addresses_needed6(spec)]
            former.update(given[spec.name])
        # As in IPv4: neighbours may still know who had an address a moment ago.
        upstream = members[0].via if members else ""
        former.update(self._history.members6.get(upstream, ()))
        free = (number for number in count(gateway + 1) if number not in former)
        for spec in members:
            numbers = given[spec.name]
            while len(numbers) < addresses_needed6(spec):
                numbers.append(next(free))
            self.addresses.uplinks[spec.name] = Uplink6(tuple(numbers), gateway)


def addresses_needed6(spec: Attached) -> int:
    """How many IPv6 addresses it has: a NAT's pool is of IPv4."""
    return 1 if isinstance(spec, RouterSpec) else addresses_needed(spec)


def _around(lengths: Sequence[int]) -> int:
    """The length of a prefix with room for parts of those lengths and a LAN."""
    if not lengths:
        return LAN_LENGTH
    # The LAN is at the beginning, and then no other part begins there.
    needed = sum(1 << (LAN_LENGTH - length) for length in (*lengths, min(lengths)))
    return LAN_LENGTH - (needed - 1).bit_length()


def _taken(pool: Pool[Prefix6], length: int, spec: Attached) -> Prefix6:
    prefix = pool.take(length)
    if prefix is None:
        raise InputError(
            f"no IPv6 prefix is left for {spec.name}",
            remedy="make the topology smaller",
            where=spec.where,
        )
    return prefix
