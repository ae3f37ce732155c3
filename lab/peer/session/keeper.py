"""The end that leads a session: it opens it, and has another path found when one is dead.

The technique that found the dead path is tried first, at the same time as a
look at whether the rendezvous service still answers; the others follow a
second apart, and the first path that carries frames of the session both ways
is taken, the rest is cancelled.  If all fail, they begin again, until the
session has been without a path for `GIVE_UP_S`.
A session over a relay looks for a better path all the while, ever more seldom;
what was sent over the relay has `LINGER_S` to arrive when there is one.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from lab.peer.record import Outcome, PathKind, Record, Tally
from lab.peer.session.conversation import GIVE_UP_S, Conversation, Emit, Held
from lab.peer.session.path import What
from lab.peer.session.report import End, Report
from lab.peer.session.terms import PACKET_BYTES, Terms, terms_in
from lab.peer.session.wire import NUMBER_BYTES, agreed
from lab.peer.traversal.attempts import Attempts
from lab.peer.traversal.call import AttemptError, Call, Established, OutgoingCall
from lab.peer.traversal.patience import patiently
from lab.peer.traversal.purpose import Use, Wish
from lab.peer.traversal.seal import Agreement
from lab.peer.traversal.signalling import Mailbox

USUAL = ("direct", "udp-punch", "tcp-punch", "relay", "http")
"""What is tried if nobody says what: each network lets one of them pass."""
STAGGER_S = 1.0
"""Between the beginnings of two techniques."""
PAUSE_S = 1.0
"""Before they begin again."""
BYE_S = 0.25
"""How long a goodbye is waited for, which is said `BYES` times at most."""
BYES = 8
IMPROVE_S = (10.0, 20.0, 40.0, 60.0)
"""Between looks for a better path than a relay's; the last one again and again."""
LINGER_S = 1.0
"""How long a path that is used no more still takes what is under way."""
_RELAYS = frozenset(("relay", "relay-peer", "http"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is wanted of a session."""

    peer: str
    techniques: Sequence[str] = ()
    keepalive_s: float = 15.0
    for_s: float = 0.0
    """How long it lasts; 0 until it is ended."""
    rate: float = 50.0
    """Datagrams a second in each direction."""


@dataclass(slots=True)
class _Way:
    """An attempt of the session, and the path that it found."""

    technique: str
    number: bytes = b""


class Keeper(Conversation):
    """One session that this peer has opened."""

    leads = True

    def __init__(
        self, attempts: Attempts, order: Order, emit: Emit, refresh: Callable[[], Awaitable[bool]]
    ) -> None:
        self._agreement = Agreement()
        session = secrets.token_bytes(NUMBER_BYTES)
        terms = Terms(
            session=session,
            ephemeral=self._agreement.ephemeral,
            keepalive_s=order.keepalive_s,
            rate=order.rate,
            size=PACKET_BYTES,
        )
        super().__init__(attempts.settings.node, order.peer, terms, emit)
        self.ending = asyncio.Event()
        """Set it to end the session in good order."""
        self._attempts = attempts
        self._order = order
        self._refresh = refresh
        self._hints = Mailbox(order.peer, b"", Tally())
        self._ways: dict[asyncio.Task[None], _Way] = {}
        self._seeking: asyncio.Task[None] | None = None
        self._key = b""
        self._answered = b""
        self._last = ""
        self._improved = asyncio.Event()
        self._left: bytes | None = None
        """The relay's path that was left for a better one."""
        self._without_since = self.now

    async def run(self) -> Report:
        """Keep the session up until its time is over, somebody ends it, or it is lost."""
        nudges = self._loop.create_task(self._hear())
        improving = self._loop.create_task(self._improve())
        until = self._began + self._order.for_s if self._order.for_s else None
        self._seek("connecting")
        try:
            while True:
                await self._wait(until)
                self.woken.clear()
                for what in self.changed():
                    if what is What.DEAD:
                        self._without_since = self.now
                        self._seek("repairing")
                    else:
                        self._found()
                if end := self._over(until):
                    self.report.end = end
                    break
            if end is End.COMPLETED:
                await self._say_goodbye()
            report = self.finish()
            self.say("ended", outcome=report.end.value, reason=report.reason)
            return report
        finally:
            nudges.cancel()
            improving.cancel()
            self.finish()
            self._stop_seeking()
            for way in tuple(self._ways):
                way.cancel()
            await asyncio.gather(nudges, improving, *self._ways, return_exceptions=True)

    def moved(self, gone: frozenset[str]) -> None:
        super().moved(gone)
        if self._seeking:
            self._seek("repairing")  # what is under way has the old addresses

    # --- the main loop ---

    async def _wait(self, until: float | None) -> None:
        """Until something happened, or time is up."""
        limits = [until] if until is not None else []
        if self.current is None:
            limits.append(self._without_since + GIVE_UP_S)
        waits = [asyncio.ensure_future(e.wait()) for e in (self.woken, self.ending)]
        timeout = max(0.0, min(limits) - self.now) if limits else None
        try:
            await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _over(self, until: float | None) -> End | None:
        report, session = self.report, self.session
        there_was = report.time_to_path_s is not None
        if session and session.over:
            report.reason = f"{self.peer} ended it"
            return End.HUNG_UP
        if self.ending.is_set() or (until is not None and self.now >= until):
            report.reason = "as it was asked to" if there_was else "there was no path"
            return End.COMPLETED if there_was else End.FAILED
        if self.current is None and self.now >= self._without_since + GIVE_UP_S:
            report.reason = f"no path to {self.peer} for {GIVE_UP_S:g} s"
            return End.LOST if there_was else End.FAILED
        return None

    async def _say_goodbye(self) -> None:
        """Tell the other end, and learn what it got."""
        session, held = self.session, self.current
        if session is None or held is None:
            return
        driver = held.path.driver
        # What is sent from now on could not be in the other end's account.
        self.be_silent()
        for _ in range(BYES):
            if session.over:
                break
            session.bye()
            driver.step()
            until = driver.now + BYE_S
            await patiently(driver, lambda: session.over, until, limit=until + BYE_S)

    # --- finding a path ---

    def _seek(self, what: str) -> None:
        """Have a path found; what is under way is cancelled."""
        self._stop_seeking()
        names = self._names()
        self.say(what, techniques=list(names))
        self._seeking = self._loop.create_task(self._race(names))

    def _names(self) -> tuple[str, ...]:
        """The techniques to try: the one that worked last before all others."""
        known, settings = self._attempts.techniques, self._attempts.settings
        usual = [n for n in USUAL if n in known and not known[n].applies(settings)]
        names = list(self._order.techniques) or usual
        return tuple(dict.fromkeys([self._last, *names] if self._last else names))

    async def _race(self, names: Sequence[str]) -> None:
        while True:
            # An offer over a connection that died with the path would be waited for in vain.
            await self._refresh()
            left = deque(names)
            running: set[asyncio.Task[None]] = set()
            while left or running:
                if left:
                    running.add(self._start(left.popleft()))
                _, running = await asyncio.wait(
                    running,
                    timeout=STAGGER_S if left else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
            await asyncio.sleep(PAUSE_S)

    def _start(self, technique: str) -> asyncio.Task[None]:
        way = _Way(technique)
        task = self._loop.create_task(self._try(way))
        self._ways[task] = way
        task.add_done_callback(lambda done: self._ways.pop(done, None))
        return task

    async def _try(self, way: _Way) -> None:
        async def run(call: Call, path: Established) -> None:
            assert isinstance(call, OutgoingCall)  # noqa: S101 - this end calls
            way.number = call.attempt
            self._agree(call)
            await self.carry(call, path)

        use = Use(self.terms.details(), run, self._note)
        wish = Wish(first=True)
        record = await self._attempts.hold(self.peer, way.technique, wish, use)
        if not record.outcome.connected:
            self._note(record)

    async def _improve(self) -> None:
        """Look for a path without a relay while a relay is used, one technique after the other."""
        pauses = iter(IMPROVE_S)
        while True:
            await asyncio.sleep(next(pauses, IMPROVE_S[-1]))
            self._improved.clear()
            for technique in self._names():
                if technique not in _RELAYS and self._relayed and self._seeking is None:
                    trying = self._start(technique)
                    better = self._loop.create_task(self._improved.wait())
                    await asyncio.wait({trying, better}, return_when=asyncio.FIRST_COMPLETED)
                    better.cancel()

    @property
    def _relayed(self) -> bool:
        return self.current is not None and self.current.path.path is PathKind.RELAYED

    def proven(self, number: bytes, held: Held) -> None:
        if self.session and self._relayed and held.path.path is PathKind.DIRECT:
            self._left = self.session.current
            self.session.prefer(number, self.now)
            self._improved.set()
            self._step()

    def _agree(self, call: OutgoingCall) -> None:
        """Hold the other end to the key and the terms of the session; AttemptError if it differs.

        The first attempt decides who the other end is.
        """
        try:
            terms = terms_in(call.answer.details) if call.answer else None
            if terms is None or terms.session != self.terms.session:
                raise ValueError("it answered without the session")
            if self.session is None:
                identities = (call.signalling.identity.key, call.mailbox.key)
                seal = agreed(
                    self._agreement, terms.session, identities, terms.ephemeral, leads=True
                )
                self._key, self._answered = call.mailbox.key, terms.ephemeral
                self._hints.key = self._key
                self.open(seal)
        except ValueError as error:
            raise AttemptError(Outcome.FAILED, f"{self.peer}: {error}") from error
        if (call.mailbox.key, terms.ephemeral) != (self._key, self._answered):
            raise AttemptError(Outcome.REFUSED, f"{self.peer} is not who the session began with")

    def _found(self) -> None:
        """There is a path: no other one is needed."""
        self._stop_seeking()
        if held := self.current:
            self._last = held.technique

    def _stop_seeking(self) -> None:
        """Cancel what is under way, and release the paths that are not used."""
        if self._seeking:
            self._seeking.cancel()
            self._seeking = None
        current = self.session.current if self.session else None
        for task, way in tuple(self._ways.items()):
            held = self.held.get(way.number)
            if held is None:
                task.cancel()
            elif current is not None and way.number != current:
                if way.number == self._left:
                    self._loop.call_later(LINGER_S, held.released.set)
                else:
                    held.released.set()

    def _note(self, record: Record) -> None:
        self._emit({"event": "attempt", "record": record.to_json()})
        if self._outage is not None:
            self._outage.tried.append(f"{record.technique}: {record.outcome.value}")

    async def _hear(self) -> None:
        """Let the other end say that it has lost the path; that is a hint and no more."""
        signalling = self._attempts.signalling
        signalling.open(self.terms.session, self._hints)
        try:
            while True:
                hint = await self._hints.more.get()
                if self._seeking is not None:
                    if hint.details.get("again"):
                        self._seek("repairing")
                elif self.session is not None:
                    self.session.suspect(self.now)
                    self._step()
                await asyncio.sleep(random.uniform(0.5, 1.0))  # noqa: S311 - a hint a second is enough
        finally:
            signalling.close(self.terms.session)
