"""Attempts from order to record: those that this peer makes, and those that it answers."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

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
from lab.peer.traversal.prober import Pace
from lab.peer.traversal.signalling import KIND, Mailbox, Signalling
from lab.peer.traversal.signals import MAX_WINDOW_S, Decline, End, Offer
from lab.peer.traversal.technique import Technique, techniques

MAX_ANSWERED = 128
"""Attempts of others that are answered at one time."""
MAX_ANSWERED_PER_PEER = 16
MEASURED_ROUND_TRIPS = 3
MEASURE_S = 2.0
REGISTER_S = 2.0
"""How long an attempt waits for this peer to be registered."""


@dataclass(frozen=True, slots=True)
class _Start:
    """When an attempt began."""

    wall: float
    clock: float


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
        self._settings = settings
        self._signalling = signalling
        self._on_answered = on_answered
        self._pace = pace
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
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- outgoing ---

    async def connect(
        self, peer: str, names: Sequence[str], *, first: bool, timeout_s: float
    ) -> AsyncIterator[Record]:
        """Try techniques one after the other, `timeout_s` for each; a record of each.

        No names: all there are. `first` stops at the first that works.
        """
        for name in names or tuple(self.techniques):
            record = await self._attempt(peer, name, min(timeout_s, MAX_WINDOW_S))
            yield record
            if first and record.outcome is Outcome.SUCCESS:
                return

    async def _attempt(self, peer: str, name: str, timeout_s: float) -> Record:
        loop = asyncio.get_running_loop()
        start = _Start(time.time(), loop.time())
        tally = Tally()
        technique = self.techniques.get(name)
        try:
            if technique is None:
                reason = f"{self._settings.node} has no technique {name!r}"
                raise AttemptError(Outcome.UNSUPPORTED, reason)
            call = await self._open(peer, name, timeout_s, tally)
        except AttemptError as error:
            return self._failure(peer, name, start, error, tally)
        self._running[call.attempt] = (peer, name, "caller")
        rtt = loop.create_task(self._before(call))
        try:
            return await self._run(technique, call, rtt, start)
        finally:
            rtt.cancel()
            self._signalling.post(peer, End(call.attempt), tally)
            self._running.pop(call.attempt, None)
            await call.close()

    async def _open(self, peer: str, name: str, timeout_s: float, tally: Tally) -> OutgoingCall:
        deadline = asyncio.get_running_loop().time() + timeout_s
        client = self._signalling.client
        if client is None:
            reason = f"{self._settings.node} has no rendezvous service (LAB_RENDEZVOUS is not set)"
            raise AttemptError(Outcome.UNSUPPORTED, reason)
        if peer == self._settings.node:
            raise AttemptError(Outcome.UNSUPPORTED, "a peer does not connect to itself")
        try:
            # It may just be connecting again.
            await client.wait_registered(min(REGISTER_S, timeout_s))
            key = await client.who(peer)
        except RendezvousError as error:
            raise from_rendezvous(error, peer) from error
        attempt = secrets.token_bytes(8)
        mailbox = Mailbox(peer, key, tally)
        self._signalling.open(attempt, mailbox)
        return OutgoingCall(
            self._settings,
            self._signalling,
            mailbox,
            attempt=attempt,
            technique=name,
            deadline=deadline,
            pace=self._pace,
        )

    async def _before(self, call: OutgoingCall) -> None:
        call.rtt_before = await self._signalling.round_trip(call.peer, call.tally)

    async def _run(
        self, technique: Technique, call: OutgoingCall, rtt: asyncio.Task[None], start: _Start
    ) -> Record:
        peer, name = call.peer, call.technique
        try:
            async with asyncio.timeout_at(call.deadline + MEASURE_S):
                path = await technique.call(call)
            await measure(path)
            await asyncio.wait((rtt,), timeout=MEASURE_S)
            return self._success(call, path, start, call.rtt_before)
        except AttemptError as error:
            return self._failure(peer, name, start, error, call.tally, rtt=call.rtt_before)
        except TimeoutError:
            late = AttemptError(Outcome.TIMED_OUT, f"{name} came to no end in time")
            return self._failure(peer, name, start, late, call.tally, rtt=call.rtt_before)
        except Exception as error:
            fault = AttemptError(Outcome.FAILED, f"{type(error).__name__}: {error}")
            return self._failure(peer, name, start, fault, call.tally, rtt=call.rtt_before)

    # --- incoming ---

    def offered(self, sender: str, key: bytes, offer: Offer, size: int) -> None:
        """Answer an offer of another peer, within limits."""
        if offer.to != self._settings.node or self._signalling.knows(offer.attempt):
            return
        technique = self.techniques.get(offer.technique)
        if technique is None:
            reason = f"{self._settings.node} has no technique {offer.technique!r}"
            self._signalling.post(sender, Decline(offer.attempt, "unsupported", reason))
            return
        if (
            self._answered.total() >= MAX_ANSWERED
            or self._answered[sender] >= MAX_ANSWERED_PER_PEER
        ):
            reason = f"{self._settings.node} is answering enough attempts"
            self._signalling.post(sender, Decline(offer.attempt, "busy", reason))
            return
        tally = Tally()
        tally.count(KIND, size)
        mailbox = Mailbox(sender, key, tally)
        self._signalling.open(offer.attempt, mailbox)
        self._answered[sender] += 1
        self._running[offer.attempt] = (sender, offer.technique, "callee")
        task = asyncio.get_running_loop().create_task(self._answer(technique, mailbox, offer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, technique: Technique, mailbox: Mailbox, offer: Offer) -> None:
        loop = asyncio.get_running_loop()
        start = _Start(time.time(), loop.time())
        deadline = start.clock + offer.window_s
        call = IncomingCall(
            self._settings,
            self._signalling,
            mailbox,
            attempt=offer.attempt,
            technique=offer.technique,
            deadline=deadline,
            pace=self._pace,
        )
        call.incoming = offer
        try:
            record = await self._answered_record(technique, call, start)
        finally:
            self._answered[mailbox.peer] -= 1
            self._running.pop(offer.attempt, None)
            await call.close()
        self._on_answered(record)

    async def _answered_record(
        self, technique: Technique, call: IncomingCall, start: _Start
    ) -> Record:
        peer, name = call.peer, call.technique
        loop = asyncio.get_running_loop()
        work = loop.create_task(technique.answer(call))
        ended = loop.create_task(call.mailbox.ended.wait())
        try:
            await asyncio.wait((work, ended), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                gone = AttemptError(Outcome.TIMED_OUT, f"{peer} gave up before there was a path")
                return self._failure(peer, name, start, gone, call.tally)
            path = work.result()
            record = self._success(call, path, start, None)
            # The caller still measures the path; it says when it is done.
            await asyncio.wait((ended,), timeout=max(0.0, call.deadline - loop.time()))
            return record
        except AttemptError as error:
            code = "unsupported" if error.outcome is Outcome.UNSUPPORTED else "failed"
            self._signalling.post(peer, Decline(call.attempt, code, error.reason), call.tally)
            return self._failure(peer, name, start, error, call.tally)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            self._signalling.post(peer, Decline(call.attempt, "failed", reason), call.tally)
            fault = AttemptError(Outcome.FAILED, reason)
            return self._failure(peer, name, start, fault, call.tally)
        finally:
            work.cancel()
            ended.cancel()

    # --- records ---

    def _success(
        self, call: OutgoingCall | IncomingCall, path: Established, start: _Start, rtt: float | None
    ) -> Record:
        found_at = path.prober.first_round_trip_at
        return Record(
            technique=call.technique,
            outcome=Outcome.SUCCESS,
            reason=path.note,
            local=self._settings.node,
            remote=call.peer,
            path=path.path,
            local_candidate=path.local,
            remote_candidate=path.remote,
            started_at=start.wall,
            time_to_path_s=found_at - start.clock if found_at is not None else None,
            rtt_before_s=rtt,
            rtt_after_s=min(path.prober.samples, default=None),
            packets=dict(call.tally.packets),
            octets=dict(call.tally.octets),
        )

    def _failure(
        self,
        peer: str,
        name: str,
        start: _Start,
        error: AttemptError,
        tally: Tally,
        *,
        rtt: float | None = None,
    ) -> Record:
        return Record(
            technique=name,
            outcome=error.outcome,
            reason=error.reason,
            local=self._settings.node,
            remote=peer,
            started_at=start.wall,
            rtt_before_s=rtt,
            packets=dict(tally.packets),
            octets=dict(tally.octets),
        )


async def measure(path: Established) -> None:
    """Measure round trips on the path, one after the other; lost ones are missing."""
    driver, prober = path.driver, path.prober
    until = driver.now + MEASURE_S
    for _ in range(MEASURED_ROUND_TRIPS):
        count = len(prober.samples)
        prober.ping(driver.now)
        driver.step()
        enough = count + 1
        await driver.until(
            lambda enough=enough: len(prober.samples) >= enough,  # type: ignore[misc]  # bound early
            min(until, driver.now + MEASURE_S / MEASURED_ROUND_TRIPS),
        )
