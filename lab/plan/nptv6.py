"""Network prefix translation (RFC 6296): which subnet outside stands for which inside.

The prefixes of both sides are /48s, and the difference of their sums is made
up for in the 16 bits behind them (section 3.4): a whole address has the same
ones' complement sum on both sides, so that no checksum has to change.
"""

from __future__ import annotations

from collections.abc import Iterable

from lab import seeds
from lab.plan.ipv6 import LAN_LENGTH, Prefix6

LENGTH = 48
"""Of a prefix that is translated by its subnet bits (section 3.4)."""

_UNIQUE_LOCAL = 0xFD << 120
"""Locally assigned (RFC 4193, section 3.1)."""


def unique_local(seed: int, router: str) -> Prefix6:
    """The prefix inside of `router`: 40 random bits (RFC 4193, section 3.2.1)."""
    site = seeds.derive(seed, "unique-local", router) & 0xFF_FFFF_FFFF
    return Prefix6(_UNIQUE_LOCAL | site << 80, LENGTH)


def outside(lan: Prefix6, internal: Prefix6, external: Prefix6) -> Prefix6:
    """The subnet that `lan`, a part of `internal`, is seen as outside, in `external`.

    Subnet 0xffff has no counterpart (section 3.4): ones' complement has two zeros.
    """
    subnet = lan.first >> (128 - LAN_LENGTH) & 0xFFFF
    difference = _sum(internal) + (0xFFFF - _sum(external))
    translated = _folded(subnet + difference)
    if translated == 0xFFFF:
        translated = 0
    return Prefix6(external.first | translated << (128 - LAN_LENGTH), LAN_LENGTH)


def renumbered(subnets: Iterable[tuple[str, str]], address: str, *, outward: bool) -> str:
    """`address` on the other side, where a router has `subnets` inside, each with one outside.

    An address that is in none of them, or is of IPv4, stays as it is.
    """
    if ":" not in address:
        return address
    number = Prefix6.number(address)
    for pair in subnets:
        here, there = map(Prefix6.parse, pair if outward else pair[::-1])
        if here.first <= number <= here.last:
            return Prefix6.text(there.first + number - here.first)
    return address


def _sum(prefix: Prefix6) -> int:
    return _folded(sum(prefix.first >> shift & 0xFFFF for shift in (112, 96, 80)))


def _folded(number: int) -> int:
    while number > 0xFFFF:
        number = (number & 0xFFFF) + (number >> 16)
    return number
