"""Waiting for another peer by a clock that stands still while this program does not run.

A window of so many round trips says how many probes get a chance.  A program
that had no processor meanwhile sent none, and one whose machine was paused
heard none: to give up then says nothing about the network.
"""

from __future__ import annotations

from collections.abc import Callable

from lab.peer.driver import Driver

SLICE_S = 0.05
"""How often is looked at the clock: a round of probes at the usual pace."""


async def patiently(
    driver: Driver, condition: Callable[[], bool], until: float, *, limit: float
) -> bool:
    """Wait until `condition` holds, and return whether it does.

    At most until `until` by the driver's clock (seconds), or later by what this
    program overslept, but that no later than `limit`.  Where the socket comes to
    its end, so does the wait.
    """
    while not condition() and not driver.closed and driver.now < until:
        wake = min(until, driver.now + SLICE_S)
        if not await driver.until(condition, wake):
            until = max(until, min(limit, until + driver.now - wake))
    return condition()
