"""Learning one's own external endpoint from a STUN server."""

from __future__ import annotations

from dataclasses import dataclass

from lab.peer.driver import Driver
from lab.peer.endpoint import Endpoint
from lab.peer.stun.codec import Method, request
from lab.peer.stun.transaction import QUICK, Schedule, Transaction, udp_schedule

ONCE = udp_schedule(rc=1, rm=1)
"""One try, half a second: for a question whose answer only explains."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What the server said: an endpoint, or `trouble`, a sentence without a full stop."""

    mapped: Endpoint | None
    trouble: str = ""


async def learn(
    driver: Driver,
    server: Endpoint,
    deadline: float,
    *,
    schedule: Schedule = QUICK,
    kind: str = "stun",
) -> Learned:
    """Ask `server` from where the driver's packets come; waits until `deadline` at most."""
    transaction = Transaction(request(Method.BINDING), server, schedule, driver.now, kind=kind)
    driver.add(transaction)
    try:
        await driver.until(lambda: transaction.done, deadline)
    finally:
        driver.remove(transaction)
    if transaction.mapped:
        return Learned(transaction.mapped)
    if transaction.response is not None:
        error = transaction.response.error or (0, "no address in its answer")
        return Learned(None, f"STUN server {server} answered: {error[1]} ({error[0]})")
    tries = "1 try" if transaction.tries == 1 else f"{transaction.tries} tries"
    detail = f" ({driver.trouble})" if driver.trouble else ""
    return Learned(
        None, f"no answer from STUN server {server} after {tries}{detail}: UDP seems blocked"
    )
