"""How likely it is to guess a port or a moment: the arithmetic behind what takes luck."""

from __future__ import annotations

import math

PORTS = 65535 - 1024 + 1
"""External ports from 1024 upward; a NAT that draws from all of them is the hardest to hit."""


def hit(sockets: int, probes: int, ports: int = PORTS) -> float:
    """The chance that one of `probes` distinct ports is one of `sockets` open ones.

    One side opens `sockets` mappings at random ports, the other probes
    `probes` distinct ones from one endpoint: 1 - C(ports - sockets, probes) /
    C(ports, probes).
    """
    if sockets <= 0 or probes <= 0:
        return 0.0
    if sockets + probes > ports:
        return 1.0
    missed = math.lgamma(ports - sockets + 1) - math.lgamma(ports - sockets - probes + 1)
    missed -= math.lgamma(ports + 1) - math.lgamma(ports - probes + 1)
    return -math.expm1(missed)


def probes_for(chance: float, sockets: int) -> int:
    """The fewest probes with at least this chance (below 1) to hit."""
    low, high = 0, PORTS
    while low < high:
        middle = (low + high) // 2
        if hit(sockets, middle) >= chance:
            high = middle
        else:
            low = middle + 1
    return low


def both_hard(pairs: float) -> float:
    """The chance that two sides with random ports on both ends meet, after so many trials.

    A trial is one packet of one socket to one port, with a port of its own on
    either side; it meets its counterpart once in ports squared.
    """
    return -math.expm1(-pairs / PORTS**2)


def undisturbed(rate: float, seconds: float, window: int = 1) -> float:
    """The chance that fewer than `window` other flows came in between.

    `rate` is how many a second the NAT maps besides, at random times, and
    `seconds` the time between the last port that was seen and the next one
    that is needed: the first `window` terms of a Poisson distribution.
    """
    expected = rate * seconds
    terms = (
        (
            math.exp(-expected + count * math.log(expected) - math.lgamma(count + 1))
            for count in range(window)
        )
        if expected > 0
        else iter((1.0,))
    )
    return min(1.0, sum(terms))


def crossing(delay_s: float, pause_s: float, window_s: float) -> float:
    """The chance that the SYNs of two peers cross within `window_s`, where NATs refuse early ones.

    `delay_s` is what a packet takes from one NAT to the other, `pause_s` the
    mean pause of a peer after a refusal, which comes back in twice the delay.
    The other's SYN crosses one that leaves less than a delay before or after it.
    """
    each = pause_s + 2 * delay_s
    return 1 - math.pow(1 - min(1.0, 2 * delay_s / each), max(0.0, window_s / each))
