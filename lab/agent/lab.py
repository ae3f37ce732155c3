"""One running lab: its network, its programs, its observers.

The agent's server translates requests into calls of this class; everything
that changes the lab goes through `Standing`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from lab.agent.attempts import Attempts
from lab.agent.conversing import Conversing
from lab.agent.events import EventLog
from lab.agent.orders import Orders
from lab.agent.standing import Emit, Standing
from lab.agent.timeline import Outcome, Player
from lab.errors import LabError
from lab.observe.exporter import LOOPBACK, Exporter
from lab.observe.health import HealthSampler
from lab.observe.state import AgentState, ProgramState, to_wire
from lab.paths import LabPaths
from lab.plan.attachment import of_replaced_wire
from lab.plan.change import describe_change
from lab.plan.diff import rewired
from lab.plan.layers import Layers
from lab.plan.model import decode
from lab.plan.timeline import Moment
from lab.topology.changes import AnyChange

if TYPE_CHECKING:
    from lab.agent.witness import Witness


class Lab:
    """Everything that the agent holds for its lab."""

    def __init__(self, paths: LabPaths) -> None:
        self._paths = paths
        self._standing = Standing(paths, self._announced, self._ended, self._failed)
        self._orders = Orders(paths, lambda: self._standing.programs.states)
        self._changing = asyncio.Lock()
        self._explaining = asyncio.Lock()
        self._applying = False
        self._events = EventLog(paths.events)
        self._layers = Layers()
        self._player = Player(self._happen, lambda: self._events.note("timeline-ended"))
        self._health = HealthSampler(
            self._standing.ferry_stats,
            tap_drops=self._standing.unfetched,
            receive_drops=self._standing.receive_drops,
        )
        self._exporter = Exporter(
            paths,
            lambda: self._standing.plan,
            lambda: self._standing.programs.states,
            self._health,
            self._player.counts,
            lateness=self._player.lateness,
        )
        self._attempts = Attempts(
            paths,
            self._exporter.record_attempt,
            self._health.current,
            lambda: self._standing.programs.states,
        )
        self._conversing = Conversing(
            paths,
            self._events,
            self._exporter.sessions,
            self._orders.give,
            self._attempts.ordered,
            health=self._health,
        )
        self._agent = AgentState(pid=os.getpid(), started_at=time.time())

    async def up(self, text: str, metrics_port: int, emit: Emit) -> str:
        """Build the lab of the plan `text` from nothing; where its metrics are.

        Raises LabError; what was made by then is in the journal.
        """
        port = self._exporter.start(metrics_port)
        self._agent = msgspec.structs.replace(
            self._agent, metrics=f"http://{LOOPBACK}:{port}/metrics"
        )
        began = time.monotonic()
        plan = decode(text.encode())
        await self._standing.change(plan, emit)
        self._events.lab_is_up()
        self._note("up", began, nodes=plan.node_count, links=len(plan.links))
        self._player.begin(plan.timeline, plan.seed)
        return self._agent.metrics

    async def apply(self, text: str, emit: Emit) -> None:
        """Bring the lab to the plan `text`; on failure, back to what it was.

        The lab is then as its file says at the beginning, so its timeline
        begins too.  Raises the LabError that stopped it.
        """
        async with self._alone():
            self._applying = True
            try:
                began = time.monotonic()
                plan = decode(text.encode())
                operations = await self._standing.change_or_undo(plan, emit)
            finally:
                self._applying = False
            self._note("changed", began, by="apply", operations=operations)
            self._layers = Layers()
            self._player.begin(plan.timeline, plan.seed)

    async def change(self, changes: Sequence[AnyChange], emit: Emit) -> dict[str, Any]:
        """Make `changes` in one step, as a command asks; on failure, none of them.

        Raises InputError if one is about what is not there, else the LabError
        that stopped it.
        """
        async with self._alone():
            began, before = time.monotonic(), self._standing.plan
            operations = await self._standing.make(changes, emit)
            anew = rewired(before, self._standing.plan) if before and self._standing.plan else ()
            what = [describe_change(change) for change in changes]
            self._note("changed", began, by="command", what=what, operations=operations)
        return {"operations": operations, "seconds": time.monotonic() - began, "what": what} | {
            "notes": [of_replaced_wire(link) for link in anew]
        }

    async def follow(self, emit: Emit) -> None:
        """Emit every event until now, then each as it happens; ends by being cancelled."""
        with self._events.followed() as events:
            while True:
                emit({"event": "happened", "what": await events.get()})

    async def status(self) -> dict[str, Any]:
        """What only the running lab knows: its programs, its health, the agent itself."""
        await self._attempts.settled()
        return {
            "agent": msgspec.to_builtins(self._agent),
            "programs": to_wire(self._standing.programs.states),
            "health": msgspec.to_builtins(await asyncio.to_thread(self._health.current)),
        }

    async def toll(self) -> dict[str, Any]:
        """What carrying links has cost the machine so far (`lab.verify.links.toll.Reading`)."""
        mark = await asyncio.to_thread(self._health.mark)
        return {
            "late": mark.ferry.lateness.counts if mark.ferry else (),
            "dropped": mark.host.softirq_drops,
            "unfetched": mark.tap_drops,
            "worker": self._standing.ferry_pid if mark.ferry else None,
        }

    async def connect(self, request: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
        """Have one peer connect to another; emits an `attempt` event per technique.

        Raises LabError if the peer can't be reached or refuses.
        """
        local = str(request["local"])
        mark = await asyncio.to_thread(self._health.mark)
        order = {
            "id": 1,
            "do": "connect",
            "peer": request["remote"],
            "techniques": request["techniques"],
            "first": request["first"],
            "goodput_s": request.get("goodput_s", 0),
            "goodput_once": request.get("goodput_once", False),
            "options": request.get("options", {}),
        }
        if request.get("timeout_s") is not None:
            order["timeout_s"] = request["timeout_s"]
        async for answer in self._orders.give(local, order):
            if answer.get("event") == "attempt":
                so_far = await asyncio.to_thread(self._health.since, mark)
                record = self._attempts.ordered(local, answer.get("record"), so_far.reasons)
                emit({"event": "attempt", "record": record})
        health = await asyncio.to_thread(self._health.since, mark)
        return {"distorted": health.distorted, "reasons": list(health.reasons)}

    async def session(
        self, request: Mapping[str, Any], emit: Emit, hang_up: asyncio.Event
    ) -> dict[str, Any]:
        """Have one peer hold a session with another; see `Conversing.hold`."""
        return await self._conversing.hold(request, emit, hang_up)

    async def explain(self, request: Mapping[str, Any], emit: Emit, hang_up: asyncio.Event) -> str:
        """As `connect` or `session`, and looked at from everywhere: a capture, as JSON.

        Raises LabError as these do, and where packets can't be looked at.
        """
        # Imported here: only who explains pays for it.
        from lab.agent.explaining import Explaining  # noqa: PLC0415
        from lab.observe.explain.events import encode as as_json  # noqa: PLC0415

        plan = self._standing.plan
        if plan is None:
            raise LabError("the lab is not up")

        def follow(witness: Witness | None) -> None:
            self._standing.witness = witness

        async with self._explaining:
            explaining = Explaining(self._paths, plan, request, self._standing.ferry_stats, follow)
            if request.get("session"):
                capture = await explaining.session(self.session, emit, hang_up)
            else:
                capture = await explaining.attempt(lambda hear: self.connect(request, hear))
        return (await asyncio.to_thread(as_json, capture)).decode()

    # --- changing the lab ---------------------------------------------------

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Nothing else changes the lab inside the block.

        Small changes are waited for; LabError while a whole file is applied.
        """
        if self._applying:
            raise LabError(
                "the lab is being changed by another command", remedy="wait for it, then try again"
            )
        async with self._changing:
            yield

    async def _happen(self, moment: Moment, passed: Callable[[], float]) -> Outcome:
        """Make a moment of the timeline happen; what is wrong with it goes into the log."""
        async with self._changing:
            if self._standing.plan is None:
                return Outcome.SKIPPED
            began = time.monotonic()
            actual = round(passed(), 6)
            planned = moment.at_us / 1e6
            self._player.began_late(actual - planned)
            stamps = {
                "planned_s": planned,
                "actual_s": actual,
                "late_s": round(actual - planned, 6),
            }
            before, changes = self._standing.plan, moment.changes
            if moment.undo:
                changes = self._layers.lifted(before, moment.key)
            outcome, details = Outcome.DONE, dict[str, Any]()
            try:
                await self._standing.make(changes, _silence)
                if anew := rewired(before, self._standing.plan):
                    details["notes"] = [of_replaced_wire(link) for link in anew]
                # What failed covers nothing.
                if moment.lasts and not moment.undo:
                    self._layers.laid(before, moment.key, changes)
            except LabError as error:
                outcome, details = Outcome.FAILED, {"error": error.message}
            if moment.undo and not changes:
                outcome = Outcome.SKIPPED
            self._note(
                "timeline",
                began,
                **stamps,
                what=[describe_change(change) for change in changes or moment.changes],
                undo=moment.undo,
                outcome=outcome,
                **details,
            )
            return outcome

    # --- what programs say --------------------------------------------------

    def _announced(self, node: str, event: Mapping[str, Any]) -> None:
        self._attempts.heard(node, event)

    def _ended(self, state: ProgramState) -> None:
        self._events.note("exited", node=state.node, code=state.exit_code, last=state.reason)

    def _failed(self, error: LabError) -> None:
        self._events.note("failed", error=error.message)

    def _note(self, event: str, began: float, **details: object) -> None:
        """Log what took from `began` until now."""
        self._events.note(event, **details, seconds=round(time.monotonic() - began, 6))


def _silence(event: dict[str, Any]) -> None:
    """Nobody watches the progress."""
