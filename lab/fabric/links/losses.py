"""Which packets are lost: one decision for every packet offered, in order.

Each kind draws the same number of times whatever it decides, so a packet's
fate depends on the seed and on how many came before it, and on nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from lab.topology.character import Bursts, LossPattern

Loss = Callable[[], bool]
"""Whether the next packet is lost."""


def bursty(bursts: Bursts, rng: Random) -> Loss:
    """The Gilbert-Elliott chain, in the good state: two draws for each packet."""
    draw = rng.random
    leave = (bursts.p, bursts.r)
    share = (bursts.good, bursts.bad)
    state = 0

    def lost() -> bool:
        nonlocal state
        falls = draw() < share[state]
        if draw() < leave[state]:
            state = 1 - state
        return falls

    return lost


def patterned(pattern: LossPattern) -> Loss:
    """The pattern from its beginning, over and over."""
    places = frozenset(place - 1 for place in pattern.lost)
    period = pattern.of
    number = -1

    def lost() -> bool:
        nonlocal number
        number = (number + 1) % period
        return number in places

    return lost


def either(first: Loss, second: Loss) -> Loss:
    """Both are asked of every packet, so that neither loses its count."""

    def lost() -> bool:
        by_first, by_second = first(), second()
        return by_first or by_second

    return lost
