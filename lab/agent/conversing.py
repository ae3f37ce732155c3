"""A session between two peers, as the agent has it: what `lab session` asks for.

The attempts in it are watched from when the session began to look for a path,
and no longer than any of them may take: it may look for a better one for hours.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from lab.agent import wire
from lab.agent.events import EventLog
from lab.errors import LabError
from lab.observe.health import HealthSampler
from lab.observe.reported import bounded
from lab.observe.sessions import SessionTally
from lab.paths import LabPaths

Ask = Callable[[str, dict[str, Any], float | None], AsyncIterator[dict[str, Any]]]
"""Gives an order to the program of a node, which has so many seconds; yields its answers."""
Emit = Callable[[dict[str, Any]], None]

_SLACK_S = 90.0
"""What a session may take beyond its time: to find the first path, and to say goodbye."""
_TOLD = frozenset({"path", "dead", "repairing", "repaired", "back", "switched", "resumed", "ended"})


class Conversing:
    """Has sessions held, and keeps what became of them."""

    def __init__(
        self,
        paths: LabPaths,
        events: EventLog,
        tally: SessionTally,
        ask: Ask,
        attempted: Callable[[str, Any, tuple[str, ...]], object],
        *,
        health: HealthSampler,
    ) -> None:
        self._paths = paths
        self._events = events
        self._tally = tally
        self._ask = ask
        self._attempted = attempted
        self._health = health

    async def hold(
        self, request: Mapping[str, Any], emit: Emit, hang_up: asyncio.Event
    ) -> dict[str, Any]:
        """Have one peer hold a session with another until its time is over or `hang_up` is set.

        Emits what happens in it; the result is its record.  LabError if the
        program takes no such order.
        """
        local, remote = str(request["local"]), str(request["remote"])
        for_s = float(request["for_s"])
        order = {
            "id": 1,
            "do": "session",
            "peer": remote,
            "techniques": request["techniques"],
            "keepalive_s": request["keepalive_s"],
            "for_s": for_s,
            "rate": request["rate"],
        }
        record: dict[str, Any] = {}
        ending: asyncio.Task[None] | None = None
        mark = await asyncio.to_thread(self._health.mark)
        try:
            async for answer in self._ask(local, order, for_s + _SLACK_S if for_s else None):
                match answer.get("event"), answer.get("what"):
                    case "attempt", _:
                        lately = await asyncio.to_thread(self._health.lately, mark)
                        self._attempted(local, answer.get("record"), lately.reasons)
                    case "session", "opened":
                        session = str(answer.get("session"))
                        ending = asyncio.create_task(self._end(local, session, hang_up))
                    case "session", "record":
                        told = answer.get("record")
                        record = bounded(told if isinstance(told, dict) else {})
                        record |= {"local": local}
                        self._keep(record)
                    case "session", str(what):
                        if what == "repairing":
                            mark = await asyncio.to_thread(self._health.mark)
                        happened = bounded({k: v for k, v in answer.items() if k != "id"})
                        if what in _TOLD:
                            details = {k: v for k, v in happened.items() if k != "event"}
                            self._events.note("session", **{**details, "node": local})
                        emit(happened)
        finally:
            if ending:
                ending.cancel()
        if not record:
            raise LabError(f"node {local!r} held no session", remedy=f"see `lab logs {local}`")
        return record

    async def _end(self, local: str, session: str, hang_up: asyncio.Event) -> None:
        await hang_up.wait()
        order = {"id": 2, "do": "end", "session": session}
        with contextlib.suppress(LabError):  # it has ended by itself
            async for _ in self._ask(local, order, _SLACK_S):
                pass

    def _keep(self, record: Mapping[str, Any]) -> None:
        self._tally.add(record)
        with contextlib.suppress(OSError), self._paths.sessions.open("ab") as sessions:
            sessions.write(wire.pack(dict(record)))
