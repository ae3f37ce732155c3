"""Technique `tcp-punch`: TCP hole punching (RFC 5128, section 3.4; Ford et al. 2005; RFC 6544).

Each peer learns the external endpoint of one local port over a connection to a
STUN server, tells it to the other, and connects from that port to the other's
endpoints while it listens on it.  Three things may come of it, and all are
paths: the SYNs cross, and both ends see one connection (simultaneous open,
RFC 9293, section 3.5); the later SYN finds the hole of the earlier one and the
socket that still waits there, which is the same; or it comes from a port that
nobody named and finds the listener.

A NAT that drops what it did not expect makes this easy: the first SYN waits
at the sender for the other's.  One that answers with a reset ends it, so that
the connect has to be made again until two SYNs happen to cross (Ford, section
5.2).
"""

from __future__ import annotations

from collections.abc import Sequence

from lab.peer.endpoint import Endpoint
from lab.peer.record import Candidate, Outcome
from lab.peer.settings import Settings
from lab.peer.traversal.call import (
    AttemptError,
    Call,
    Established,
    IncomingCall,
    OutgoingCall,
)
from lab.peer.traversal.needs import without_stun
from lab.peer.traversal.patience import patiently
from lab.peer.traversal.prober import Part, Prober
from lab.peer.traversal.settle import (
    candidates,
    established,
    nearby_until,
    probing_until,
    said,
    settle,
)
from lab.peer.traversal.start import agreed, answer_and_begin
from lab.peer.traversal.tcp_port import LEAST_RETRY_S, MOST_RETRY_S, RETRY_S, TcpPort
from lab.peer.traversal.wording import listed, seconds

KIND = "punch"
LEAST_WINDOW_S = 4.0
"""Where connections are reset: so long for two SYNs to cross."""
QUIET_WINDOW_S = 1.3
"""Where nothing comes at all: a lost SYN is sent again after a second."""
SYN_AGAIN_S = 1.0
QUIET_ROUND_TRIPS = 3
"""After the second SYN: what came of it is known then."""


class TcpPunch:
    """See the module."""

    name = "tcp-punch"

    def applies(self, settings: Settings) -> str:
        return without_stun(settings)

    async def call(self, call: OutgoingCall) -> Established:
        port = TcpPort(call)
        learned = await port.learn_own()
        hosts = call.hosts(port.driver)
        ours = candidates(hosts, learned)
        port.retry_s = call.option("retry_s", RETRY_S, LEAST_RETRY_S, MOST_RETRY_S)
        details = {**await agreed(call, synchronised=True), "retry_s": port.retry_s}
        answer = await call.offer(ours, {**details, "trouble": learned.trouble})
        theirs = answer.candidates
        # Where one is seen by nobody outside, only a network that both are on is left.
        outside = learned.mapped and not said(call, answer)
        started = call.now
        late = details["wait_s"]
        quiet_until = (
            probing_until(call, late + quiet_s(call)) if outside else nearby_until(call, late)
        )
        # Whatever resets there is a firewall of one's own, and goes on doing so.
        until = probing_until(call, LEAST_WINDOW_S) if outside else quiet_until
        prober = call.prober(call.seal(answer), Part.CALLER, (), KIND)
        port.carry(prober)
        port.listen()
        remotes = [c.endpoint for c in theirs]
        port.connect(remotes, until)
        if await settled(port, prober, quiet_until, until):
            return connected(call, port, prober, ours, theirs)
        cause = learned.trouble or said(call, answer)
        raise unconnected(call, port, prober, remotes=remotes, started=started, cause=cause)

    async def answer(self, call: IncomingCall) -> Established:
        port = TcpPort(call)
        learned = await port.learn_own()
        hosts, theirs = call.hosts(port.driver), call.incoming.candidates
        ours = candidates(hosts, learned)
        prober = call.prober(call.seal(), Part.ACTIVE_CALLEE, (), KIND)
        port.carry(prober)
        port.listen()
        wanted = call.incoming.details.get("retry_s")
        if isinstance(wanted, int | float) and LEAST_RETRY_S <= wanted <= MOST_RETRY_S:
            port.retry_s = float(wanted)
        await answer_and_begin(call, ours, {"trouble": learned.trouble})
        started = call.now
        remotes = [c.endpoint for c in theirs]
        port.connect(remotes, call.deadline)
        if await settle(port.driver, prober, call.deadline):
            return connected(call, port, prober, ours, theirs)
        raise unconnected(call, port, prober, remotes=remotes, started=started, cause="")


def quiet_s(call: OutgoingCall) -> float:
    """How long a caller waits if nothing comes at all."""
    trips = QUIET_ROUND_TRIPS * (call.rtt_before or call.run.rtt or 0.0)
    return max(QUIET_WINDOW_S, SYN_AGAIN_S + trips)


async def settled(port: TcpPort, prober: Prober, quiet_until: float, until: float) -> bool:
    """Wait for a path until `until`, or `quiet_until` if nothing came; whether it is there.

    What comes are resets, which end a connection that then is made anew, and
    connections that have yet to prove themselves.
    """
    driver = port.driver
    usual = quiet_until - driver.now

    def came() -> bool:
        return bool(prober.settled or port.reset or driver.remotes)

    if await patiently(driver, came, quiet_until, limit=prober.until):
        # What came late, as this program did, has as long as what came at once.
        await settle(driver, prober, max(until, driver.now + usual))
    return prober.complete


def connected(
    call: Call,
    port: TcpPort,
    prober: Prober,
    ours: tuple[Candidate, ...],
    theirs: tuple[Candidate, ...],
) -> Established:
    """The path that a complete prober found on a connection of `port`."""
    port.stop()
    tries = port.outcomes.total()
    note = (
        f"connected with {call.peer} at {{remote}} after {tries} tr{'y' if tries == 1 else 'ies'}"
    )
    return established(port.driver, prober, ours, theirs, note=note)


def unconnected(
    call: Call,
    port: TcpPort,
    prober: Prober,
    *,
    remotes: Sequence[Endpoint],
    started: float,
    cause: str,
) -> AttemptError:
    """Why connecting since `started` led to nothing."""
    ended = ", ".join(f"{count} {outcome}" for outcome, count in sorted(port.outcomes.items()))
    text = f"connected to {listed(remotes)} for {seconds(call.now - started)}"
    if not remotes:
        text = f"{call.peer} has no address to connect to"
    elif prober.heard:
        text += f"; heard {call.peer}, but it did not confirm the path"
    elif port.driver.remotes:
        text += f"; who answered at {listed(port.driver.remotes)} is not {call.peer}"
    elif ended:
        text += f" in vain ({ended})"
    else:
        text += " and got no answer"
    return AttemptError(Outcome.TIMED_OUT, f"{text}: {cause}" if cause else text)
