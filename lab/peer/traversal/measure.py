"""How good a path is, once it is there: round trips, jitter, goodput."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial
from itertools import pairwise

from lab.peer.record import CandidateKind
from lab.peer.traversal.call import Established
from lab.peer.traversal.flow import FIRST_S, LONGEST_S, Flow

ROUND_TRIPS = 5
ROUND_TRIPS_S = 2.0
"""All of them together, at most."""
APART_S = 0.02
"""From one to the next at most: more than such a small packet takes on a slow line."""
LATE_S = 0.25
"""How much longer than those before it one may take."""
DRAIN_S = 2.0
"""How long to wait at most for what a measurement has left in the queues of the path."""
MOST_GOODPUT_S = FIRST_S + LONGEST_S + DRAIN_S
"""All that a measurement of goodput may take."""


async def round_trips(path: Established) -> None:
    """Measure round trips on the path; lost ones are missing.

    The next begins when this one is back, or `APART_S` later.
    """
    driver, prober = path.driver, path.prober
    until, before = driver.now + ROUND_TRIPS_S, len(prober.samples)

    def back(count: int) -> bool:
        return len(prober.samples) >= before + count

    for count in range(1, ROUND_TRIPS + 1):
        prober.ping(driver.now)
        driver.step()
        await driver.until(partial(back, count), driver.now + APART_S)
    if await driver.until(partial(back, 1), until):
        late = driver.now + max(prober.samples) + LATE_S
        await driver.until(partial(back, ROUND_TRIPS), min(until, late))


def same(path: Established) -> Hashable:
    """What two paths have in common that carry the same: all but the ports.

    Packets of the same transport between the same two external addresses, by
    the same relays, take the same lines and the same NATs.
    """
    ends = (path.local, path.remote)
    relayed = tuple(end.kind is CandidateKind.RELAYED for end in ends)
    addresses = tuple(end.endpoint.address for end in ends)
    return path.path, path.driver.transport, addresses, relayed, path.carried


async def goodput(path: Established, duration_s: float) -> float | None:
    """What the path carries to the other peer, in bit/s; None for nothing.

    Measured for `duration_s`, on a long path for longer (`lab.peer.traversal.flow`).
    """
    driver, prober = path.driver, path.prober
    if prober.nominated is None:
        return None
    rtt = min(prober.samples, default=0.0)
    flow = prober.flow = Flow(
        prober.seal, prober.nominated, driver.now, duration_s, round_trip_s=rtt
    )
    driver.step()
    try:
        # Also until whoever is next finds the lines as this one did: empty.
        await driver.until(lambda: flow.over, driver.now + MOST_GOODPUT_S)
    finally:
        prober.flow = None
    return flow.goodput_bps or None


def jitter(samples: Sequence[float]) -> float | None:
    """The mean difference of successive round trips, in seconds; None for fewer than two."""
    differences = [abs(b - a) for a, b in pairwise(samples)]
    return sum(differences) / len(differences) if differences else None
