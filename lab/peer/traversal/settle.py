"""Waiting for a prober, and what to say when it found nothing."""

from __future__ import annotations

from collections.abc import Sequence

from lab.peer.driver import Driver
from lab.peer.endpoint import Endpoint
from lab.peer.record import Candidate, CandidateKind, Outcome, PathKind
from lab.peer.traversal.call import (
    AttemptError,
    Call,
    Established,
    OutgoingCall,
)
from lab.peer.traversal.learn import Learned
from lab.peer.traversal.patience import patiently
from lab.peer.traversal.prober import Prober
from lab.peer.traversal.signals import MAX_WINDOW_S, Offer
from lab.peer.traversal.wording import listed, seconds

LEAST_WINDOW_S = 0.6
"""Twelve probes from either side."""
NEARBY_WINDOW_S = 0.3
"""Six probes: where only a network is left that both are on, which takes milliseconds."""
UNKNOWN_S = 2.0
"""For as long at least, where nothing is known of the way to the other peer."""
CARRIED_S = UNKNOWN_S
"""For as long at least by way of a relay: both peers reach it, so that there is a way."""
CONFIRMED_S = 2.0
"""For the second half of an exchange whose first is proven: only what is lost takes so long."""
ROUND_TRIPS = 8
NEARBY_ROUND_TRIPS = 4
"""Should it be wide: one connects, one finds the path, one confirms it."""


def probing_until(call: OutgoingCall, least: float = LEAST_WINDOW_S) -> float:
    """How long a caller probes: eight round trips, `least` seconds at least, the deadline at most.

    The option `window_s` has another opinion.
    """
    return _until(call, least, ROUND_TRIPS)


def nearby_until(call: OutgoingCall, late_s: float = 0.0) -> float:
    """How long a caller probes where only a network is left that both are on.

    `late_s` is how much later than the caller the callee begins.
    """
    return _until(call, late_s + NEARBY_WINDOW_S, NEARBY_ROUND_TRIPS)


def _until(call: OutgoingCall, least: float, round_trips: int) -> float:
    rtt = call.rtt_before or call.run.rtt
    usual = max(least, UNKNOWN_S if rtt is None else round_trips * rtt)
    return min(call.now + call.option("window_s", usual, 0.05, MAX_WINDOW_S), call.deadline)


def said(call: Call, answer: Offer) -> str:
    """What the other peer says of its own trouble, for a sentence; "" for nothing."""
    trouble = answer.details.get("trouble")
    return f"{call.peer} says: {trouble[:200]}" if isinstance(trouble, str) and trouble else ""


async def settle(driver: Driver, prober: Prober, until: float) -> bool:
    """Wait for a path, until `until` if nothing comes at all; whether there is one.

    Time in which this program did not run does not count.  Who was heard has as
    long again to hear this end, and who has answered, `CONFIRMED_S` at least to
    confirm it; all within what the prober has.
    """
    usual = until - driver.now
    await patiently(driver, lambda: bool(prober.settled or prober.heard), until, limit=prober.until)
    if prober.heard and not prober.settled:
        until = max(until, driver.now + usual)
        await patiently(
            driver, lambda: bool(prober.settled or prober.nominated), until, limit=prober.until
        )
    if prober.nominated and not prober.settled:
        until = min(prober.until, driver.now + max(usual, CONFIRMED_S))
        await patiently(driver, lambda: prober.settled, until, limit=prober.until)
    return prober.complete


def established(
    driver: Driver,
    prober: Prober,
    ours: Sequence[Candidate],
    theirs: Sequence[Candidate],
    *,
    note: str,
    path: PathKind = PathKind.DIRECT,
) -> Established:
    """The path that a complete prober found."""
    remote = prober.nominated or driver.local
    observed = prober.observed or driver.local
    return Established(
        path,
        prober,
        driver,
        _candidate_at(observed, ours),
        _candidate_at(remote, theirs),
        note.format(remote=remote, observed=observed),
    )


def silence(call: Call, driver: Driver, prober: Prober, started: float, more: str) -> AttemptError:
    """Why probing from `driver` since `started` led to nothing; `more` is the likely cause."""
    sent = f"sent {prober.probes} probes to {listed(prober.remotes)} in "
    sent += seconds(call.now - started)
    if prober.nominated:
        text = f"a packet went to {prober.nominated} and back, but {call.peer} did not confirm it"
    elif prober.heard:
        heard = listed(sorted(prober.heard))
        text = f"{sent}; heard {call.peer} from {heard}, but got no answer back"
    elif not prober.remotes:
        text = f"{call.peer} has no address that {call.me} can send to"
    else:
        text = f"{sent} and heard nothing of {call.peer}"
    if driver.trouble and not prober.heard:
        text += f" ({driver.trouble})"
    return AttemptError(Outcome.TIMED_OUT, f"{text}: {more}" if more else text)


def candidates(hosts: Sequence[Candidate], learned: Learned) -> tuple[Candidate, ...]:
    """A peer's own addresses and what its STUN servers saw."""
    seen = (candidate for mapped in learned.all_mapped for candidate in reflexive(mapped, hosts))
    return (*hosts, *seen)


def reflexive(endpoint: Endpoint, hosts: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """The server-reflexive candidate at `endpoint`; none if it is a host's own."""
    if any(host.endpoint == endpoint for host in hosts):
        return ()
    return (Candidate(CandidateKind.SERVER_REFLEXIVE, endpoint),)


def _candidate_at(endpoint: Endpoint, known: Sequence[Candidate]) -> Candidate:
    """The candidate at `endpoint`: one that was signalled, or else a peer-reflexive one."""
    for candidate in known:
        if candidate.endpoint == endpoint:
            return candidate
    return Candidate(CandidateKind.PEER_REFLEXIVE, endpoint)
