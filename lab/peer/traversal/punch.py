"""Technique `udp-punch`: UDP hole punching (RFC 5128, section 3.3; Ford, Srisuresh, Kegel 2005).

With caller m behind NAT X and callee n behind NAT Y:

1. m learns its external endpoint from STUN and passes it to n (the offer).
2. n sends to it, so that NAT Y holds an entry m-Y-n.
3. NAT X refuses that packet: it has no entry.
4. n learns its external endpoint in the same way and passes it to m (the
   answer); m sends to it, which passes NAT Y by the entry of step 2, and
   makes the entry in NAT X by which n's next packet passes.

m sends nothing to n before the answer, and n sends at once, so the order on
the wire is this one; an attempt may ask for a synchronised start instead.
Private and public endpoints are tried alike, which is what connects two peers
behind one NAT (RFC 5128, section 3.3.2).
"""

from __future__ import annotations

from lab.peer.driver import Driver
from lab.peer.settings import Settings
from lab.peer.traversal.call import Established, IncomingCall, OutgoingCall
from lab.peer.traversal.learn import ONCE, Learned, learn, learn_own
from lab.peer.traversal.needs import without_stun
from lab.peer.traversal.prober import Part
from lab.peer.traversal.settle import (
    candidates,
    established,
    nearby_until,
    probing_until,
    said,
    settle,
    silence,
)
from lab.peer.traversal.signals import Offer
from lab.peer.traversal.start import agreed, answer_and_begin

KIND = "punch"


class UdpPunch:
    """See the module."""

    name = "udp-punch"

    def applies(self, settings: Settings) -> str:
        return without_stun(settings)

    async def call(self, call: OutgoingCall) -> Established:
        driver = await call.open_udp()
        hosts = call.hosts(driver)
        learned = await learn_own(driver, call.settings, call.deadline)  # step 1
        ours = candidates(hosts, learned)
        begins = await agreed(call, synchronised=False)
        answer = await call.offer(ours, {**begins, "trouble": learned.trouble})
        # Where one has no UDP to the outside, only a network that both are on is left.
        outside = learned.mapped and not said(call, answer)
        until = probing_until(call) if outside else nearby_until(call)
        started = call.now
        prober = call.prober(call.seal(answer), Part.CALLER, answer.candidates, KIND)
        driver.add(prober)  # step 4
        if await settle(driver, prober, until):
            note = f"after {prober.probes} probes {call.peer} answered from {{remote}}"
            return established(driver, prober, ours, answer.candidates, note=note)
        driver.remove(prober)
        heard = bool(prober.heard)
        cause = "" if heard else await _cause(call, driver, learned, answer)
        raise silence(call, driver, prober, started, cause)

    async def answer(self, call: IncomingCall) -> Established:
        driver = await call.open_udp()
        hosts, theirs = call.hosts(driver), call.incoming.candidates
        prober = call.prober(call.seal(), Part.ACTIVE_CALLEE, theirs, KIND)
        waits = bool(call.incoming.details.get("wait_s"))
        if not waits:
            driver.add(prober)  # step 2; step 3 happens at the caller's NAT
        learned = await learn_own(driver, call.settings, call.deadline)
        ours = candidates(hosts, learned)
        await answer_and_begin(call, ours, {"trouble": learned.trouble})
        if waits:
            driver.add(prober)
        if await settle(driver, prober, call.deadline):
            note = f"after {prober.probes} probes {call.peer} got through from {{remote}}"
            return established(driver, prober, ours, theirs, note=note)
        raise silence(call, driver, prober, call.deadline - call.incoming.window_s, "")


async def _cause(call: OutgoingCall, driver: Driver, learned: Learned, answer: Offer) -> str:
    """The likely cause of silence, from what a peer can know of its own side."""
    if learned.mapped is None:
        return learned.trouble
    trouble = answer.details.get("trouble")
    if isinstance(trouble, str) and trouble:
        return f"{call.peer} says: {trouble[:200]}"
    mine = learned.mapped
    for other in call.settings.other_stun_servers:
        if other.family != mine.family:
            continue
        again = (await learn(driver, other, call.deadline, schedule=ONCE)).mapped
        if again is None:
            continue
        if again != mine:
            return (
                f"{call.me}'s own NAT shows {mine} to one STUN server and {again} to another, "
                f"so {call.peer} cannot know where to send"
            )
        return (
            f"{call.me}'s own NAT shows {mine} to everyone, so {call.peer}'s NAT either gives "
            f"each destination another port or admits nothing from {mine}"
        )
    return f"{call.peer}'s NAT admits nothing from {mine}, or gives each destination another port"
