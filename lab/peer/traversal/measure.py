"""How good a path is, once it is there: round trips, jitter, goodput."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from lab.peer.traversal.call import Established
from lab.peer.traversal.flow import Flow

ROUND_TRIPS = 5
ROUND_TRIPS_S = 2.0
"""All of them together."""
MOST_GOODPUT_S = 5.0


async def round_trips(path: Established) -> None:
    """Measure round trips on the path, one after the other; lost ones are missing."""
    driver, prober = path.driver, path.prober
    until = driver.now + ROUND_TRIPS_S
    for _ in range(ROUND_TRIPS):
        count = len(prober.samples)
        prober.ping(driver.now)
        driver.step()
        enough = count + 1
        await driver.until(
            lambda enough=enough: len(prober.samples) >= enough,  # type: ignore[misc]  # bound early
            min(until, driver.now + ROUND_TRIPS_S / ROUND_TRIPS),
        )


async def goodput(path: Established, duration_s: float) -> float | None:
    """What the path carries to the other peer in `duration_s`, in bit/s; None for nothing."""
    driver, prober = path.driver, path.prober
    if prober.nominated is None:
        return None
    flow = prober.flow = Flow(prober.seal, prober.nominated, driver.now, duration_s)
    driver.step()
    try:
        await driver.until(lambda: False, flow.until)
    finally:
        prober.flow = None
    return flow.goodput_bps or None


def jitter(samples: Sequence[float]) -> float | None:
    """The mean difference of successive round trips, in seconds; None for fewer than two."""
    differences = [abs(b - a) for a, b in pairwise(samples)]
    return sum(differences) / len(differences) if differences else None
