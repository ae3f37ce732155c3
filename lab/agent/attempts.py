"""Records of attempts: who made them, whether the machine had a part in them, counted and kept.

An attempt that a command ordered is watched from its beginning, and `lab connect`
may prove its path.  One that a program reports by itself is its word and no more:
the record says so, and the health of the last ten seconds stands for that of the
attempt.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from lab.agent import wire
from lab.observe.reported import KEPT_PER_NODE, Source, accepted
from lab.observe.sample import HealthSample
from lab.observe.state import ProgramState
from lab.paths import LabPaths

Record = dict[str, Any]


class Attempts:
    """The attempts of one lab; belongs to the event loop that made it."""

    def __init__(
        self,
        paths: LabPaths,
        count: Callable[[Mapping[str, Any]], None],
        health: Callable[[], HealthSample],
        states: Callable[[], Mapping[str, ProgramState]],
    ) -> None:
        """`count` counts a record; `health` says how the last seconds were, from any thread."""
        self._paths = paths
        self._count = count
        self._health = health
        self._states = states
        self._reported: Counter[str] = Counter()
        self._waiting: list[Record] = []
        self._judging: asyncio.Task[None] | None = None

    def ordered(self, node: str, told: Any, distorted: tuple[str, ...]) -> dict[str, Any]:
        """Count and keep what the program in `node` says of an attempt that was asked of it.

        `distorted` is why the machine may have had a part in it.
        """
        record = {**self._accepted(node, told, Source.ORDERED), "distorted": list(distorted)}
        self._count(record)
        self._keep(record)
        return record

    def heard(self, node: str, event: Mapping[str, Any]) -> None:
        """A program announced something; attempts count, whoever made them."""
        told = event.get("record")
        if event["event"] != "attempt" or not isinstance(told, dict):
            return
        record = self._accepted(node, {"started_at": time.time(), **told}, Source.REPORTED)
        self._count(record)
        self._reported[node] += 1
        if self._reported[node] <= KEPT_PER_NODE:
            self._waiting.append(record)
            if self._judging is None or self._judging.done():
                self._judging = asyncio.get_running_loop().create_task(self._judge())

    async def settled(self) -> None:
        """Wait until all that was heard is written down."""
        if self._judging is not None:
            await self._judging

    async def _judge(self) -> None:
        """Write down what was heard, with how well the machine kept up meanwhile."""
        while self._waiting:
            # One look serves all that came before it.
            records, self._waiting = self._waiting, []
            reasons = (await asyncio.to_thread(self._health)).reasons
            for record in records:
                self._keep({**record, "distorted": list(reasons)})

    def _accepted(self, node: str, told: Any, source: Source) -> Record:
        """A record from the program of `node`, which may be anybody's."""
        state = self._states().get(node)
        return accepted(
            told if isinstance(told, dict) else {},
            local=node,
            program=state.label if state is not None else "",
            source=source,
        )

    def _keep(self, record: Mapping[str, Any]) -> None:
        """Write the record of an attempt down."""
        # Where the disk is full the metrics have it all the same, and whoever ordered it.
        with contextlib.suppress(OSError), self._paths.attempts.open("ab") as attempts:
            attempts.write(wire.pack(dict(record)))
