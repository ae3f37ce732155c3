"""Technique `direct`: the callee can be reached as it is.

The callee tells its own addresses and those that STUN servers see it at, and
waits; the caller sends to them.  It works on a common network, when the callee
has a public address and lets packets in, and when its NAT admits everybody to a
port that has a mapping, as a full cone does (RFC 3489, section 5).  The callee
sends the caller nothing before it has heard it, so that success never rests on
a hole that it punched.
"""

from __future__ import annotations

import ipaddress

from lab.peer.record import Candidate, CandidateKind, Outcome
from lab.peer.settings import Settings
from lab.peer.traversal.call import (
    AttemptError,
    Established,
    IncomingCall,
    OutgoingCall,
)
from lab.peer.traversal.learn import learn_own
from lab.peer.traversal.prober import Part
from lab.peer.traversal.settle import candidates, established, probing_until, settle, silence
from lab.peer.traversal.wording import listed

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
        prober = call.prober(call.seal(answer), Part.CALLER, answer.candidates, self.name)
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
        prober = call.prober(call.seal(), Part.PASSIVE_CALLEE, (), self.name)
        driver.add(prober)
        if call.settings.stun:
            ours = candidates(ours, await learn_own(driver, call.settings, call.deadline))
        await call.answer(ours)
        if await settle(driver, prober, call.deadline):
            return established(driver, prober, ours, theirs, note="reached by {remote}")
        raise AttemptError(Outcome.TIMED_OUT, f"no packet of {call.peer} came to {driver.local}")


def _cause(candidates: tuple[Candidate, ...]) -> str:
    hosts = [c.endpoint for c in candidates if c.kind is CandidateKind.HOST]
    shown = [c.endpoint for c in candidates if c.kind is CandidateKind.SERVER_REFLEXIVE]
    if not all(ipaddress.ip_address(host.address).is_private for host in hosts):
        return "a NAT or firewall before it keeps unasked packets out, or UDP is blocked"
    if shown:
        return f"the NAT that shows it at {listed(shown)} admits nobody there who was not asked"
    return "its addresses are private and not on this network"
