"""Attempts from order to record: those that this peer makes, and those that it answers."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from lab.peer.record import Outcome, Record, Tally
from lab.peer.rendezvous.client import RendezvousError
from lab.peer.settings import Settings
from lab.peer.traversal.call import (
    AttemptError,
    Established,
    IncomingCall,
    OutgoingCall,
    from_rendezvous,
)
from lab.peer.traversal.lan import NAME as LAN
from lab.peer.traversal.measure import MOST_GOODPUT_S, ROUND_TRIPS_S, goodput, round_trips
from lab.peer.traversal.prober import Pace, Restraint
from lab.peer.traversal.purpose import Use, Uses, Wish
from lab.peer.traversal.recording import Attempt
from lab.peer.traversal.run import Run, Runs
from lab.peer.traversal.signalling import KIND, Mailbox, Signalling
from lab.peer.traversal.signals import MAX_WINDOW_S, Decline, End, Offer
from lab.peer.traversal.technique import Technique, techniques

MAX_ANSWERED = 128
"""Attempts of others that are answered at one time."""
MAX_ANSWERED_PER_PEER = 16
GRACE_S = 2.0
"""What a technique may take beyond its time, to end."""
MEASURE_S = ROUND_TRIPS_S + GRACE_S + MOST_GOODPUT_S
"""How long a callee keeps a path for the caller to measure it."""
ROUND_TRIPS = 3
"""To the other peer over the service, of which the shortest counts."""
REGISTER_S = 2.0
"""How long an attempt waits for this peer to be registered."""


class Attempts:
    """What this peer is doing to connect to others.

    `on_answered` is called with the record of each attempt of another peer
    that was answered here.
    """

    def __init__(
        self,
        settings: Settings,
        signalling: Signalling,
        on_answered: Callable[[Record], None],
        pace: Pace = Pace(),  # noqa: B008 - frozen
    ) -> None:
        self.techniques: Mapping[str, Technique] = techniques()
        self.settings = settings
        """May be replaced: attempts that begin then have the new ones."""
        self.signalling = signalling
        self.uses: Uses | None = None
        self.nearby: Signalling | None = None
        """How peers on this network are spoken to without a service."""
        self._on_answered = on_answered
        self._pace = pace
        self._restraint = Restraint()
        self._runs = Runs()
        self._kept = Run()
        """What attempts for sessions have in common."""
        self._running: dict[bytes, tuple[str, str, str]] = {}
        self._answered: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> list[dict[str, str]]:
        """The attempts under way, for the order `status`."""
        return [
            {"attempt": attempt.hex(), "peer": peer, "technique": technique, "part": part}
            for attempt, (peer, technique, part) in self._running.items()
        ]

    async def close(self) -> None:
        """Cancel what is being answered."""
        self._runs.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- outgoing ---

    async def connect(self, peer: str, names: Sequence[str], wish: Wish) -> AsyncIterator[Record]:
        """Try techniques one after the other; a record of each.

        No names: all there are, of which those that cannot work say so at once.
        """
        names = names or tuple(self.techniques)
        run = Run() if len(names) == 1 else Run.of_many()
        try:
            for name in names:
                record = await self._attempt(peer, name, wish, run)
                yield record
                if wish.first and record.outcome.connected:
                    return
        finally:
            run.close()

    async def hold(self, peer: str, name: str, wish: Wish, use: Use) -> Record:
        """Find a path by one technique and use it; returns when it is of no more use."""
        return await self._attempt(peer, name, wish, self._kept, use)

    async def _attempt(
        self, peer: str, name: str, wish: Wish, run: Run, use: Use | None = None
    ) -> Record:
        attempt = Attempt(name, self.settings.node, peer)
        tally = Tally()
        try:
            technique = self._technique(name)
            run.begin(name, self.settings)
            call = await self._open(peer, name, wish, tally, run)
        except AttemptError as error:
            return attempt.failure(error, tally)
        call.besides = {**run.said, **(use.besides if use else {})}
        self._running[call.attempt] = (peer, name, "caller")
        rtt = asyncio.get_running_loop().create_task(self._before(call))
        try:
            return await self._run(technique, call, rtt, attempt, wish, use)
        finally:
            rtt.cancel()
            call.signalling.post(peer, End(call.attempt), tally)
            self._running.pop(call.attempt, None)
            await call.close()

    def _technique(self, name: str) -> Technique:
        """The technique of that name; AttemptError if it can't work here."""
        technique = self.techniques.get(name)
        if technique is None:
            reason = f"{self.settings.node} has no technique {name!r}"
            raise AttemptError(Outcome.UNSUPPORTED, reason)
        if reason := technique.applies(self.settings):
            raise AttemptError(Outcome.UNSUPPORTED, reason)
        return technique

    async def _open(self, peer: str, name: str, wish: Wish, tally: Tally, run: Run) -> OutgoingCall:
        timeout_s = min(wish.timeout_s, MAX_WINDOW_S)
        deadline = asyncio.get_running_loop().time() + timeout_s
        signalling = self._by(name)
        client = signalling.client
        if client is None:
            reason = f"{self.settings.node} has no rendezvous service (LAB_RENDEZVOUS is not set)"
            raise AttemptError(Outcome.UNSUPPORTED, reason)
        if peer == client.name:
            raise AttemptError(Outcome.UNSUPPORTED, "a peer does not connect to itself")
        try:
            # It may just be connecting again.
            await client.wait_registered(min(REGISTER_S, timeout_s))
            key = run.key if signalling is self.signalling else b""
            key = key or await client.who(peer)
        except RendezvousError as error:
            raise from_rendezvous(error, peer) from error
        if run.token and signalling is self.signalling:
            run.key = key
        attempt = secrets.token_bytes(8)
        mailbox = Mailbox(peer, key, tally)
        signalling.open(attempt, mailbox)
        return OutgoingCall(
            self.settings,
            signalling,
            mailbox,
            attempt=attempt,
            technique=name,
            deadline=deadline,
            pace=self._pace,
            restraint=self._restraint,
            run=run,
            options=wish.options,
        )

    def _by(self, technique: str) -> Signalling:
        """What carries the signals of a technique."""
        return self.nearby if technique == LAN and self.nearby else self.signalling

    async def _before(self, call: OutgoingCall) -> None:
        try:
            for _ in range(ROUND_TRIPS):
                rtt = await call.signalling.round_trip(call.peer, call.tally, count=1)
                if rtt is None:
                    return
                call.rtt_before = min(rtt, call.rtt_before or rtt)
                if call.run.token:  # else the next attempt may be one with another peer
                    call.run.rtt = call.rtt_before
        finally:
            call.rtt_known.set()

    async def _run(  # noqa: PLR0917 - what an attempt consists of
        self,
        technique: Technique,
        call: OutgoingCall,
        rtt: asyncio.Task[None],
        attempt: Attempt,
        wish: Wish,
        use: Use | None,
    ) -> Record:
        try:
            async with asyncio.timeout_at(call.deadline + GRACE_S):
                path = await technique.call(call)
            if use:
                record = attempt.success(call, path, rtt_before=call.rtt_before)
                use.on_record(record)
                await use.run(call, path)
                return record
            await round_trips(path)
            await asyncio.wait((rtt,), timeout=GRACE_S)
            carried = None
            if wish.goodput_s > 0:
                carried = await goodput(path, min(wish.goodput_s, MOST_GOODPUT_S))
            return attempt.success(call, path, rtt_before=call.rtt_before, goodput_bps=carried)
        except AttemptError as error:
            failed = error
        except TimeoutError:
            failed = AttemptError(Outcome.TIMED_OUT, f"{call.technique} came to no end in time")
        except Exception as error:
            failed = AttemptError(Outcome.FAILED, f"{type(error).__name__}: {error}")
        return attempt.failure(failed, call.tally, rtt_before=call.rtt_before, tries=call.tries)

    # --- incoming ---

    def offered(self, sender: str, key: bytes, offer: Offer, size: int) -> None:
        """Answer an offer of another peer, within limits."""
        signalling = self._by(offer.technique)
        # On its own network a peer may have another name than it would (`lab.peer.lan.names`).
        client = signalling.client
        if client is None or offer.to != client.name or signalling.knows(offer.attempt):
            return
        try:
            technique = self._technique(offer.technique)
        except AttemptError as error:
            signalling.post(sender, Decline(offer.attempt, "unsupported", error.reason))
            return
        if (
            self._answered.total() >= MAX_ANSWERED
            or self._answered[sender] >= MAX_ANSWERED_PER_PEER
        ):
            reason = f"{self.settings.node} is answering enough attempts"
            signalling.post(sender, Decline(offer.attempt, "busy", reason))
            return
        try:
            use = self.uses.wanted(sender, key, offer) if self.uses else None
        except AttemptError as error:
            signalling.post(sender, Decline(offer.attempt, "refused", error.reason))
            return
        tally = Tally()
        tally.count(KIND, size)
        mailbox = Mailbox(sender, key, tally)
        signalling.open(offer.attempt, mailbox)
        self._answered[sender] += 1
        self._running[offer.attempt] = (sender, offer.technique, "callee")
        task = asyncio.get_running_loop().create_task(self._answer(technique, mailbox, offer, use))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(
        self, technique: Technique, mailbox: Mailbox, offer: Offer, use: Use | None
    ) -> None:
        attempt = Attempt(offer.technique, self.settings.node, mailbox.peer)
        deadline = attempt.clock + offer.window_s
        run = self._kept if use else self._runs.of(mailbox.key, offer.details)
        run.begin(offer.technique, self.settings)
        call = IncomingCall(
            self.settings,
            self._by(offer.technique),
            mailbox,
            attempt=offer.attempt,
            technique=offer.technique,
            deadline=deadline,
            pace=self._pace,
            restraint=self._restraint,
            run=run,
        )
        call.incoming = offer
        call.besides = use.besides if use else {}
        try:
            record = await self._answered_record(technique, call, attempt, use)
        finally:
            self._answered[mailbox.peer] -= 1
            self._running.pop(offer.attempt, None)
            await call.close()
        if not (use and record.outcome.connected):  # else it was told when there was a path
            self._on_answered(record)

    async def _answered_record(
        self, technique: Technique, call: IncomingCall, attempt: Attempt, use: Use | None
    ) -> Record:
        loop = asyncio.get_running_loop()
        work = loop.create_task(technique.answer(call))
        ended = loop.create_task(call.mailbox.ended.wait())
        try:
            await asyncio.wait((work, ended), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                reason = f"{call.peer} gave up before there was a path"
                gone = AttemptError(Outcome.CANCELLED, reason)
                return attempt.failure(gone, call.tally, tries=call.tries)
            path = work.result()
            record = attempt.success(call, path)
            if use:
                use.on_record(record)
                await _used(use, call, path, ended)
                return record
            # The caller still measures the path; it says when it is done.
            await asyncio.wait((ended,), timeout=max(0.0, call.deadline - loop.time()) + MEASURE_S)
            return record
        except AttemptError as error:
            failed = error
        except Exception as error:
            failed = AttemptError(Outcome.FAILED, f"{type(error).__name__}: {error}")
        finally:
            work.cancel()
            ended.cancel()
        code = "unsupported" if failed.outcome is Outcome.UNSUPPORTED else "failed"
        reason = failed.reason
        if failed.outcome is Outcome.TIMED_OUT:
            # What was found at the endpoints that the caller named is for this end alone:
            # it would make this peer a scanner of the caller's for its own network.
            reason = f"{call.me} found no path"
        call.signalling.post(call.peer, Decline(call.attempt, code, reason), call.tally)
        return attempt.failure(failed, call.tally, tries=call.tries)


async def _used(use: Use, call: IncomingCall, path: Established, ended: asyncio.Task[bool]) -> None:
    """Let the path be used until it is of no more use, here or to the caller."""
    using = asyncio.ensure_future(use.run(call, path))
    try:
        await asyncio.wait((using, ended), return_when=asyncio.FIRST_COMPLETED)
    finally:
        using.cancel()
        # That it never was of use is for the caller to say.
        await asyncio.gather(using, return_exceptions=True)
