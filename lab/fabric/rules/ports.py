"""How a NAT looks for a port that nobody holds: in which pools, and in which order."""

from __future__ import annotations

from dataclasses import dataclass

from lab.errors import InputError
from lab.topology.behaviour import (
    PortPolicy,
    Ports,
)

ANY_PORTS = (1024, 65535)
_LARGEST_STRIDE = 64


_LARGE_POOL = 4096
"""Ports from which drawing at random practically always finds a free one."""


@dataclass(frozen=True, slots=True)
class Pool:
    """A range of external ports, inclusive, for one inside host or for all."""

    first: int
    last: int
    host: str = ""
    suffix: str = ""

    @property
    def count(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Level:
    """A chain that jumps to another a number of times."""

    name: str
    times: int
    target: str


@dataclass(frozen=True, slots=True)
class Search:
    """How a free port is looked for: at random, or counting up by a stride."""

    draw: str
    """The chain that makes one draw."""
    generator: str
    meaning: str
    levels: tuple[Level, ...]
    stride: int = 1
    parity: bool = False
    """Whether pairs of ports are drawn, of which the inside port's parity chooses one."""

    @property
    def shift(self) -> int:
        """The generator counts in host order: shifted by 16, its lower half lands in the port."""
        return 17 if self.parity else 16

    @property
    def name(self) -> str:
        """The chain that draws until a port is claimed or patience ends."""
        return self.levels[0].name

    def count(self, pool: Pool) -> int:
        """How many values the generator has: a multiple of the stride, so that it wraps evenly."""
        if self.parity:
            return max((pool.last + 1) // 2 - (pool.first + 1) // 2, 1)
        return max(pool.count // self.stride, 1) * self.stride

    def offset(self, pool: Pool) -> int:
        """The generator's smallest value: the first draw counts `stride` times to `first`."""
        if self.parity:
            return (pool.first + 1) // 2
        return pool.first - (self.stride - 1)


def searches_of(ports: Ports, pools: tuple[Pool, ...], where: str) -> tuple[Search, ...]:
    """The searches to make in turn; InputError for a stride that is out of range."""
    if ports.policy is PortPolicy.SEQUENTIAL:
        if not 1 <= ports.stride <= _LARGEST_STRIDE:
            raise InputError(
                f"stride {ports.stride} of the port sequence is out of range",
                remedy=f"Give a stride from 1 to {_LARGEST_STRIDE}.",
                where=where,
            )
        # Replaced rules count from the start again, past all ports still held.
        return (_upward("rise", "flight", "stretch", stride=ports.stride),)
    if min(pool.count for pool in pools) >= _LARGE_POOL:
        return (_at_random(16, parity=ports.parity),)
    # In a small pool luck may fail while ports are left; counting finds them.
    return (
        _at_random(8, parity=ports.parity),
        _upward("flight", "stretch", parity=ports.parity),
    )


def _at_random(draws: int, *, parity: bool) -> Search:
    levels = (Level("draws", draws, "draw"),)
    return Search("draw", "random", "any that is free", levels, parity=parity)


def _upward(*levels: str, stride: int = 1, parity: bool = False) -> Search:
    """Eight draws for one level, 64 for two, 512 for three."""
    targets = (*levels[1:], "step")
    return Search(
        "step",
        "inc",
        "the next that is free",
        tuple(Level(name, 8, target) for name, target in zip(levels, targets, strict=True)),
        stride,
        parity,
    )


def pools_of(ports: Ports, subscribers: tuple[str, ...], where: str) -> tuple[Pool, ...]:
    """The external ports, in one pool, or one for each host that has a block of its own.

    Raises InputError if there are too few; `where` names the router in its text.
    """
    if not 1 <= ports.first <= ports.last <= 65535:
        raise InputError(
            f"no external ports from {ports.first} to {ports.last}",
            remedy="Give a first and a last port with 1 <= first <= last <= 65535.",
            where=where,
        )
    if ports.policy is not PortPolicy.BLOCK or not subscribers:
        return (Pool(ports.first, ports.last),)
    available = ports.last - ports.first + 1
    block = ports.block or available // len(subscribers)
    if block < 1 or block * len(subscribers) > available:
        raise InputError(
            f"{len(subscribers)} subscribers with {max(block, 1)} ports each need more than "
            f"the {available} ports from {ports.first} to {ports.last}",
            remedy="Make the blocks smaller, the range larger, or the subscribers fewer.",
            where=where,
        )
    pools = [
        Pool(
            ports.first + index * block,
            ports.first + (index + 1) * block - 1,
            host=host,
            suffix=f"_{index}",
        )
        for index, host in enumerate(subscribers)
    ]
    if pools[-1].last < ports.last:
        pools.append(Pool(pools[-1].last + 1, ports.last, suffix="_rest"))
    return tuple(pools)
