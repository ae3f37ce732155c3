"""Technique `http`: packets in HTTP, for networks that let out the web and nothing else.

Both peers meet at a web relay.  Each takes the best way that its network
leaves: a WebSocket; within a CONNECT tunnel if it is told of a proxy; and GET
and POST where the proxy opens no tunnels.  What is on the wire is HTTP/1.1,
and what is in it is as sealed as on any path.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace

from lab.peer.driver import Driver
from lab.peer.endpoint import Endpoint
from lab.peer.record import DATA, Candidate, CandidateKind, Outcome, PathKind
from lab.peer.settings import Settings
from lab.peer.traversal.call import AttemptError, Call, Established, IncomingCall, OutgoingCall
from lab.peer.traversal.prober import Part
from lab.peer.traversal.seal import Seal
from lab.peer.traversal.settle import established, settle, silence
from lab.peer.web.connection import RefusedError
from lab.peer.web.message import HttpError
from lab.peer.web.tunnel import Access, Tunnel, by_polling, by_websocket

KIND = "http"
WAY_S = 3.0
"""For each way; the next is tried after that."""
_SESSION = re.compile(r"[0-9a-f]{32}\Z")


class Http:
    """See the module."""

    name = "http"

    def applies(self, settings: Settings) -> str:
        if settings.web_relays:
            return ""
        return f"{settings.node} has no web relay (LAB_WEB_RELAY is not set)"

    async def call(self, call: OutgoingCall) -> Established:
        session = secrets.token_hex(16)
        driver = await _join(call, session)
        answer = await call.offer((_candidate(driver),), {"session": session})
        return await _meet(call, driver, call.seal(answer), Part.CALLER)

    async def answer(self, call: IncomingCall) -> Established:
        session = call.incoming.details.get("session")
        if not isinstance(session, str) or not _SESSION.match(session):
            raise AttemptError(Outcome.FAILED, f"{call.peer} named no session")
        driver = await _join(call, session)
        await call.answer((_candidate(driver),))
        return await _meet(call, driver, call.seal(), Part.PASSIVE_CALLEE)


class WebDriver(Driver):
    """Machines on a tunnel: whoever they send to, it is the other end that hears it."""

    transport = "tcp"

    def __init__(self, call: Call, tunnel: Tunnel, relay: Endpoint) -> None:
        super().__init__(call.tally)
        self.tunnel = tunnel
        self.relay = relay
        self._task = self._loop.create_task(self._read())

    def close(self) -> None:
        super().close()
        self._task.cancel()

    def _transmit(self, data: bytes, destination: Endpoint) -> None:
        self.tunnel.send(data)

    async def _read(self) -> None:
        while data := await self.tunnel.packets.get():
            self._received(data, self.relay)


async def _meet(
    call: OutgoingCall | IncomingCall, driver: WebDriver, seal: Seal, part: Part
) -> Established:
    relay = _candidate(driver)
    prober = call.prober(seal, part, (relay,), KIND)
    started = call.now
    driver.add(prober)
    if await settle(driver, prober, call.deadline):
        note = f"by {driver.tunnel.words} to the web relay {{remote}}"
        path = PathKind.RELAYED
        found = established(driver, prober, (relay,), (relay,), note=note, path=path)
        return replace(found, carried=(KIND, DATA))
    raise silence(call, driver, prober, started, "the web relay carried nothing")


async def _join(call: Call, session: str) -> WebDriver:
    """Join the session by the best way that works."""
    settings, troubles = call.settings, []
    refused = False
    for server, way, proxy in _ways(settings):
        access = Access(
            server,
            session,
            settings.relay_user,
            settings.relay_password,
            settings.source(proxy or server),
            proxy,
            lambda size: call.tally.count("web", size),
        )
        try:
            async with asyncio.timeout_at(min(call.now + WAY_S, call.deadline)):
                tunnel = await way(access)
        except RefusedError as error:
            troubles.append(str(error))
            refused = True
        except (OSError, HttpError, TimeoutError) as error:
            troubles.append(f"{proxy or server}: {error or 'no answer in time'}")
        else:
            call.at_close(tunnel.close)
            driver = WebDriver(call, tunnel, server)
            call.drivers.append(driver)
            return driver
    outcome = Outcome.REFUSED if refused else Outcome.UNREACHABLE
    raise AttemptError(outcome, f"{call.me} does not get through: {'; '.join(troubles[-3:])}")


def _ways(
    settings: Settings,
) -> list[tuple[Endpoint, Callable[[Access], Awaitable[Tunnel]], Endpoint | None]]:
    servers = settings.reachable(settings.web_relays)[:2]
    proxies = (settings.proxy, None) if settings.proxy else (None,)
    ways = (by_websocket, by_polling)
    return [(server, way, proxy) for proxy in proxies for way in ways for server in servers]


def _candidate(driver: WebDriver) -> Candidate:
    return Candidate(CandidateKind.RELAYED, driver.relay)
