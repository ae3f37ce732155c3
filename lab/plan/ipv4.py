"""IPv4 addresses and prefixes as numbers, and pools to take prefixes from.

Compilation handles thousands of addresses; `ipaddress` objects would take
most of its time.  Text is parsed strictly, once, where a person wrote it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple


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
    def parse(cls, text: str) -> Prefix:
        """The prefix written as "192.168.1.0/24"; ValueError if it isn't one."""
        address, _, length = text.partition("/")
        if not (length.isascii() and length.isdigit() and int(length) <= 32):
            raise ValueError(text)
        prefix = cls(address_number(address), int(length))
        if prefix.first % prefix.size:
            raise ValueError(text)
        return prefix

    @classmethod
    def around(cls, address: int, length: int) -> Prefix:
        """The prefix of that length that `address` lies in."""
        return cls(address >> (32 - length) << (32 - length), length)

    @property
    def size(self) -> int:
        return 1 << (32 - self.length)

    @property
    def last(self) -> int:
        """The broadcast address."""
        return self.first + self.size - 1

    def usable(self, address: int) -> bool:
        """Whether a host can have `address` in this subnet."""
        return self.first < address < self.last

    def overlaps(self, other: Prefix) -> bool:
        return self.first <= other.last and other.first <= self.last

    def __str__(self) -> str:
        return f"{address_text(self.first)}/{self.length}"


class Pool:
    """Hands out prefixes of a space in ascending order, around those that are taken."""

    def __init__(self, spaces: Iterable[Prefix], taken: Iterable[Prefix]) -> None:
        self._spaces = tuple(spaces)
        self._next = [space.first for space in self._spaces]
        self._starts, self._ends = _merged(taken)

    def take(self, length: int) -> Prefix | None:
        """The next free prefix of that length; None if there is none left."""
        size = 1 << (32 - length)
        for index, space in enumerate(self._spaces):
            first = -(-self._next[index] // size) * size
            while first + size - 1 <= space.last:
                behind = bisect_left(self._ends, first)
                if behind == len(self._ends) or self._starts[behind] >= first + size:
                    self._next[index] = first + size
                    return Prefix(first, length)
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
