"""Attempts that other peers make and this one answers, from offer to record."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from lab.peer.record import Outcome, Record, Tally
from lab.peer.traversal.call import AttemptError, Established, IncomingCall
from lab.peer.traversal.ground import Ground
from lab.peer.traversal.measure import MOST_GOODPUT_S, ROUND_TRIPS_S
from lab.peer.traversal.purpose import Use, Uses
from lab.peer.traversal.recording import Attempt
from lab.peer.traversal.run import Runs
from lab.peer.traversal.signalling import KIND, Mailbox
from lab.peer.traversal.signals import Decline, Offer
from lab.peer.traversal.technique import Technique

MAX_ANSWERED = 128
"""Attempts of others that are answered at one time."""
MAX_ANSWERED_PER_PEER = 16
MEASURE_S = ROUND_TRIPS_S + MOST_GOODPUT_S + 2.0
"""How long a path is kept for the caller to measure it."""


class Answers:
    """What this peer is doing for others that connect to it.

    `on_answered` is called with the record of each attempt that was answered.
    """

    def __init__(self, ground: Ground, on_answered: Callable[[Record], None]) -> None:
        self.uses: Uses | None = None
        self._ground = ground
        self._on_answered = on_answered
        self._runs = Runs()
        self._answered: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        ground.signalling.announced = self._announced

    async def close(self) -> None:
        """Cancel what is being answered."""
        self._runs.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _announced(self, key: bytes, token: str) -> None:
        now = asyncio.get_running_loop().time()
        self._runs.announced(key, token, self._ground.settings, now)

    def offered(self, sender: str, key: bytes, offer: Offer, size: int) -> None:
        """Answer an offer of another peer, within limits."""
        ground = self._ground
        signalling = ground.by(offer.technique)
        # On its own network a peer may have another name than it would (`lab.peer.lan.names`).
        client = signalling.client
        if client is None or offer.to != client.name or signalling.knows(offer.attempt):
            return
        try:
            technique = ground.technique(offer.technique)
        except AttemptError as error:
            signalling.post(sender, Decline(offer.attempt, "unsupported", error.reason))
            return
        if (
            self._answered.total() >= MAX_ANSWERED
            or self._answered[sender] >= MAX_ANSWERED_PER_PEER
        ):
            reason = f"{ground.settings.node} is answering enough attempts"
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
        ground.under_way[offer.attempt] = (sender, offer.technique, "callee")
        task = asyncio.get_running_loop().create_task(self._answer(technique, mailbox, offer, use))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(
        self, technique: Technique, mailbox: Mailbox, offer: Offer, use: Use | None
    ) -> None:
        ground = self._ground
        attempt = Attempt(offer.technique, ground.settings.node, mailbox.peer)
        deadline = attempt.clock + offer.window_s
        run = ground.kept if use else self._runs.of(mailbox.key, offer.details)
        run.begin(offer.technique, ground.settings)
        call = IncomingCall(
            ground.settings,
            ground.by(offer.technique),
            mailbox,
            attempt=offer.attempt,
            technique=offer.technique,
            deadline=deadline,
            pace=ground.pace,
            restraint=ground.restraint,
            run=run,
        )
        call.incoming = offer
        call.besides = use.besides if use else {}
        try:
            record = await self._answered_record(technique, call, attempt, use)
        finally:
            self._answered[mailbox.peer] -= 1
            ground.under_way.pop(offer.attempt, None)
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
