"""Servers that say nothing: what the attempts of one run know of them together.

A server that did not answer the whole of a question's schedule is silent, and
each attempt would find that out anew, at seconds apiece.  What one of them has
found, the next ones are told, with its age.  It holds for a moment only: a
`Watch` goes on asking, so that a server which is there again is known to be
within that moment, and nothing is concluded from how things were.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from lab.peer.driver import open_tcp, open_udp
from lab.peer.endpoint import Endpoint
from lab.peer.record import Tally
from lab.peer.settings import Settings
from lab.peer.stun.codec import Method, request
from lab.peer.stun.transaction import QUICK, Schedule, Transaction

FRESH_S = 1.5
"""For how long a server that has just been silent need not be asked: a question and a half."""
AGAIN_S = 0.5
"""Between two questions of a watch over UDP (RFC 8489, section 6.2.1: the usual RTO)."""
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

    def clear(self) -> None:
        """Forget everything: this is another network."""
        self.udp.clear()
        self.tcp.clear()

    def age(self) -> None:
        """Nothing is fresh any more."""
        for silent in (self.udp, self.tcp):
            for server, at in silent.items():
                silent[server] = at - FRESH_S


def fresh(silent: dict[Endpoint, float], server: Endpoint, now: float) -> bool:
    """Whether `server` has been silent so lately that asking it again would tell nothing new."""
    at = silent.get(server)
    return at is not None and now - at < FRESH_S


class Watch:
    """Asks servers, and goes on asking those that are silent, from ports of its own.

    What it sends belongs to no attempt, and is counted with none.
    """

    def __init__(self, settings: Settings, silences: Silences) -> None:
        self._settings = settings
        self._silences = silences
        self._tasks: dict[tuple[str, Endpoint], asyncio.Task[None]] = {}
        self._loop = asyncio.get_running_loop()
        self._used_at = self._loop.time()
        self._timer = self._loop.call_later(AGAIN_S, self._look)

    @property
    def watched(self) -> tuple[tuple[str, Endpoint], ...]:
        """Whom it is asking now, by transport."""
        return tuple(key for key, task in self._tasks.items() if not task.done())

    def survey(self, udp: Iterable[Endpoint], tcp: Iterable[Endpoint]) -> None:
        """Ask each server once by the whole schedule; who is silent is watched from then on."""
        for server in dict.fromkeys(udp):
            self._start("udp", server, known=False)
        for server in dict.fromkeys(tcp):
            self._start("tcp", server, known=False)

    def carry_on(self) -> None:
        """Go on for another while; to be called when an attempt begins."""
        self._used_at = self._loop.time()
        self._timer.cancel()
        self._look()

    def _look(self) -> None:
        """Watch also those that attempts have found silent meanwhile."""
        for server in self._silences.udp:
            self._start("udp", server, known=True)
        for server in self._silences.tcp:
            self._start("tcp", server, known=True)
        if not self._idle():
            self._timer = self._loop.call_later(AGAIN_S, self._look)

    def close(self) -> None:
        """Ask no more."""
        self._timer.cancel()
        for task in self._tasks.values():
            task.cancel()

    def _start(self, transport: str, server: Endpoint, *, known: bool) -> None:
        running = self._tasks.get((transport, server))
        if running is None or running.done():
            work = self._udp if transport == "udp" else self._tcp
            self._tasks[transport, server] = self._loop.create_task(work(server, known=known))

    def _idle(self) -> bool:
        return self._loop.time() - self._used_at > IDLE_S

    async def _udp(self, server: Endpoint, *, known: bool) -> None:
        silent = self._silences.udp
        try:
            driver = await open_udp(self._settings.bind, Tally(), self._settings.ipv4)
        except OSError:
            return  # The attempts will say so themselves.
        asked = Transaction(request(Method.BINDING), server, _ALL_ALONG, driver.now)
        silent_from = driver.now + (0.0 if known else QUICK.failure)
        driver.add(asked)
        try:
            while not asked.done and not self._idle():
                await driver.until(lambda: asked.done, driver.now + AGAIN_S)
                if not asked.done and driver.now >= silent_from:
                    silent[server] = driver.now
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
                break  # Refused: whoever asks is told so at once.
            else:
                driver.close()
                break
        silent.pop(server, None)
