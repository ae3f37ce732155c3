"""Technique `reversal`: the other peer is asked to connect, as it may where this one may not.

A peer behind a NAT can't be called, but it can call (RFC 5128, section 3.2).
So the caller, who has to be reachable itself, asks it over the rendezvous
service, waits, and sends nothing before it has heard the other: success never
rests on a hole that it punched.  It listens on a TCP port and a UDP port; TCP
is preferred, as Napster and Gnutella had it, and UDP is there for networks
that let only that pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from lab.peer.driver import Driver
from lab.peer.endpoint import Endpoint
from lab.peer.record import Candidate, CandidateKind, Outcome
from lab.peer.settings import Settings
from lab.peer.traversal.call import (
    AttemptError,
    Established,
    IncomingCall,
    OutgoingCall,
)
from lab.peer.traversal.learn import learn_own
from lab.peer.traversal.prober import Part, Prober
from lab.peer.traversal.settle import (
    candidates,
    established,
    nearby_until,
    probing_until,
    said,
    settle,
)
from lab.peer.traversal.silence import fresh
from lab.peer.traversal.tcp_port import TcpPort
from lab.peer.traversal.wording import listed, seconds

KIND = "reversal"
UDP, TCP = 1, 2
"""The two paths' numbers (`lab.peer.traversal.seal`)."""
PREFER_TCP_S = 0.25
"""How long UDP waits for TCP, and two round trips at least (RFC 8305's attempt delay)."""
LEAST_WINDOW_S = 1.25
"""Where TCP alone is left: a lost SYN is sent again after one second."""
BOTH_WINDOW_S = 0.75
"""Where UDP passes at both: fifteen probes, any of which is as good as the lost SYN."""
MOST_ENDPOINTS = 8


@dataclass(frozen=True, slots=True)
class _Way:
    """One of the two paths."""

    driver: Driver
    prober: Prober
    ours: tuple[Candidate, ...]
    theirs: tuple[Candidate, ...] = ()

    def path(self, note: str) -> Established:
        return established(self.driver, self.prober, self.ours, self.theirs, note=note)


class Reversal:
    """See the module."""

    name = "reversal"

    def applies(self, settings: Settings) -> str:
        return ""

    async def call(self, call: OutgoingCall) -> Established:
        port, driver = TcpPort(call), await call.open_udp()
        by_udp, by_tcp = await _endpoints(call, port, driver)
        told = [str(candidate.endpoint) for candidate in by_tcp]
        port.listen()
        answer = await call.offer(by_udp, {"tcp": told})
        by_both = len(by_udp) > len(call.hosts(driver)) and answer.details.get("udp") is not False
        least = BOTH_WINDOW_S if by_both else LEAST_WINDOW_S
        started = call.now
        until = nearby_until(call) if said(call, answer) else probing_until(call, least)
        ways = [
            _Way(
                port.driver,
                call.prober(call.seal(answer, TCP), Part.CALLER, (), KIND),
                by_tcp,
            ),
            _Way(driver, call.prober(call.seal(answer, UDP), Part.CALLER, (), KIND), by_udp),
        ]
        port.carry(ways[0].prober)
        patience = max(PREFER_TCP_S, 2 * (call.rtt_before or 0.0))
        way = await _first(ways[:1], min(until, call.now + patience))
        if way is None:
            driver.add(ways[1].prober)
            way = await _first(ways, until)
        if way:
            path = way.path(f"{call.peer} connected from {{remote}}, as it was asked to")
            return replace(path, outcome=Outcome.REVERSED)
        where = listed(list(dict.fromkeys(c.endpoint for c in (*by_tcp, *by_udp))))
        cause = said(call, answer) or f"{call.me} can't be reached either"
        raise AttemptError(
            Outcome.TIMED_OUT,
            f"{call.peer} was asked to connect to {where}, and nothing came in "
            f"{seconds(call.now - started)}: {cause}",
        )

    async def answer(self, call: IncomingCall) -> Established:
        port, driver = TcpPort(call), await call.open_udp()
        by_udp = call.incoming.candidates
        by_tcp = _parse(call.incoming.details)
        until = call.deadline
        part = Part.ACTIVE_CALLEE
        ways = [
            _Way(
                port.driver,
                call.prober(call.seal(TCP), part, (), KIND),
                call.hosts(port.driver),
                by_tcp,
            ),
            _Way(
                driver,
                call.prober(call.seal(UDP), part, by_udp, KIND),
                call.hosts(driver),
                by_udp,
            ),
        ]
        await call.answer((), _trouble(call))
        port.carry(ways[0].prober)
        port.connect([candidate.endpoint for candidate in by_tcp], until)
        driver.add(ways[1].prober)
        if way := await _first(ways, until):
            return way.path(f"connected to {{remote}}, as {call.peer} asked")
        tried = listed(list(dict.fromkeys(c.endpoint for c in (*by_tcp, *by_udp))))
        raise AttemptError(Outcome.TIMED_OUT, f"{call.peer} can't be reached at {tried}")


async def _endpoints(
    call: OutgoingCall, port: TcpPort, driver: Driver
) -> tuple[tuple[Candidate, ...], tuple[Candidate, ...]]:
    """Where this peer may be reached over UDP and over TCP; STUN helps if there is one."""
    by_udp, by_tcp = call.hosts(driver), call.hosts(port.driver)
    if not call.settings.stun_servers:
        return by_udp, by_tcp
    udp, tcp = await asyncio.gather(
        learn_own(driver, call.settings, call.deadline), port.learn_own()
    )
    return candidates(by_udp, udp), candidates(by_tcp, tcp)


def _trouble(call: IncomingCall) -> dict[str, Any]:
    """What is known of this peer's own way out: whether UDP passes, and TCP."""
    servers, silences = call.settings.stun_servers, call.silences
    if not servers or not all(fresh(silences.udp, server, call.now) for server in servers):
        return {}
    text = f"{call.me} reaches no STUN server, neither over UDP nor over TCP"
    by_neither = all(silences.no_tcp(server, call.now) for server in servers)
    return {"udp": False, **({"trouble": text} if by_neither else {})}


async def _first(ways: Sequence[_Way], until: float) -> _Way | None:
    """The first path that is complete; None if none is in time."""
    waits = {asyncio.ensure_future(settle(way.driver, way.prober, until)): way for way in ways}
    try:
        pending = set(waits)
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                if waits[each].prober.complete:
                    return waits[each]
        return None
    finally:
        for each in waits:
            each.cancel()


def _parse(details: Any) -> tuple[Candidate, ...]:
    """The TCP endpoints of an offer; what is none is left out."""
    told = details.get("tcp")
    found = []
    for text in told[:MOST_ENDPOINTS] if isinstance(told, list) else ():
        try:
            endpoint = Endpoint.parse(text) if isinstance(text, str) else None
        except ValueError:
            continue
        if endpoint and endpoint.sendable:
            found.append(Candidate(CandidateKind.SERVER_REFLEXIVE, endpoint))
    return tuple(found)
