"""An attempt or a session, recorded: what `lab explain` asks of the agent."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from lab.agent.witness import Witness
from lab.fabric.claimed import with_claimed
from lab.fabric.links.ferry.protocol import FerryStats
from lab.observe.capture import Recorder
from lab.observe.explain.events import SESSION, Capture, Missing, Said
from lab.observe.explain.wiring import own_addresses, way
from lab.paths import LabPaths
from lab.plan.model import Plan

Emit = Callable[[dict[str, Any]], None]
Connect = Callable[[Emit], Awaitable[object]]
"""Makes the attempt; what it is given is called with each event."""
Hold = Callable[[Mapping[str, Any], Emit, asyncio.Event], Awaitable[dict[str, Any]]]
"""Holds the session that a request asks for until the event is set; its record."""

_QUIET_S, _PATIENCE_S = 0.2, 1.5
"""How long nothing is under way any more before the recording ends, and how long at most."""
_STEADY, _STEADY_S = 6, 10.0
"""Packets that come in at each end before anything is done, so that silence is noticed."""
_NOTICE_S = 4.0
"""After a change, until a dead path is noticed; on most it takes some 2.5 s.

Where fewer than `_STEADY` packets come in by then, it is about to be noticed.
"""
_ORDERED_S = 30.0
"""How long the change that is to happen may take to come."""
_REPAIR_S = 10.0
"""How long the repair may take, if nobody says."""
_RESUME_S = 5.0
"""After a path was repaired, until datagrams come again."""


class Explaining:
    """Records what happens between two peers, on one order."""

    def __init__(
        self,
        paths: LabPaths,
        plan: Plan,
        request: Mapping[str, Any],
        ferry_stats: Callable[[], FerryStats | None],
        follow: Callable[[Witness | None], None],
    ) -> None:
        """`ferry_stats` says what links have lost so far, if any of them count it.

        `follow` is given who is to be told of changes, and None when nobody is.
        """
        self._request = request
        self._local, self._remote = str(request["local"]), str(request["remote"])
        self._plan = with_claimed(plan, paths)
        self._paths = paths
        self._ferry_stats = ferry_stats
        self._follow = follow

    async def attempt(self, connect: Connect) -> Capture:
        """Have the attempt made that was asked for.

        Raises LabError if the network can't be looked at or the attempt not be made.
        """
        records: list[dict[str, Any]] = []

        def hear(event: dict[str, Any]) -> None:
            if event.get("event") == "attempt":
                records.append(event["record"])

        async with self._recording() as recording:
            await connect(hear)
        record = records[-1] if records else {}
        technique = str(self._request["techniques"][0])
        return msgspec.structs.replace(recording.capture, technique=technique, record=record)

    async def session(self, hold: Hold, emit: Emit, hang_up: asyncio.Event) -> Capture:
        """Have a session held, and record it from when it has a path.

        Emits `ready` then, so that something may be done to the network; the end
        comes when that has had its effect, after `for_s` if it is asked for, or
        with `hang_up`.  Raises LabError as `attempt`.
        """
        course = _Course()
        ending = asyncio.Event()
        order = {**self._request, "for_s": 0.0}
        holding = asyncio.ensure_future(hold(order, course.hear, ending))
        capture = self._nothing()
        try:
            await _first(holding, course.until(lambda: course.heard("path") > 0), hang_up.wait())
            if course.heard("path") and not holding.done():
                async with self._recording() as recording:
                    await asyncio.to_thread(
                        recording.recorder.wait_arrivals,
                        (self._local, self._remote),
                        _STEADY,
                        _STEADY_S,
                    )
                    emit({"event": "ready"})
                    for_s = float(self._request.get("for_s") or 0)
                    seen = (
                        asyncio.sleep(for_s)
                        if for_s
                        else self._effect(
                            course,
                            recording,
                            float(self._request.get("timeout_s") or _REPAIR_S),
                        )
                    )
                    await _first(holding, seen, hang_up.wait())
                capture = recording.capture
        finally:
            ending.set()
            record = await holding
        began = float(record.get("started_at") or 0)
        said = [
            Said(int((began + float(event.get("at_s") or 0)) * 1e9), event)
            for event in course.events
        ]
        return msgspec.structs.replace(capture, record=record, said=tuple(said))

    async def _effect(self, course: _Course, recording: _Recording, timeout_s: float) -> None:
        """Until the change that is awaited was made, and the session has got over it, or not."""
        course.witness = witness = recording.witness
        async with _at_most(_ORDERED_S):
            await course.until(lambda: witness.happened)
        async with _at_most(_NOTICE_S + timeout_s):
            silent = True
            while silent and not course.heard("dead"):
                async with _at_most(_NOTICE_S):
                    await course.until(lambda: course.heard("dead") > 0)
                silent = recording.least_arrivals(_NOTICE_S / 2) < _STEADY
        if not course.heard("dead"):
            return
        async with _at_most(timeout_s):
            await course.until(lambda: course.heard("repaired", "back") >= course.heard("dead"))
            async with _at_most(_RESUME_S):
                await course.until(lambda: course.heard("resumed") >= course.heard("dead"))

    def _nothing(self) -> Capture:
        return Capture(
            plan=self._plan,
            local=self._local,
            remote=self._remote,
            technique=SESSION,
            record={},
            sightings=(),
        )

    @asynccontextmanager
    async def _recording(self) -> AsyncIterator[_Recording]:
        """Record what passes in the block, and what is changed; then the capture is there."""
        found = way(self._plan, self._local, self._remote)
        nodes = [self._plan.node(name) for name in dict.fromkeys(found.nodes)]
        before = await asyncio.to_thread(self._ferry_stats)
        recorder = Recorder(self._paths, nodes, own_addresses(self._plan, found))
        witness = Witness(recorder, self._plan, self._local, self._remote)
        recording = _Recording(recorder, witness, (self._local, self._remote))
        await asyncio.to_thread(recorder.__enter__)
        self._follow(witness)
        try:
            yield recording
            if not self._request.get("session"):
                await asyncio.to_thread(recorder.wait_quiet, _QUIET_S, _PATIENCE_S)
            held = await asyncio.to_thread(recorder.held)
            rules = await asyncio.to_thread(recorder.rules)
        finally:
            self._follow(None)
            await asyncio.to_thread(witness.end)
            await asyncio.to_thread(recorder.__exit__, None, None, None)
            after = await asyncio.to_thread(self._ferry_stats)
        recording.capture = msgspec.structs.replace(
            self._nothing(),
            sightings=tuple(recorder.sightings),
            decisions=tuple(recorder.decisions),
            rules=rules,
            held=held,
            lost=tuple(dict.fromkeys(recorder.lost)),
            untraced=tuple(recorder.untraced),
            missing=tuple(_missing(before, after)),
            ended_ns=recorder.ended_ns,
            happened=witness.account(),
        )


class _Recording:
    """A recording that goes on; `capture` is there when it has ended."""

    capture: Capture

    def __init__(self, recorder: Recorder, witness: Witness, ends: tuple[str, str]) -> None:
        self.recorder = recorder
        self.witness = witness
        self._ends = ends

    def least_arrivals(self, lately_s: float) -> int:
        """How many packets have come in lately at that end where fewer did."""
        since = time.time_ns() - round(lately_s * 1e9)
        sightings = self.recorder.sightings
        came = Counter(s.node for s in sightings if s.at_ns >= since and not s.outgoing)
        return min(came[name] for name in self._ends)


class _Course:
    """What a session has said so far, and waiting for more."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.witness: Witness | None = None
        self._more = asyncio.Event()

    def hear(self, event: dict[str, Any]) -> None:
        if event.get("event") == "session":
            self.events.append(event)
            self._more.set()

    def heard(self, *what: str) -> int:
        """How often it said one of these."""
        return sum(event.get("what") in what for event in self.events)

    async def until(self, true: Callable[[], object]) -> None:
        """Until `true` is so, looked at again whenever something is said or was changed."""
        while not true():
            self._more.clear()
            if self.witness is not None:
                self.witness.tell = self._more.set
            await self._more.wait()


async def _first(*awaited: Awaitable[object]) -> None:
    """Wait for the first of them; the others are given up, but for a task, which goes on."""
    tasks = [asyncio.ensure_future(one) for one in awaited]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task, one in zip(tasks, awaited, strict=True):
            if task is not one:
                task.cancel()


@asynccontextmanager
async def _at_most(seconds: float) -> AsyncIterator[None]:
    """Give the block up after so long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            yield


def _missing(before: FerryStats | None, after: FerryStats | None) -> Iterator[Missing]:
    """What each direction of a link lost between the two."""
    if before is None or after is None:
        return
    earlier = {link.name: link for link in before.links}
    for link in after.links:
        first = earlier.get(link.name)
        if first is None:
            continue
        for up in (True, False):
            was, now = (each.a_to_b if up else each.b_to_a for each in (first, link))
            lost = now.lost - was.lost
            full = now.overflowed + now.early - was.overflowed - was.early
            if lost > 0 or full > 0:
                yield Missing(link=link.name, up=up, lost=max(lost, 0), full=max(full, 0))
