"""Addresses and prefixes as numbers (those of IPv6 in `ipv6`), and pools to take prefixes from.

Compilation handles thousands of addresses; `ipaddress` objects would take
most of its time.  Text is parsed strictly, once, where a person wrote it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Generic, NamedTuple, Self, TypeVar


def address_text(address: int) -> str:
    """`address` in dotted form."""
    return f"{address >> 24}.{address >> 16 & 255}.{address >> 8 & 255}.{address & 255}"


def address_number(text: str) -> int:
    """The number of a dotted address; ValueError if it isn't one."""
    parts = text.split(".")
    if len(parts) != 4:
        raise ValueError(text)
    number = 0
    for part in parts:
        # Leading zeros are refused: some programs read them as octal.
        if not (part.isascii() and part.isdigit() and str(int(part)) == part and int(part) < 256):
            raise ValueError(text)
        number = number << 8 | int(part)
    return number


class Prefix(NamedTuple):
    """A block of addresses whose size is a power of two."""

    first: int
    length: int

    @classmethod
    def bits(cls) -> int:
        """How many bits an address has."""
        return 32

    @classmethod
    def number(cls, text: str) -> int:
        """The number of an address; ValueError if `text` isn't one."""
        return address_number(text)

    @classmethod
    def text(cls, address: int) -> str:
        """An address as people write it."""
        return address_text(address)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The prefix written as "192.168.1.0/24"; ValueError if it isn't one."""
        address, _, length = text.partition("/")
        if not (length.isascii() and length.isdigit() and int(length) <= cls.bits()):
            raise ValueError(text)
        prefix = cls(cls.number(address), int(length))
        if prefix.first % prefix.size:
            raise ValueError(text)
        return prefix

    @classmethod
    def around(cls, address: int, length: int) -> Self:
        """The prefix of that length that `address` lies in."""
        rest = cls.bits() - length
        return cls(address >> rest << rest, length)

    @property
    def size(self) -> int:
        return 1 << (self.bits() - self.length)

    @property
    def last(self) -> int:
        """The last address; of an IPv4 subnet, that of broadcasts."""
        return self.first + self.size - 1

    def usable(self, address: int) -> bool:
        """Whether a host can have `address` in this subnet."""
        return self.first < address < self.last

    def overlaps(self, other: Self) -> bool:
        return self.first <= other.last and other.first <= self.last

    def __str__(self) -> str:
        return f"{self.text(self.first)}/{self.length}"


P = TypeVar("P", bound=Prefix)


class Pool(Generic[P]):
    """Hands out prefixes of a space in ascending order, around those that are taken."""

    def __init__(self, spaces: Iterable[P], taken: Iterable[P]) -> None:
        self._spaces = tuple(spaces)
        self._next = [space.first for space in self._spaces]
        self._starts, self._ends = _merged(taken)

    def take(self, length: int) -> P | None:
        """The next free prefix of that length; None if there is none left."""
        for index, space in enumerate(self._spaces):
            size = 1 << (space.bits() - length)
            first = -(-self._next[index] // size) * size
            while first + size - 1 <= space.last:
                behind = bisect_left(self._ends, first)
                if behind == len(self._ends) or self._starts[behind] >= first + size:
                    self._next[index] = first + size
                    return type(space)(first, length)
                first = -(-(self._ends[behind] + 1) // size) * size
        return None


def _merged(prefixes: Iterable[Prefix]) -> tuple[list[int], list[int]]:
    """First and last addresses of the disjoint ranges that `prefixes` cover, ascending."""
    starts: list[int] = []
    ends: list[int] = []
    for prefix in sorted(prefixes):
        if ends and prefix.first <= ends[-1]:
            ends[-1] = max(ends[-1], prefix.last)
        else:
            starts.append(prefix.first)
            ends.append(prefix.last)
    return starts, ends
