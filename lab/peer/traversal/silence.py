"""Servers that say nothing: what the attempts of one run know of them together.

A server that did not answer the whole of a question's schedule is silent, and
each attempt would find that out anew, at seconds apiece.  What one of them has
found, the next ones are told, with its age.  It holds for a moment only: a
`Watch` goes on asking, so that a server which is there again is known to be
within that moment, and nothing is concluded from how things were.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar
from weakref import WeakSet

from lab.peer.driver import Driver, open_tcp, open_udp
from lab.peer.endpoint import Endpoint
from lab.peer.portmap.ask import CLIENTS
from lab.peer.portmap.exchange import Host
from lab.peer.portmap.gateway import own_address
from lab.peer.portmap.lease import ClosedError, PortmapError
from lab.peer.record import Tally
from lab.peer.settings import Settings
from lab.peer.stun.codec import Method, request
from lab.peer.stun.transaction import Schedule, Transaction

_Who = TypeVar("_Who", bound=Hashable)

FRESH_S = 1.5
"""For how long a server that has just been silent need not be asked: a question and a half."""
ROUTER_FRESH_S = 3.0
"""The same of a router, which is asked by schedules of two seconds."""
CLOSED_FRESH_S = 15.0
"""The same of one that refused a connection, or a firewall for it: that tells of a short wait."""
AGAIN_S = 0.5
"""Between two questions of a watch over UDP (RFC 8489, section 6.2.1: the usual RTO)."""
SURVEY_S = 1.75
"""A server is silent that did not answer four questions, `AGAIN_S` apart."""
CONNECT_S = 1.0
"""For each connection that a watch tries: one SYN."""
LEARN_S = 2.0
"""For a first connection to a server: a lost SYN is sent again after a second."""
IDLE_S = 15.0
"""A watch ends if nothing was attempted for so long."""
_LONGEST = 400
_ALL_ALONG = Schedule(tuple(AGAIN_S * count for count in range(_LONGEST)), AGAIN_S * _LONGEST)
"""A late answer counts as well, so the same question is asked again and again."""


@dataclass(frozen=True, slots=True)
class Silences:
    """Servers that did not answer, by transport, and when that was last so."""

    udp: dict[Endpoint, float] = field(default_factory=dict)
    tcp: dict[Endpoint, float] = field(default_factory=dict)
    router: dict[tuple[str, str], float] = field(default_factory=dict)
    """Protocol and address of a router."""

    closed: dict[Endpoint, float] = field(default_factory=dict)
    """Servers that a reset came from when they were last asked over TCP."""
    waiting: WeakSet[Driver] = field(default_factory=WeakSet)
    """Drivers on which somebody may be waiting for a server."""

    def no_tcp(self, server: Endpoint, now: float) -> bool:
        """Whether no connection to `server` was to be had lately."""
        return fresh(self.tcp, server, now) or fresh(self.closed, server, now, CLOSED_FRESH_S)

    def tell(self) -> None:
        """Let those who wait look again: a server has turned out to be silent."""
        for driver in tuple(self.waiting):
            driver.step()

    def age(self) -> None:
        """Nothing is fresh any more."""
        _age(self.udp)
        _age(self.tcp)
        _age(self.router)
        self.closed.clear()


def fresh(silent: dict[_Who, float], who: _Who, now: float, within: float = FRESH_S) -> bool:
    """Whether `who` has been silent so lately that asking again would tell nothing new."""
    at = silent.get(who)
    return at is not None and now - at < within


def _age(silent: dict[_Who, float]) -> None:
    for who, at in silent.items():
        silent[who] = at - ROUTER_FRESH_S


class Watch:
    """Asks servers, and goes on asking those that are silent, from ports of its own.

    What it sends belongs to no attempt, and is counted with none.
    """

    def __init__(self, settings: Settings, silences: Silences) -> None:
        self._settings = settings
        self._silences = silences
        self._tasks: dict[tuple[str, Hashable], asyncio.Task[None]] = {}
        self._loop = asyncio.get_running_loop()
        self._used_at = self._loop.time()
        self._timer = self._loop.call_later(AGAIN_S, self._look)

    @property
    def watched(self) -> tuple[tuple[str, Hashable], ...]:
        """Whom it is asking now: `udp`, `tcp` or `router`, and whom of these."""
        return tuple(key for key, task in self._tasks.items() if not task.done())

    def survey(self, udp: Iterable[Endpoint], tcp: Iterable[Endpoint]) -> None:
        """Ask each server; who is silent is watched from then on."""
        for server in dict.fromkeys(udp):
            self._start("udp", server, partial(self._udp, server, known=False))
        for server in dict.fromkeys(tcp):
            self._start("tcp", server, partial(self._tcp, server, known=False))

    def survey_router(self, router: str, *, but: str) -> None:
        """Ask a router in all protocols at one time, `but` the one in which others do."""
        for protocol in CLIENTS:
            if protocol != but:
                self._start("router", (protocol, router), partial(self._router, protocol, router))

    def carry_on(self) -> None:
        """Go on for another while; to be called when an attempt begins."""
        self._used_at = self._loop.time()
        self._timer.cancel()
        self._look()

    def _look(self) -> None:
        """Watch also those that attempts have found silent meanwhile."""
        for server in self._silences.udp:
            self._start("udp", server, partial(self._udp, server, known=True))
        for server in self._silences.tcp:
            self._start("tcp", server, partial(self._tcp, server, known=True))
        for who in self._silences.router:
            self._start("router", who, partial(self._router, *who))
        if not self._idle():
            self._timer = self._loop.call_later(AGAIN_S, self._look)

    def close(self) -> None:
        """Ask no more."""
        self._timer.cancel()
        for task in self._tasks.values():
            task.cancel()

    def _start(
        self, transport: str, who: Hashable, work: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        running = self._tasks.get((transport, who))
        if running is None or running.done():
            self._tasks[transport, who] = self._loop.create_task(work())

    def _idle(self) -> bool:
        return self._loop.time() - self._used_at > IDLE_S

    async def _udp(self, server: Endpoint, *, known: bool) -> None:
        silent = self._silences.udp
        try:
            driver = await open_udp(self._settings.bind, Tally(), self._settings.ipv4)
        except OSError:
            return  # The attempts will say so themselves.
        asked = Transaction(request(Method.BINDING), server, _ALL_ALONG, driver.now)
        silent_from = driver.now + (0.0 if known else SURVEY_S)
        driver.add(asked)
        try:
            while not asked.done and not self._idle():
                await driver.until(lambda: asked.done, max(silent_from, driver.now + AGAIN_S))
                if not asked.done:
                    silent[server] = driver.now
                    self._silences.tell()
            if asked.response:
                silent.pop(server, None)
        finally:
            driver.close()

    async def _tcp(self, server: Endpoint, *, known: bool) -> None:
        silent, settings = self._silences.tcp, self._settings
        limit = CONNECT_S if known else LEARN_S
        while not self._idle():
            try:
                source = settings.source(server)
                driver = await open_tcp(source, server, Tally(), limit, settings.nat64)
            except TimeoutError:
                silent[server] = self._loop.time()
                limit = CONNECT_S
            except OSError:
                # Refused: whoever asks is told so at once.
                self._silences.closed[server] = self._loop.time()
                break
            else:
                self._silences.closed.pop(server, None)
                driver.close()
                break
        silent.pop(server, None)

    async def _router(self, protocol: str, router: str) -> None:
        silent = self._silences.router
        while not self._idle():
            try:
                await CLIENTS[protocol](Host(own_address(router), router, Tally())).look()
            except (ClosedError, OSError):
                break  # Whoever asks is told so at once.
            except PortmapError as error:
                if error.answered:
                    break
                silent[protocol, router] = self._loop.time()
            else:
                break
        silent.pop((protocol, router), None)
