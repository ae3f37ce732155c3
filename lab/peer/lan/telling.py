"""Answers by mDNS: to all or to one, not again too soon, and not all hosts at once.

RFC 6762, sections 5.4 and 6.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace

from lab.peer.endpoint import Endpoint
from lab.peer.lan import dns
from lab.peer.lan.dns import Message, Record
from lab.peer.lan.said import Reply

MDNS, MDNS6 = Endpoint("224.0.0.251", 5353), Endpoint("ff02::fb", 5353)
GROUPS = {"mdns": MDNS, "mdns6": MDNS6}
"""Where mDNS speaks to all, by the socket."""
QUIET_S = 1.0
"""What was said to all is not said again for so long (section 6)."""
_LATELY_S = 30.0
"""What all were told within a quarter of its time to live, one may be told alone (section 5.4)."""
_SHARED_AFTER_S = 0.02, 0.12
"""When others may have an answer too, they are given time not to speak at once (section 6)."""
_MOST_LATER = 4
"""How many such answers wait at one time; who gets none asks again."""
_LEGACY_TTL_S = 10
"""Of answers to resolvers that don't hear the group (section 6.7)."""


class Telling:
    """One host's answers; `send` sends a datagram from the socket of that way."""

    def __init__(self, draw: random.Random, send: Callable[[str, bytes, Endpoint], None]) -> None:
        """Nobody has been told anything."""
        self._draw, self._send = draw, send
        self._loop = asyncio.get_running_loop()
        self._told: dict[tuple[str, str, int, bytes], float] = {}
        """When all were told a record, by that way: who hears one need not hear the other."""
        self._later: set[asyncio.TimerHandle] = set()

    def forget(self) -> None:
        """Nobody has been told anything, nor will be what waits."""
        for timer in self._later:
            timer.cancel()
        self._later.clear()
        self._told.clear()

    def answer(self, way: str, query: Message, source: Endpoint, found: Reply) -> None:
        """Tell what was `found` for a query that came from `source` by that way."""
        if source.port != MDNS.port:
            self._answer_legacy(way, query, source, found.answers)
            return
        answer = Message(response=True, answers=found.answers, more=found.more)
        if query.alone and not self._untold(way, found.answers, _LATELY_S):
            self._send(way, dns.encode(answer), source)
        elif all(it.unique for it in found.answers):
            self.to_all(answer, QUIET_S, way)
        else:
            self._after(self._draw.uniform(*_SHARED_AFTER_S), answer, way)

    def to_all(self, message: Message, quiet_s: float = 0.0, *ways: str) -> None:
        """Tell all, by every way unless told, what they were not told there within `quiet_s`."""
        for way in ways or GROUPS:
            answers = self._untold(way, message.answers, quiet_s)
            if message.response:
                if not answers:
                    continue
                self._note(way, answers)
            new = replace(message, answers=answers)
            self._send(way, dns.encode(new), GROUPS[way])

    def _answer_legacy(
        self, way: str, query: Message, source: Endpoint, answers: tuple[Record, ...]
    ) -> None:
        short = tuple(
            replace(it, ttl_s=_LEGACY_TTL_S, unique=False) for it in answers if it.type != dns.NSEC
        )
        if short:
            answer = Message(query.number, True, query.questions, short)
            self._send(way, dns.encode(answer), source)

    def _after(self, seconds: float, answer: Message, way: str) -> None:
        def tell() -> None:
            self._later.discard(timer)
            self.to_all(answer, QUIET_S, way)

        if len(self._later) < _MOST_LATER:
            timer = self._loop.call_later(seconds, tell)
            self._later.add(timer)

    def _note(self, way: str, records: tuple[Record, ...]) -> None:
        now = self._loop.time()
        lately = {key: at for key, at in self._told.items() if now - at < _LATELY_S}
        self._told = lately | {_key_of(way, record): now for record in records}

    def _untold(self, way: str, records: tuple[Record, ...], within_s: float) -> tuple[Record, ...]:
        now, never = self._loop.time(), float("-inf")
        return tuple(
            it for it in records if now - self._told.get(_key_of(way, it), never) >= within_s
        )


def _key_of(way: str, record: Record) -> tuple[str, str, int, bytes]:
    return way, record.name, record.type, record.data
