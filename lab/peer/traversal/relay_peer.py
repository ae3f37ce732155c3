"""Technique `relay-peer`: packets go by way of an ordinary peer that is fit to be a relay.

FastTrack's and Skype's way: no server of the provider's carries anything; a
peer does that has a public address, can be reached by UDP and TCP, and has
line, machine and time to spare (`lab.peer.volunteer`).

1. The caller asks the rendezvous service who is elected, and one of those
   whether it makes room for this attempt.
2. The caller joins there: it says from where it comes, and signs.
3. The offer tells the callee where, and by which key the relay is known; the
   callee joins too.
4. What either sends there goes to the other, sealed as on any path.

Each of them joins over UDP, or over TCP where UDP gets no answer.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lab.peer.driver import Driver
from lab.peer.endpoint import Endpoint
from lab.peer.identity import KEY_BYTES, from_text, to_text
from lab.peer.record import DATA, Candidate, CandidateKind, Outcome, PathKind
from lab.peer.rendezvous.client import RendezvousClient, RendezvousError
from lab.peer.rendezvous.member import Volunteering
from lab.peer.settings import Settings
from lab.peer.streams import StreamDriver
from lab.peer.traversal.call import (
    AttemptError,
    Call,
    Established,
    IncomingCall,
    OutgoingCall,
    from_rendezvous,
)
from lab.peer.traversal.prober import Part
from lab.peer.traversal.seal import Seal
from lab.peer.traversal.settle import CARRIED_S, established, probing_until, settle, silence
from lab.peer.volunteer.joining import KIND, Joining

MOST_ASKED = 3
"""Volunteers that are asked, one after the other."""
CONNECT_S = 3.0


@dataclass(frozen=True, slots=True)
class _Relay:
    """A volunteer that makes room."""

    name: str
    key: bytes
    at: Endpoint

    @property
    def candidate(self) -> Candidate:
        return Candidate(CandidateKind.RELAYED, self.at)


class _NoWayError(Exception):
    """A volunteer is of no use; the text says why."""


class RelayPeer:
    """See the module."""

    name = "relay-peer"

    def applies(self, settings: Settings) -> str:
        if settings.rendezvous:
            return ""
        return f"{settings.node} has no rendezvous service (LAB_RENDEZVOUS is not set)"

    async def call(self, call: OutgoingCall) -> Established:
        relay, driver = await _first_that_works(call)
        where = {"name": relay.name, "key": to_text(relay.key)}
        answer = await call.offer((relay.candidate,), {"relay": where})
        return await _meet(call, driver, relay, call.seal(answer), Part.CALLER)

    async def answer(self, call: IncomingCall) -> Established:
        relay = _named(call)
        try:
            driver = await _join(call, relay)
        except _NoWayError as error:
            raise AttemptError(Outcome.UNREACHABLE, f"{call.me}: {error}") from error
        await call.answer((relay.candidate,))
        return await _meet(call, driver, relay, call.seal(), Part.ACTIVE_CALLEE)


async def _first_that_works(call: OutgoingCall) -> tuple[_Relay, Driver]:
    troubles = []
    for volunteer in await _elected(call):
        try:
            relay = await _ask(call, volunteer)
            return relay, await _join(call, relay)
        except _NoWayError as error:
            troubles.append(str(error))
    raise AttemptError(Outcome.UNREACHABLE, f"{call.me}: {'; '.join(troubles)}")


async def _elected(call: OutgoingCall) -> Sequence[Volunteering]:
    """Some of the peers that are relays now."""
    client = call.signalling.client
    try:
        known = await client.volunteers() if isinstance(client, RendezvousClient) else ()
    except RendezvousError as error:
        raise from_rendezvous(error, call.peer) from error
    others = [one for one in known if one.name not in (call.me, call.peer)]
    elected = [one for one in others if one.elected]
    if not others:
        raise AttemptError(Outcome.UNSUPPORTED, "no other peer volunteers as a relay")
    if not elected:
        lacks = "; ".join(f"{one.name} is not {', '.join(one.lacks)}" for one in others[:3])
        raise AttemptError(Outcome.UNSUPPORTED, f"no volunteer is fit to be a relay: {lacks}")
    return elected[:MOST_ASKED]


async def _ask(call: OutgoingCall, volunteer: Volunteering) -> _Relay:
    name, key = volunteer.name, volunteer.key
    try:
        said = await call.signalling.carry(name, key, call.attempt, call.mailbox.key, call.tally)
    except RendezvousError as error:
        raise _NoWayError(f"{name} can't be asked: {error}") from error
    except TimeoutError:
        raise _NoWayError(f"{name} did not answer") from None
    if said.at is None:
        raise _NoWayError(f"{name} does not carry: {said.reason}")
    return _Relay(name, key, said.at)


def _named(call: IncomingCall) -> _Relay:
    """The relay that an offer names."""
    told, theirs = call.incoming.details.get("relay"), call.incoming.candidates
    try:
        if not isinstance(told, dict) or not theirs:
            raise ValueError("no relay")
        return _Relay(
            str(told.get("name"))[:63], from_text(told.get("key"), KEY_BYTES), theirs[0].endpoint
        )
    except ValueError as error:
        raise AttemptError(Outcome.FAILED, f"{call.peer} named no relay: {error}") from error


async def _join(call: Call, relay: _Relay) -> Driver:
    """Take part at a relay, over UDP or else over TCP."""
    if not call.settings.reachable((relay.at,)) or not relay.at.sendable:
        raise _NoWayError(f"{relay.at} is an address that {call.me} can't send to")
    driver: Driver = await call.open_udp()
    joining = await _joined(call, driver, relay)
    if joining.failed:
        driver.close()
        driver = await _connected(call, relay)
        joining = await _joined(call, driver, relay)
    if joining.joined:
        return driver
    why = "has no room for this attempt" if joining.refused else "did not answer"
    raise _NoWayError(f"the relay {relay.name} at {relay.at} {why}")


async def _joined(call: Call, driver: Driver, relay: _Relay) -> Joining:
    identity = call.signalling.identity
    joining = Joining(identity, call.attempt, relay.at, relay.key, driver.now)
    driver.add(joining)
    await driver.until(lambda: joining.done, call.deadline)
    if joining.joined and joining.stamps:
        driver.stamps[relay.at] = joining.stamps.stamped
        call.at_close(lambda: _leave(driver, joining))
    return joining


async def _leave(driver: Driver, joining: Joining) -> None:
    joining.leave()
    driver.step()


async def _connected(call: Call, relay: _Relay) -> StreamDriver:
    settings = call.settings
    to = settings.nat64.wrap(relay.at) if settings.nat64 else relay.at
    family = socket.AF_INET6 if to.family == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if own := settings.source(relay.at):
            sock.bind((own, 0))
        async with asyncio.timeout_at(min(call.deadline, call.now + CONNECT_S)):
            await asyncio.get_running_loop().sock_connect(sock, to)
        local = Endpoint(*sock.getsockname()[:2])
    except OSError as error:
        sock.close()
        why = error or "no answer"
        text = f"the relay {relay.name} at {relay.at} is reached neither over UDP nor TCP: {why}"
        raise _NoWayError(text) from error
    except BaseException:
        sock.close()
        raise
    driver = StreamDriver(call.tally, local, settings.nat64)
    call.drivers.append(driver)
    await driver.adopt(sock)
    return driver


async def _meet(
    call: OutgoingCall | IncomingCall, driver: Driver, relay: _Relay, seal: Seal, part: Part
) -> Established:
    until = probing_until(call, CARRIED_S) if isinstance(call, OutgoingCall) else call.deadline
    started = call.now
    prober = call.prober(seal, part, (relay.candidate,), KIND)
    driver.add(prober)
    if await settle(driver, prober, until):
        way = driver.transport.upper()
        note = f"by the peer {relay.name} at {{remote}}, {way} to it"
        ends, path = (relay.candidate,), PathKind.RELAYED
        found = established(driver, prober, ends, ends, note=note, path=path)
        return replace(found, carried=(KIND, DATA))
    raise silence(call, driver, prober, started, f"the relay {relay.name} carried nothing")
