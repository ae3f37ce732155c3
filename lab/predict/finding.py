"""What is found out about one technique."""

from __future__ import annotations

from lab.topology.behaviour import Frozen

DIRECT, RELAYED = "direct", "relayed"


class Finding(Frozen, frozen=True):
    """Whether one technique can connect two peers, and why."""

    technique: str
    possible: bool
    path: str
    """`direct` or `relayed`; empty if there is none."""
    reason: str
    by_chance: bool = False
    """Whether it takes luck: a NAT on the way has a pool of addresses and takes any of them."""
