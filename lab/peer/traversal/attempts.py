"""Attempts that this peer makes, from order to record."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence

from lab.peer.record import Outcome, Record, Tally
from lab.peer.rendezvous.client import RendezvousError
from lab.peer.settings import Settings
from lab.peer.traversal.allowance import Allowance
from lab.peer.traversal.answers import Answers
from lab.peer.traversal.call import AttemptError, Established, OutgoingCall, from_rendezvous
from lab.peer.traversal.ground import Ground
from lab.peer.traversal.measure import goodput, round_trips, same
from lab.peer.traversal.purpose import Use, Wish
from lab.peer.traversal.recording import Attempt
from lab.peer.traversal.run import Run
from lab.peer.traversal.signalling import Mailbox, Signalling
from lab.peer.traversal.signals import Announce, End
from lab.peer.traversal.technique import Technique

GRACE_S = 2.0
"""What a technique may take beyond its time, to end."""
ROUND_TRIPS = 3
"""To the other peer over the service, of which the shortest counts."""
REGISTER_S = 2.0
"""How long an attempt waits for this peer to be registered."""


class Attempts(Ground):
    """What this peer is doing to connect to others, and what it answers.

    `on_answered` is called with the record of each attempt of another peer
    that was answered here.
    """

    def __init__(
        self,
        settings: Settings,
        signalling: Signalling,
        on_answered: Callable[[Record], None],
    ) -> None:
        super().__init__(settings, signalling)
        self.answers = Answers(self, on_answered)

    async def close(self) -> None:
        """Cancel what is being answered."""
        await self.answers.close()

    async def connect(self, peer: str, names: Sequence[str], wish: Wish) -> AsyncIterator[Record]:
        """Try techniques one after the other; a record of each.

        No names: all there are, of which those that cannot work say so at once.
        """
        names = names or tuple(self.techniques)
        run = Run() if len(names) == 1 else Run.of_many()
        if run.token:
            self.signalling.post(peer, Announce(bytes.fromhex(run.token)))
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
        return await self._attempt(peer, name, wish, self.kept, use)

    async def _attempt(
        self, peer: str, name: str, wish: Wish, run: Run, use: Use | None = None
    ) -> Record:
        attempt = Attempt(name, self.settings.node, peer)
        tally = Tally()
        try:
            technique = self.technique(name)
            run.begin(name, self.settings)
            allowance = Allowance(attempt.clock, wish.timeout_s, run.rtt)
            call = await self._open(peer, name, wish, tally, run, allowance)
        except AttemptError as error:
            return attempt.failure(error, tally)
        call.besides = {**run.said, **(use.besides if use else {})}
        self.under_way[call.attempt] = (peer, name, "caller")
        rtt = asyncio.get_running_loop().create_task(self._before(call, allowance))
        try:
            record = await self._run(technique, call, rtt, attempt, wish, use)
            return record if record.outcome.connected else allowance.judged(record, call.now)
        finally:
            rtt.cancel()
            call.signalling.post(peer, End(call.attempt), tally)
            self.under_way.pop(call.attempt, None)
            await call.close()

    async def _open(  # noqa: PLR0917 - what an attempt consists of
        self, peer: str, name: str, wish: Wish, tally: Tally, run: Run, allowance: Allowance
    ) -> OutgoingCall:
        left = allowance.until - asyncio.get_running_loop().time()
        signalling = self.by(name)
        client = signalling.client
        if client is None:
            reason = f"{self.settings.node} has no rendezvous service (LAB_RENDEZVOUS is not set)"
            raise AttemptError(Outcome.UNSUPPORTED, reason)
        if peer == client.name:
            raise AttemptError(Outcome.UNSUPPORTED, "a peer does not connect to itself")
        try:
            # It may just be connecting again.
            await client.wait_registered(min(REGISTER_S, left))
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
            deadline=allowance.until,
            pace=self.pace,
            restraint=self.restraint,
            run=run,
            options=wish.options,
        )

    async def _before(self, call: OutgoingCall, allowance: Allowance) -> None:
        try:
            for _ in range(ROUND_TRIPS):
                rtt = await call.signalling.round_trip(call.peer, call.tally, count=1)
                if rtt is None:
                    return
                allowance.measured(rtt)
                call.deadline = allowance.until
                call.rtt_before = min(rtt, call.rtt_before or rtt)
                call.rtt_known.set()
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
            path = await call.within(technique.call(call), GRACE_S)
            if use:
                record = attempt.success(call, path, rtt_before=call.rtt_before)
                use.on_record(record)
                await use.run(call, path)
                return record
            await round_trips(path)
            await asyncio.wait((rtt,), timeout=GRACE_S)
            by, carried = await self._carried(call, path, wish)
            return attempt.success(
                call, path, rtt_before=call.rtt_before, goodput_bps=carried, goodput_by=by
            )
        except AttemptError as error:
            failed = error
        except TimeoutError:
            failed = AttemptError(Outcome.TIMED_OUT, f"{call.technique} came to no end in time")
        except Exception as error:
            failed = AttemptError(Outcome.FAILED, f"{type(error).__name__}: {error}")
        return attempt.failure(failed, call.tally, rtt_before=call.rtt_before, tries=call.tries)

    async def _carried(
        self, call: OutgoingCall, path: Established, wish: Wish
    ) -> tuple[str, float | None]:
        """What the path carries, and the technique by which one like it was measured before."""
        if wish.goodput_s <= 0:
            return "", None
        known = call.run.carried
        if wish.goodput_once and (before := known.get(same(path))):
            return before
        found = await goodput(path, wish.goodput_s)
        if found:
            known[same(path)] = call.technique, found
        return "", found
