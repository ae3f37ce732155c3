"""Technique `direct`: the callee can be reached as it is.

The callee tells its own addresses and waits; the caller sends to them.  It
works on a common network and when the callee has a public address and lets
packets in.  The callee sends nothing before it has heard the caller, so that
success never rests on a hole that it punched.
"""

from __future__ import annotations

import ipaddress

from lab.peer.record import Candidate, Outcome
from lab.peer.settings import Settings
from lab.peer.traversal.call import AttemptError, Established, IncomingCall, OutgoingCall
from lab.peer.traversal.prober import Part
from lab.peer.traversal.settle import established, probing_until, settle, silence

LEAST_WINDOW_S = 0.5
"""Ten probes: there is nothing to wait for but a round trip."""


class Direct:
    """See the module."""

    name = "direct"

    def applies(self, settings: Settings) -> str:
        return ""

    async def call(self, call: OutgoingCall) -> Established:
        driver = await call.open_udp()
        ours = call.hosts(driver)
        answer = await call.offer(ours)
        until, started = probing_until(call, LEAST_WINDOW_S), call.now
        prober = call.prober(call.seal(answer), Part.CALLER, answer.candidates, until, self.name)
        if not prober.remotes:
            # Nothing comes of itself, as the callee waits.
            raise silence(call, driver, prober, started, "no address family is common to both")
        driver.add(prober)
        if await settle(driver, prober, until):
            note = f"{call.peer} is reachable as it is, at {{remote}}"
            return established(driver, prober, ours, answer.candidates, note=note)
        raise silence(call, driver, prober, started, _cause(answer.candidates))

    async def answer(self, call: IncomingCall) -> Established:
        driver = await call.open_udp()
        ours, theirs = call.hosts(driver), call.incoming.candidates
        prober = call.prober(call.seal(), Part.PASSIVE_CALLEE, (), call.deadline, self.name)
        driver.add(prober)
        await call.answer(ours)
        if await settle(driver, prober, call.deadline):
            return established(driver, prober, ours, theirs, note="reached by {remote}")
        raise AttemptError(Outcome.TIMED_OUT, f"no packet of {call.peer} came to {driver.local}")


def _cause(candidates: tuple[Candidate, ...]) -> str:
    private = [ipaddress.ip_address(c.endpoint.address).is_private for c in candidates]
    if private and all(private):
        return "its addresses are private and not on this network"
    return "a NAT or firewall before it keeps unasked packets out, or UDP is blocked"
