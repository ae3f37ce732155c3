"""Technique `relay`: packets go by way of a TURN server (RFC 8656).

One relayed endpoint is enough.  The caller allocates it, over UDP, or over TCP or
TLS when UDP does not pass.  A callee whose UDP passes sends to it from a port of
its own, after telling the caller for which address a permission is needed
(learned from the relay itself by a STUN Binding).  A callee whose UDP is
blocked allocates a second one, over TCP, and both relayed endpoints talk; so
does one that can't send to the address family of the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lab.peer.driver import Driver, TcpDriver
from lab.peer.endpoint import Endpoint
from lab.peer.eyeballs import first_connected, preferred
from lab.peer.record import DATA, Candidate, CandidateKind, Outcome, PathKind
from lab.peer.relay.client import KIND, TurnClient
from lab.peer.relay.tunnel import Tunnel
from lab.peer.settings import Settings
from lab.peer.stun.transaction import tcp_schedule, udp_schedule
from lab.peer.tls import open_tls
from lab.peer.traversal.call import AttemptError, Call, Established, IncomingCall, OutgoingCall
from lab.peer.traversal.learn import Learned, learn
from lab.peer.traversal.needs import without_relay
from lab.peer.traversal.prober import Part, Prober
from lab.peer.traversal.settle import (
    CARRIED_S,
    established,
    probing_until,
    reflexive,
    settle,
    silence,
)
from lab.peer.traversal.silence import fresh

PATIENCE = udp_schedule(rc=2, rm=2)
"""Two tries in 1.5 s: there is TCP to fall back on."""
TCP_S = 5.0
RELEASE_S = 0.5
CHANNEL_WAIT_S = 1.0


@dataclass(slots=True)
class _Allocation:
    """An allocation and the socket that it lives on."""

    driver: Driver
    tunnel: Tunnel
    transport: str

    @property
    def client(self) -> TurnClient:
        return self.tunnel.client


class Relay:
    """See the module."""

    name = "relay"

    def applies(self, settings: Settings) -> str:
        return without_relay(settings)

    async def call(self, call: OutgoingCall) -> Established:
        allocation = await _allocate(call, _servers(call), _family(_servers(call)))
        client, driver = allocation.client, allocation.driver
        ours = (_relayed(client),)
        answer = await call.offer(ours, {"transport": allocation.transport})
        theirs = answer.candidates
        await _permit(call, allocation, theirs)
        started = call.now
        seal = call.seal(answer)
        until = probing_until(call, CARRIED_S)
        prober = call.prober(seal, Part.CALLER, theirs, KIND, through_relay=True)
        _carry(allocation, prober)
        if await settle(driver, prober, until):
            await _use_channel(driver, client, prober)
            note = f"by the relay {client.server}, {allocation.transport.upper()} to it"
            found = established(driver, prober, ours, theirs, note=note, path=PathKind.RELAYED)
            return replace(found, carried=(KIND, DATA))
        cause = f"the relay {client.server} carried nothing"
        raise silence(call, driver, prober, started, cause)

    async def answer(self, call: IncomingCall) -> Established:
        servers, theirs = _servers(call), call.incoming.candidates
        family = theirs[0].endpoint.family if theirs else _family(servers)
        driver: Driver = await call.open_udp()
        same = [server for server in servers if server.family == family]
        learned = Learned(None)
        for server in same[:1]:
            learned = await learn(driver, server, call.deadline, schedule=PATIENCE, kind=KIND)
        if learned.mapped and learned.server:
            server = learned.server
            hosts = call.hosts(driver)
            ours = (*hosts, *reflexive(learned.mapped, hosts))
            prober = call.prober(call.seal(), Part.ACTIVE_CALLEE, theirs, KIND)
            driver.add(prober)
            # The caller needs one permission, for the address that the relay sees.
            await call.answer([c for c in ours if c.endpoint == learned.mapped])
            transport = "udp"
        else:
            # Over UDP only where UDP may pass, in another family than was just tried.
            allocation = await (_allocate_by_stream if same else _allocate)(call, servers, family)
            driver, transport, server = (
                allocation.driver,
                allocation.transport,
                allocation.client.server,
            )
            ours = (_relayed(allocation.client),)
            await _permit(call, allocation, theirs)
            prober = call.prober(call.seal(), Part.ACTIVE_CALLEE, theirs, KIND, through_relay=True)
            _carry(allocation, prober)
            await call.answer(ours, {"transport": transport})
        if await settle(driver, prober, call.deadline):
            note = f"by the relay {server}, {transport.upper()} to it"
            found = established(driver, prober, ours, theirs, note=note, path=PathKind.RELAYED)
            return replace(found, carried=(KIND, DATA))
        raise silence(call, driver, prober, call.deadline - call.incoming.window_s, "")


def _servers(call: Call) -> list[Endpoint]:
    """The endpoints of the relay, IPv6 first."""
    settings = call.settings
    if not settings.relays:
        raise AttemptError(Outcome.UNSUPPORTED, without_relay(settings))
    return preferred(settings.reachable(settings.relays) or settings.relays)


def _family(servers: Sequence[Endpoint]) -> int:
    """The family to have an endpoint relayed in: IPv4 if there is it, which most can send to."""
    return min(server.family for server in servers)


async def _allocate(call: Call, servers: Sequence[Endpoint], family: int) -> _Allocation:
    """An allocation over UDP, or over TCP or TLS if UDP gets no answer."""
    driver = await call.open_udp()
    settings = call.settings
    server = servers[0]
    if all(fresh(driver.silent, server, call.now) for server in servers):
        return await _allocate_by_stream(call, servers, family)
    if len(servers) > 1:
        others = servers[1:]
        seen = await learn(driver, server, call.deadline, *others, schedule=PATIENCE, kind=KIND)
        server = seen.server or server
    user, password = settings.relay_user, settings.relay_password
    client = TurnClient(server, user, password, PATIENCE, family)
    allocation = _Allocation(driver, Tunnel(client), "udp")
    if await _granted(call, allocation):
        return allocation
    if client.refusal and client.refusal.code:
        raise _refused(client)
    driver.silent[server] = call.now
    return await _allocate_by_stream(call, servers, family)


async def _allocate_by_stream(call: Call, servers: Sequence[Endpoint], family: int) -> _Allocation:
    """An allocation over TCP, or by TLS where TCP gets no answer at once."""
    settings, (server, *others) = call.settings, servers
    by_tls = (settings.reachable(settings.relays_by_tls) or settings.relays_by_tls)[:1]
    timeout_s = min(TCP_S, max(0.1, call.deadline - call.now))

    async def connect(at: Endpoint) -> TcpDriver:
        if at not in by_tls:
            return await call.open_tcp(at, timeout_s, *others)
        pin = settings.relay_pin
        driver = await open_tls(settings.source(at), at, call.tally, timeout_s, pin)
        call.drivers.append(driver)
        return driver

    try:
        driver = await first_connected((server, *by_tls), connect, TcpDriver.close)
    except OSError as error:
        ways = "by UDP, TCP and TLS in vain" if by_tls else "neither over UDP nor over TCP"
        reason = f"{call.me} reaches the relay {server} {ways}: {str(error) or 'no answer'}"
        raise AttemptError(Outcome.UNREACHABLE, reason) from error
    return await _over(call, driver, family)


async def _over(call: Call, driver: TcpDriver, family: int) -> _Allocation:
    settings = call.settings
    schedule = tcp_schedule(max(0.1, call.deadline - call.now))
    user, password = settings.relay_user, settings.relay_password
    client = TurnClient(driver.server, user, password, schedule, family)
    allocation = _Allocation(driver, Tunnel(client), driver.transport)
    if not await _granted(call, allocation):
        raise _refused(client)
    return allocation


async def _granted(call: Call, allocation: _Allocation) -> bool:
    driver, client = allocation.driver, allocation.client
    client.allocate(call.now)
    driver.add(allocation.tunnel)
    await driver.until(
        lambda: client.relayed is not None or client.refusal is not None, call.deadline
    )
    if client.relayed is None:
        return False
    call.at_close(lambda: _release(allocation))
    return True


async def _permit(call: Call, allocation: _Allocation, peers: tuple[Candidate, ...]) -> None:
    """Have the relay admit packets from the other peer."""
    client = allocation.client
    addresses = {candidate.endpoint.address for candidate in peers}
    client.refusal = None
    for address in addresses:
        client.permit(address, call.now)
    allocation.driver.step()
    await allocation.driver.until(
        lambda: addresses <= client.permitted or client.refusal is not None, call.deadline
    )
    if not addresses <= client.permitted:
        raise _refused(client)


async def _use_channel(driver: Driver, client: TurnClient, prober: Prober) -> None:
    """Spare the relay and the wire 32 bytes a packet; without it, all works as well."""
    peer = prober.nominated
    if peer:
        client.bind(peer, driver.now)
        driver.step()
        await driver.until(lambda: peer in client.channels, driver.now + CHANNEL_WAIT_S)


async def _release(allocation: _Allocation) -> None:
    """Give the allocation back, so that the server need not keep it until it expires."""
    driver, client = allocation.driver, allocation.client
    allocation.tunnel.inner = None
    client.release(driver.now)
    driver.step()
    await driver.until(lambda: client.released, driver.now + RELEASE_S)


def _carry(allocation: _Allocation, prober: Prober) -> None:
    allocation.tunnel.inner = prober
    allocation.driver.step()


def _relayed(client: TurnClient) -> Candidate:
    return Candidate(CandidateKind.RELAYED, client.relayed or client.server)


def _refused(client: TurnClient) -> AttemptError:
    refusal = client.refusal
    if refusal is None:
        return AttemptError(Outcome.TIMED_OUT, f"no answer from the relay {client.server} in time")
    if refusal.code == 0:
        reason = f"no answer from the relay {client.server}: {refusal.reason}"
        return AttemptError(Outcome.TIMED_OUT, reason)
    reason = f"the relay {client.server} refused: {refusal.reason} ({refusal.code})"
    return AttemptError(Outcome.REFUSED, reason)
