"""IPv6 prefixes and addresses that a file chooses: which they are, and whether they can be.

A router's LAN is written, or known from an address in it; what is delegated
to the router is then the prefix around it.
"""

from __future__ import annotations

from collections.abc import Sequence

from lab.errors import InputError
from lab.plan.ipv6 import LAN_LENGTH, Prefix6
from lab.plan.tree import Attached, Tree
from lab.topology.model import RouterSpec

_GLOBAL = Prefix6.parse("2000::/3")
_LOCAL = Prefix6.parse("fc00::/7")
_NOT_ROUTED = tuple(map(Prefix6.parse, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
"""What is set aside (RFC 6890) or for documentation (RFC 3849, RFC 9637), and 6to4."""
_LAST_SUBNET = 0xFFFF
_ASSIGNED = "or leave it out to have one assigned"


def subnet_of(members: Sequence[Attached], router: RouterSpec | None = None) -> Prefix6 | None:
    """The subnet of `members` if the file says it: the LAN of `router`, or around an address."""
    if router is not None and router.lan6:
        return Prefix6.parse(router.lan6)
    written = next((spec.address6 for spec in members if spec.address6), "")
    return Prefix6.around(Prefix6.number(written), LAN_LENGTH) if written else None


def check_public(prefix: Prefix6, spec: Attached, tree: Tree) -> None:
    """Raise InputError if the internet does not route `prefix`, which `spec` asks for."""
    if not _GLOBAL.contains(prefix) or any(map(prefix.overlaps, _NOT_ROUTED)):
        raise InputError(
            f"{spec.name} is to have {prefix}, which the internet does not route",
            remedy=f"Choose one in 2a00::/12, such as 2a02:5::/{LAN_LENGTH}, {_ASSIGNED}.",
            where=spec.where,
        )
    for router in tree.routers.values():
        if router.nat64 and prefix.overlaps(Prefix6.parse(router.nat64)):
            raise InputError(
                f"{spec.name} is to have {prefix}, which overlaps {router.nat64}, the NAT64 "
                f"prefix of {router.name}",
                remedy=f"Choose another, {_ASSIGNED}.",
                where=spec.where,
            )


def check_translated(lan: Prefix6, router: RouterSpec) -> None:
    """Raise InputError if NPTv6 can't have `lan` inside."""
    remedy = f"Write one such as fd00:5::/{LAN_LENGTH}, {_ASSIGNED}."
    if not _LOCAL.contains(lan):
        raise InputError(
            f"the LAN of {router.name} is {lan}, and NPTv6 is for unique local addresses "
            f"(RFC 4193)",
            remedy=remedy,
            where=router.where,
        )
    if lan.first >> (128 - LAN_LENGTH) & _LAST_SUBNET == _LAST_SUBNET:
        raise InputError(
            f"the LAN of {router.name} is {lan}, and subnet ffff has no counterpart outside "
            f"(RFC 6296, section 3.4)",
            remedy=remedy,
            where=router.where,
        )


def check_within(prefix: Prefix6, lan: Prefix6, router: RouterSpec, space: Prefix6) -> None:
    """Raise InputError if `prefix`, around `lan`, is not in what the router above has."""
    if not space.contains(prefix):
        raise InputError(
            f"the LAN of {router.name} is {lan}, and {router.via}, where it is attached, has "
            f"{space}",
            remedy=f"Choose one in that, write `lan:` at {router.via} too, {_ASSIGNED}.",
            where=router.where,
        )


def check_free(
    prefix: Prefix6, spec: Attached, taken: Sequence[tuple[Prefix6, str]], what: str
) -> None:
    """Raise InputError if `prefix`, which is `what`, overlaps what somebody else has."""
    for other, whose in taken:
        if prefix.overlaps(other):
            raise InputError(
                f"{what} is {prefix}, which overlaps {other}, {whose}",
                remedy=f"Choose one further away, {_ASSIGNED}.",
                where=spec.where,
            )


def addresses_in(subnet: Prefix6, members: Sequence[Attached]) -> dict[str, int]:
    """The addresses that the file gives to `members`, all of which are in `subnet`.

    Raises InputError for one outside, for the router's own, and for one given twice.
    """
    owners: dict[int, str] = {}
    for spec in members:
        if not spec.address6:
            continue
        number = Prefix6.number(spec.address6)
        if not subnet.first <= number <= subnet.last:
            wrong = f"but the subnet there is {subnet}"
        elif number <= subnet.first + 1:
            wrong = f"which is that of the router in {subnet}"
        elif number in owners:
            wrong = f"and so has {owners[number]}"
        else:
            owners[number] = spec.name
            continue
        raise InputError(
            f"{spec.name} has the address {spec.address6}, {wrong}",
            remedy=f"Choose {Prefix6.text(subnet.first + 2)} or a higher one, {_ASSIGNED}.",
            where=spec.where,
        )
    return {name: number for number, name in owners.items()}
