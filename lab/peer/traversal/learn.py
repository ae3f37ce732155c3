"""Learning one's own external endpoints from a STUN server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lab.peer.driver import Driver
from lab.peer.endpoint import Endpoint
from lab.peer.settings import Settings
from lab.peer.stun.codec import Method, request
from lab.peer.stun.transaction import QUICK, Schedule, Transaction, udp_schedule
from lab.peer.traversal.silence import fresh

ONCE = udp_schedule(rc=1, rm=1)
"""One try, half a second: for a question whose answer only explains."""
OTHERS_S = 0.25
"""How long another family is waited for once one has answered (RFC 8305's attempt delay)."""


SILENT_S = 10.0
"""For how long a server that did not answer over UDP is asked once only."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What servers said: endpoints, or `trouble`, a sentence without a full stop."""

    mapped: Endpoint | None
    """From the first of the servers that answered."""
    trouble: str = ""
    all_mapped: tuple[Endpoint, ...] = ()
    """From each that answered."""
    server: Endpoint | None = None
    """Who said `mapped`."""


async def learn(
    driver: Driver,
    server: Endpoint,
    deadline: float,
    *others: Endpoint,
    schedule: Schedule = QUICK,
    kind: str = "stun",
) -> Learned:
    """Ask `server` from where the driver's packets come; waits until `deadline` at most.

    A server that has been silent until now is not asked (it is, by a `Watch`),
    and one that was so a while ago is asked once: it is not believed to be gone
    for ever, and no more than half a second is spent on it.

    `others` are endpoints of the same server in another family, asked at the
    same time.  When one has answered, the rest has a quarter of a second, so
    that a family that leads nowhere is no hindrance.
    """
    now, servers = driver.now, [to for to in (server, *others) if not _silent(driver, to)]
    if not servers:
        return Learned(None, silent_words(server, now - driver.silent[server]))
    asked = [
        Transaction(request(Method.BINDING), to, _patience(driver, to, schedule), now, kind=kind)
        for to in servers
    ]
    for transaction in asked:
        driver.add(transaction)
    try:
        await driver.until(lambda: _enough(driver, asked), deadline)
        if any(transaction.mapped for transaction in asked):
            until = min(deadline, driver.now + OTHERS_S)
            await driver.until(lambda: all(one.done for one in asked), until)
    finally:
        for transaction in asked:
            driver.remove(transaction)
    for transaction in asked:
        if transaction.mapped:
            driver.silent.pop(transaction.server, None)
        elif transaction.done and driver.transport == "udp":
            driver.silent[transaction.server] = driver.now
    return _learned(driver, asked)


def _patience(driver: Driver, server: Endpoint, schedule: Schedule) -> Schedule:
    silent_at = driver.silent.get(server)
    lately = silent_at is not None and driver.now - silent_at < SILENT_S
    return ONCE if lately and driver.transport == "udp" else schedule


async def learn_own(driver: Driver, settings: Settings, deadline: float) -> Learned:
    """Ask the STUN server in every family that this peer can send to."""
    first, *others = settings.stun_servers or settings.stun
    return await learn(driver, first, deadline, *others)


def silent_words(server: Endpoint, age_s: float) -> str:
    """That a server has been silent until now, for a sentence."""
    return (
        f"no answer from STUN server {server} so far, asked again {age_s:.1f} s ago: "
        "UDP seems blocked"
    )


def _silent(driver: Driver, server: Endpoint) -> bool:
    return driver.transport == "udp" and fresh(driver.silent, server, driver.now)


def _enough(driver: Driver, asked: Sequence[Transaction]) -> bool:
    """Whether there is an answer, or none to be expected, from here or where others ask."""
    return any(one.mapped for one in asked) or all(
        one.done or (one.tries and _silent(driver, one.server)) for one in asked
    )


def _learned(driver: Driver, asked: Sequence[Transaction]) -> Learned:
    found = [(one.server, one.mapped) for one in asked if one.mapped]
    if found:
        endpoints = tuple(dict.fromkeys(mapped for _, mapped in found))
        return Learned(found[0][1], all_mapped=endpoints, server=found[0][0])
    for one in asked:
        if one.response is not None:
            error = one.response.error or (0, "no address in its answer")
            return Learned(None, f"STUN server {one.server} answered: {error[1]} ({error[0]})")
    first = asked[0]
    tries = "1 try" if first.tries == 1 else f"{first.tries} tries"
    detail = f" ({driver.trouble})" if driver.trouble else ""
    return Learned(
        None, f"no answer from STUN server {first.server} after {tries}{detail}: UDP seems blocked"
    )
