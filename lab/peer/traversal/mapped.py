"""Techniques `upnp`, `nat-pmp`, `pcp`: ask the router for a port, and be called there.

Each peer asks its own router, which it finds by its default route, and tells
the other what it was granted.  Whoever was told of a port sends to it, and to
nothing else; one granted port is enough.  It stays the peer's until the end
of the attempt, and is then given back.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from lab.peer.driver import UdpDriver
from lab.peer.endpoint import Endpoint
from lab.peer.portmap.ask import CLIENTS
from lab.peer.portmap.exchange import Host
from lab.peer.portmap.gateway import gateway, own_address
from lab.peer.portmap.keep import keep
from lab.peer.portmap.lease import LEASE_S, UDP, ClosedError, PortmapError
from lab.peer.record import Candidate, CandidateKind, Outcome
from lab.peer.settings import Settings
from lab.peer.traversal.call import AttemptError, Call, Established, IncomingCall, OutgoingCall
from lab.peer.traversal.prober import Part
from lab.peer.traversal.settle import established, probing_until, settle, silence
from lab.peer.traversal.silence import ROUTER_FRESH_S, fresh

ASK_S = 6.0
"""The longest that a router is waited for."""
_REFUSED, _SILENT = "refused", "silent"


@dataclass(frozen=True, slots=True)
class _Granted:
    """What the router said: a port, or `trouble`, a sentence without a full stop."""

    candidates: tuple[Candidate, ...] = ()
    trouble: str = ""
    answer: str = ""
    """`refused` or `silent` if there is trouble."""

    def details(self) -> dict[str, str]:
        return {"trouble": self.trouble, "answer": self.answer}


class PortMapped:
    """See the module; `name` is the protocol."""

    def __init__(self, name: str) -> None:
        self.name = name

    def applies(self, settings: Settings) -> str:
        return ""

    async def call(self, call: OutgoingCall) -> Established:
        driver = await call.open_udp()
        granted = await self._ask(call, driver)
        ours = granted.candidates
        answer = await call.offer(ours, granted.details())
        theirs = answer.candidates
        if not ours and not theirs:
            raise _nothing(call, granted, answer.details)
        until, started = probing_until(call), call.now
        prober = call.prober(call.seal(answer), Part.CALLER, theirs, self.name)
        driver.add(prober)
        if await settle(driver, prober, until):
            note = _how(call, prober.nominated, ours, theirs)
            return established(driver, prober, ours, theirs, note=note)
        raise silence(call, driver, prober, started, _cause(call, ours, theirs))

    async def answer(self, call: IncomingCall) -> Established:
        theirs = call.incoming.candidates
        driver = await call.open_udp()
        granted = await self._ask(call, driver)
        ours = granted.candidates
        part = Part.ACTIVE_CALLEE if theirs else Part.PASSIVE_CALLEE
        prober = call.prober(call.seal(), part, theirs, self.name)
        driver.add(prober)
        await call.answer(ours, granted.details())
        if not ours and not theirs:
            raise _nothing(call, granted, call.incoming.details)
        if await settle(driver, prober, call.deadline):
            note = _how(call, prober.nominated, ours, theirs)
            return established(driver, prober, ours, theirs, note=note)
        raise silence(call, driver, prober, call.deadline - call.incoming.window_s, "")

    async def _ask(self, call: Call, driver: UdpDriver) -> _Granted:
        router = gateway()
        if not router:
            return _Granted(trouble=f"{call.me} has no IPv4 default route", answer=_SILENT)
        silent, who = call.silences.router, (self.name, router)
        if fresh(silent, who, call.now, ROUTER_FRESH_S):
            age = call.now - silent[who]
            trouble = f"the router {router} does not answer so far, asked again {age:.1f} s ago"
            return _Granted(trouble=trouble, answer=_SILENT)
        try:
            client = CLIENTS[self.name](Host(own_address(router), router, call.tally))
            async with asyncio.timeout_at(min(call.now + ASK_S, call.deadline)):
                kept = await keep(client, UDP, driver.local.port, LEASE_S)
        except PortmapError as error:
            if not (error.answered or isinstance(error, ClosedError)):
                silent[who] = call.now
            heard = _REFUSED if error.answered else _SILENT
            trouble = f"{call.me}'s router {router}: {error}" if error.answered else str(error)
            return _Granted(trouble=trouble, answer=heard)
        except (OSError, TimeoutError) as error:
            return _Granted(trouble=f"{call.me}: {error or 'no answer in time'}", answer=_SILENT)
        call.at_close(kept.release)
        return _Granted((Candidate(CandidateKind.SERVER_REFLEXIVE, kept.lease.external),))


def _how(
    call: Call,
    remote: Endpoint | None,
    ours: tuple[Candidate, ...],
    theirs: tuple[Candidate, ...],
) -> str:
    if any(candidate.endpoint == remote for candidate in theirs):
        return f"{call.peer}'s router opened {{remote}} on request"
    opened = ours[0].endpoint if ours else "a port"
    return f"{call.me}'s router opened {opened} on request, and {call.peer} came there"


def _nothing(call: Call, granted: _Granted, said: object) -> AttemptError:
    """Neither router granted a port."""
    theirs = said.get("trouble") if isinstance(said, dict) else ""
    other = theirs[:200] if isinstance(theirs, str) and theirs else "no port"
    heard = said.get("answer") if isinstance(said, dict) else ""
    refused = _REFUSED in (granted.answer, heard)
    outcome = Outcome.REFUSED if refused else Outcome.UNREACHABLE
    return AttemptError(outcome, f"{granted.trouble}; {call.peer} says: {other}")


def _cause(call: Call, ours: tuple[Candidate, ...], theirs: tuple[Candidate, ...]) -> str:
    if theirs:
        return f"what {call.peer}'s router granted leads nowhere"
    return f"{call.peer} did not come to {ours[0].endpoint}, which {call.me}'s router granted"
