"""Techniques `udp-predict` and `tcp-predict`: punching through a NAT that counts.

A NAT with a mapping for each destination shows the STUN server a port by which
nobody else comes in.  If its ports are one step apart, the one that the other
peer's endpoint will get can be said in advance (RFC 5128, section 3.6), as
long as no other flow of the same NAT takes it first.  Both peers learn their
step by asking several STUN endpoints, tell each other where their next
mappings will be, and send there, in that order and before anywhere else: the
first packet of one has the first port that the other expects.

What each must not do is to open anything in between, so there is one socket,
nothing is sent to the other before both have learned, and private endpoints
come last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lab.peer.driver import UdpDriver
from lab.peer.endpoint import Endpoint
from lab.peer.record import Candidate, CandidateKind
from lab.peer.settings import Settings
from lab.peer.traversal.call import Call, Established, IncomingCall, OutgoingCall
from lab.peer.traversal.learn import learn
from lab.peer.traversal.needs import without_ipv4, without_stun
from lab.peer.traversal.prober import Part
from lab.peer.traversal.settle import established, nearby_until, probing_until, settle, silence
from lab.peer.traversal.signals import Offer
from lab.peer.traversal.start import agreed, answer_and_begin
from lab.peer.traversal.steps import Forecast, forecast
from lab.peer.traversal.tcp_port import TcpPort
from lab.peer.traversal.tcp_punch import (
    LEAST_WINDOW_S,
    connected,
    quiet_s,
    settled,
    unconnected,
)

KIND = "punch"
WINDOW = 4
"""Ports that are tried, so many that three other flows do no harm."""
MOST_WINDOW = 6
UDP_WINDOW_S = 0.6
"""Three rounds of all ports, and then some."""


class UdpPredict:
    """See the module."""

    name = "udp-predict"

    def applies(self, settings: Settings) -> str:
        return _without_choice(settings)

    async def call(self, call: OutgoingCall) -> Established:
        driver = await call.open_udp()
        found, foretold_at = await _learn_udp(call, driver)
        ours = _candidates(call, call.hosts(driver), found)
        details = {**await agreed(call, synchronised=False), **_told(found)}
        answer = await call.offer(ours, details)
        until, started = _until(call, found, answer, UDP_WINDOW_S), call.now
        prober = call.prober(call.seal(answer), Part.CALLER, answer.candidates, KIND)
        driver.add(prober)
        # Its first packet has just left.
        ahead = f", foretold {(call.now - foretold_at) * 1000:.0f} ms ahead"
        if await settle(driver, prober, until):
            note = _note(call, found, ahead)
            return established(driver, prober, ours, answer.candidates, note=note)
        raise silence(call, driver, prober, started, _cause(call, found, answer) + ahead)

    async def answer(self, call: IncomingCall) -> Established:
        driver = await call.open_udp()
        found, _ = await _learn_udp(call, driver)
        ours, theirs = _candidates(call, call.hosts(driver), found), call.incoming.candidates
        prober = call.prober(call.seal(), Part.ACTIVE_CALLEE, theirs, KIND)
        await answer_and_begin(call, ours, _told(found))
        driver.add(prober)
        if await settle(driver, prober, call.deadline):
            return established(driver, prober, ours, theirs, note=_note(call, found))
        raise silence(call, driver, prober, call.deadline - call.incoming.window_s, "")


class TcpPredict:
    """See the module."""

    name = "tcp-predict"

    def applies(self, settings: Settings) -> str:
        return _without_choice(settings)

    async def call(self, call: OutgoingCall) -> Established:
        port = TcpPort(call)
        found = await _learn_tcp(call, port)
        ours = _candidates(call, call.hosts(port.driver), found)
        details = {**await agreed(call, synchronised=True), **_told(found)}
        answer = await call.offer(ours, details)
        theirs, started = answer.candidates, call.now
        quiet_until = _until(call, found, answer, quiet_s(call), details["wait_s"])
        # Whatever resets there is a firewall of one's own, and goes on doing so.
        until = probing_until(call, LEAST_WINDOW_S) if _outside(found, answer) else quiet_until
        prober = call.prober(call.seal(answer), Part.CALLER, (), KIND)
        port.carry(prober)
        port.listen()
        remotes = [candidate.endpoint for candidate in theirs]
        port.connect(remotes, until)
        if await settled(port, prober, quiet_until, until):
            return connected(call, port, prober, ours, theirs)
        cause = _cause(call, found, answer)
        raise unconnected(call, port, prober, remotes=remotes, started=started, cause=cause)

    async def answer(self, call: IncomingCall) -> Established:
        port = TcpPort(call)
        found = await _learn_tcp(call, port)
        ours, theirs = _candidates(call, call.hosts(port.driver), found), call.incoming.candidates
        prober = call.prober(call.seal(), Part.ACTIVE_CALLEE, (), KIND)
        port.carry(prober)
        port.listen()
        await answer_and_begin(call, ours, _told(found))
        started, remotes = call.now, [candidate.endpoint for candidate in theirs]
        port.connect(remotes, call.deadline)
        if await settle(port.driver, prober, call.deadline):
            return connected(call, port, prober, ours, theirs)
        raise unconnected(call, port, prober, remotes=remotes, started=started, cause="")


def stun_endpoints(settings: Settings) -> tuple[Endpoint, ...]:
    """Everything that can be asked from one IPv4 port: each address of the server at each port.

    A server of RFC 5780 has both ports at both addresses.
    """
    servers = [server for server in settings.reachable(settings.stun) if server.family == 4]
    addresses = dict.fromkeys(server.address for server in servers)
    ports = dict.fromkeys(server.port for server in servers)
    return tuple(Endpoint(address, port) for port in ports for address in addresses)


def _without_choice(settings: Settings) -> str:
    if reason := without_stun(settings) or without_ipv4(settings):
        return reason
    if len(stun_endpoints(settings)) < 2:
        return f"{settings.node} has one STUN endpoint only (LAB_STUN), and a step takes two"
    return ""


async def _learn_udp(call: Call, driver: UdpDriver) -> tuple[Forecast, float]:
    """Ask one endpoint after the other: their order is the order of the mappings.

    Also when the last one was asked, which is when the NAT gave its last port.
    """
    found, asked_at = [], call.now
    for server in stun_endpoints(call.settings):
        asked_at = call.now
        learned = await learn(driver, server, call.deadline)
        if learned.mapped is None:
            break
        found.append(learned.mapped)
    return forecast(found), asked_at


async def _learn_tcp(call: Call, port: TcpPort) -> Forecast:
    found = []
    for server in stun_endpoints(call.settings):
        learned = await port.learn(server)
        if learned.mapped is None:
            break
        found.append(learned.mapped)
    return forecast(found)


def _candidates(call: Call, hosts: Sequence[Candidate], found: Forecast) -> tuple[Candidate, ...]:
    """Expected external endpoints in their order, then private ones."""
    window = int(call.option("window", WINDOW, 1, MOST_WINDOW))
    own = {host.endpoint for host in hosts}
    expected = [endpoint for endpoint in found.next(window) if endpoint not in own]
    seen = [Candidate(CandidateKind.SERVER_REFLEXIVE, endpoint) for endpoint in expected]
    return (*seen, *hosts)[:8]


def _note(call: Call, found: Forecast, ahead: str = "") -> str:
    return f"{call.me}'s NAT {found.words}{ahead}; {call.peer} was found at {{remote}}"


def _told(found: Forecast) -> dict[str, Any]:
    """What the other peer is told beside where to send."""
    return {"forecast": found.words, "step": found.step is not None, "seen": bool(found.seen)}


def _until(
    call: OutgoingCall, found: Forecast, answer: Offer, usual: float, late_s: float = 0.0
) -> float:
    """How long to try, if the callee begins `late_s` late: `usual` seconds at least.

    Half as long if neither NAT has a step: then only one that filters nothing
    lets the other in, and that one does so at once.
    """
    if not _outside(found, answer):
        return nearby_until(call, late_s)
    stepless = found.step is None and answer.details.get("step") is False
    return probing_until(call, late_s + (usual / 2 if stepless else usual))


def _outside(found: Forecast, answer: Offer) -> bool:
    """Whether both are seen by somebody outside, as far as each knows of itself."""
    return bool(found.seen) and answer.details.get("seen") is not False


def _cause(call: OutgoingCall, found: Forecast, answer: Offer) -> str:
    theirs = answer.details.get("forecast")
    more = f", and {call.peer}'s {theirs[:200]}" if isinstance(theirs, str) else ""
    return f"{call.me}'s NAT {found.words}{more}"
