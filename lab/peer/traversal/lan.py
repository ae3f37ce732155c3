"""Technique `lan`: two peers on one network, found and called without any server.

The other peer is found by its name (mDNS, LLMNR or SSDP, whichever answers
first), offer and answer go straight to it, and so does everything else: its
host candidates are tried before anybody outside is asked anything.
"""

from __future__ import annotations

from lab.peer.record import Outcome
from lab.peer.settings import Settings
from lab.peer.traversal.call import AttemptError, Established, IncomingCall, OutgoingCall
from lab.peer.traversal.prober import Part
from lab.peer.traversal.settle import established, probing_until, settle, silence

NAME = "lan"


class Lan:
    """See the module."""

    name = NAME

    def applies(self, settings: Settings) -> str:
        return "" if settings.lan_addresses else f"{settings.node} has no address"

    async def call(self, call: OutgoingCall) -> Established:
        driver = await call.open_udp()
        ours = call.hosts(driver)
        answer = await call.offer(ours)
        until, started = probing_until(call), call.now
        prober = call.prober(call.seal(answer), Part.CALLER, answer.candidates, NAME)
        driver.add(prober)
        if await settle(driver, prober, until):
            note = f"{call.peer} is on this network, at {{remote}}"
            return established(driver, prober, ours, answer.candidates, note=note)
        raise silence(call, driver, prober, started, "")

    async def answer(self, call: IncomingCall) -> Established:
        driver = await call.open_udp()
        ours, theirs = call.hosts(driver), call.incoming.candidates
        prober = call.prober(call.seal(), Part.ACTIVE_CALLEE, theirs, NAME)
        driver.add(prober)
        await call.answer(ours)
        if await settle(driver, prober, call.deadline):
            return established(driver, prober, ours, theirs, note="found here by {remote}")
        raise AttemptError(Outcome.TIMED_OUT, f"no packet of {call.peer} came to {driver.local}")
