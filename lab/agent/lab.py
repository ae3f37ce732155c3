"""One running lab: its network, its programs, its observers.

The agent's server translates requests into calls of this class; everything
that changes the lab goes through `_change`, and so through the executor.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from lab.agent import wire
from lab.agent.attempts import Attempts
from lab.agent.conversing import Conversing
from lab.agent.events import EventLog
from lab.agent.executor import Executor
from lab.agent.programs import Programs
from lab.agent.timeline import Outcome, Player
from lab.errors import LabError
from lab.fabric.journal import Journal
from lab.fabric.links.ferry.client import Ferry
from lab.fabric.links.ferry.protocol import FerryStats
from lab.fabric.network import Network
from lab.observe import counters
from lab.observe.exporter import LOOPBACK, Exporter
from lab.observe.health import HealthSampler
from lab.observe.state import AgentState, ProgramState, to_wire
from lab.paths import LabPaths
from lab.plan.attachment import of_replaced_wire
from lab.plan.change import changed, describe_change, momentary
from lab.plan.diff import diff, rewired
from lab.plan.layers import Layers
from lab.plan.model import Plan, decode, encode
from lab.plan.operations import AnyOperation, LoadRules, ResetNode
from lab.plan.progress import Running
from lab.plan.timeline import Moment
from lab.topology.behaviour import Backend
from lab.topology.changes import Activity, AnyChange, SetActivity

if TYPE_CHECKING:
    from lab.agent.witness import Witness

Emit = Callable[[dict[str, Any]], None]

_CONNECT_SLACK_S = 30.0
"""What a peer may take beyond its own deadlines before it counts as stuck."""


_USUAL_PATIENCE_S = -1.0
"""Stands for what the order says of its own deadlines."""


class Lab:
    """Everything that the agent holds for its lab."""

    def __init__(self, paths: LabPaths) -> None:
        self._paths = paths
        self._journal = Journal.open(paths.journal)
        self._programs = Programs(paths, self._journal, self._announced, self._ended)
        self._ferry: Ferry | None = None
        self._network: Network | None = None
        self._executor: Executor | None = None
        self._plan: Plan | None = None
        self._changing = asyncio.Lock()
        self._explaining = asyncio.Lock()
        self._witness: Witness | None = None
        self._applying = False
        self._events = EventLog(paths.events)
        self._layers = Layers()
        self._player = Player(self._happen, lambda: self._events.note("timeline-ended"))
        self._health = HealthSampler(
            self._ferry_stats, tap_drops=self._unfetched, receive_drops=self._receive_drops
        )
        self._exporter = Exporter(
            paths,
            lambda: self._plan,
            lambda: self._programs.states,
            self._health,
            self._player.counts,
            lateness=self._player.lateness,
        )
        self._attempts = Attempts(
            paths,
            self._exporter.record_attempt,
            self._health.current,
            lambda: self._programs.states,
        )
        self._conversing = Conversing(
            paths,
            self._events,
            self._exporter.sessions,
            self._order,
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
        await self._change(plan, emit)
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
                operations = await self._change_or_undo(plan, emit)
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
            began, before = time.monotonic(), self._plan
            operations = await self._make(changes, emit)
            anew = rewired(before, self._plan) if before and self._plan else ()
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
            "programs": to_wire(self._programs.states),
            "health": msgspec.to_builtins(await asyncio.to_thread(self._health.current)),
        }

    async def toll(self) -> dict[str, Any]:
        """What carrying links has cost the machine so far (`lab.verify.links.toll.Reading`)."""
        mark = await asyncio.to_thread(self._health.mark)
        return {
            "late": mark.ferry.lateness.counts if mark.ferry else (),
            "dropped": mark.host.softirq_drops,
            "unfetched": mark.tap_drops,
            "worker": self._ferry.pid if self._ferry and mark.ferry else None,
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
            "timeout_s": request["timeout_s"],
            "goodput_s": request.get("goodput_s", 0),
            "goodput_once": request.get("goodput_once", False),
            "options": request.get("options", {}),
        }
        async for answer in self._order(local, order):
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

        plan = self._plan
        if plan is None:
            raise LabError("the lab is not up")

        def follow(witness: Witness | None) -> None:
            self._witness = witness

        async with self._explaining:
            explaining = Explaining(self._paths, plan, request, self._ferry_stats, follow)
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
            if self._plan is None:
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
            before, changes = self._plan, moment.changes
            if moment.undo:
                changes = self._layers.lifted(before, moment.key)
            outcome, details = Outcome.DONE, dict[str, Any]()
            try:
                await self._make(changes, _silence)
                if anew := rewired(before, self._plan):
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

    async def _make(self, changes: Sequence[AnyChange], emit: Emit) -> int:
        """Make `changes` to what runs; the number of operations.  Raises as `change` does."""
        if self._plan is None:
            raise LabError("the lab is not up")
        # What ended by itself is stopped first: the plan does not know that it ended.
        ended = self._programs.ended
        stops = [
            msgspec.structs.replace(change, activity=Activity.STOPPED)
            for change in changes
            if isinstance(change, SetActivity)
            and change.activity is Activity.RUNNING
            and not change.only_paused
            and change.node in ended
            and self._plan.node(change.node).activity is Activity.RUNNING
        ]
        plan = changed(self._plan, changes)
        if stops:
            await self._change_or_undo(changed(self._plan, stops), emit)
            plan = changed(self._plan, changes)
        return await self._change_or_undo(plan, emit, momentary(plan, changes), changes)

    async def _change_or_undo(
        self,
        desired: Plan,
        emit: Emit,
        besides: Sequence[AnyOperation] = (),
        changes: Sequence[AnyChange] = (),
    ) -> int:
        """As `_change`; on failure the lab goes back to what it was, and the error is raised."""
        before = self._plan
        try:
            return await self._change(desired, emit, besides, changes)
        except LabError as error:
            if before is None:
                raise
            self._events.note("failed", error=error.message)
            emit({"event": "note", "text": "the change failed: going back to what was"})
            try:
                await self._change(before, emit, self._rules_again(before, desired, besides))
            except LabError as second:
                raise LabError(
                    f"{error.message}; and the way back failed: {second.message}",
                    remedy=f"remove the lab: lab down {self._paths.lab}",
                ) from error
            raise

    def _rules_again(
        self, before: Plan, desired: Plan, besides: Sequence[AnyOperation]
    ) -> tuple[AnyOperation, ...]:
        """What brings rule sets back that a failed change may have left half changed.

        A rule set is more than one table, and what runs tells only what was
        finished.
        """
        if self._executor is None:
            return ()
        begun = (*diff(before, desired), *besides)
        names = {op.node.name for op in begun if isinstance(op, LoadRules | ResetNode)}
        back = diff(self._executor.running.plan(), before)
        names -= {op.node.name for op in back if isinstance(op, LoadRules)}
        return tuple(LoadRules(node=node) for node in before.nodes if node.name in names)

    async def _change(
        self,
        desired: Plan,
        emit: Emit,
        besides: Sequence[AnyOperation] = (),
        changes: Sequence[AnyChange] = (),
    ) -> int:
        """Carry out what leads from what runs to `desired`; the only way to change anything.

        `besides` are operations that leave nothing behind in a plan, `changes`
        what it is all made from, for whoever looks on.  Returns how many
        operations it took.
        """
        await self._programs.prepare(desired)
        executor = await self._ready_for(desired)
        operations = (*diff(executor.running.plan(), desired), *besides)
        witness = self._witness
        if witness is not None:
            await asyncio.to_thread(witness.before, desired, operations, changes)
        try:
            await executor.carry_out(operations, emit)
        finally:
            if witness is not None:
                witness.after()
        executor.running = Running(desired)
        if desired is not self._plan:
            self._plan = desired
            self._save(desired)
        return len(operations)

    async def _ready_for(self, plan: Plan) -> Executor:
        """The executor, with a ferry if the plan needs one that does not run yet."""
        if self._ferry is None and any(link.backend is Backend.FERRY for link in plan.links):
            self._ferry = await asyncio.to_thread(Ferry.start, self._paths, plan.seed)
            if self._network is not None:
                self._network.use_ferry(self._ferry)
        if self._network is None:
            self._network = Network(self._paths, self._journal, self._ferry, plan.seed)
        if self._executor is None:
            self._executor = Executor(self._network, self._programs, Running.nothing(plan))
        return self._executor

    def _save(self, plan: Plan) -> None:
        """Replace the plan on disk in one step: whoever reads it sees the old or the new one."""
        draft = self._paths.plan.with_suffix(".draft")
        try:
            draft.write_bytes(encode(plan))
            draft.replace(self._paths.plan)
        except OSError as error:
            raise LabError(
                f"the plan can't be written to {self._paths.plan}: {error.strerror}",
                remedy="make space in the state folder (LAB_STATE_DIR)",
            ) from error

    # --- what programs say --------------------------------------------------

    def _announced(self, node: str, event: Mapping[str, Any]) -> None:
        self._attempts.heard(node, event)

    def _ended(self, state: ProgramState) -> None:
        self._events.note("exited", node=state.node, code=state.exit_code, last=state.reason)

    def _note(self, event: str, began: float, **details: object) -> None:
        """Log what took from `began` until now."""
        self._events.note(event, **details, seconds=round(time.monotonic() - began, 6))

    async def _order(
        self, node: str, order: dict[str, Any], patience_s: float | None = _USUAL_PATIENCE_S
    ) -> Any:
        """Give an order to the program in `node`; yields its answers.

        It may take `patience_s`, None for as long as it wants to.
        """
        try:
            sock = await asyncio.to_thread(wire.connect, self._paths.node(node) / "control.sock")
        except OSError as error:
            state = self._programs.states.get(node)
            raise LabError(
                f"the program of node {node!r} takes no orders"
                + (f": it is {state.state}" if state is not None and not state.up else ""),
                remedy="only the built-in peer does (`peer: true`); see `lab status`",
            ) from error
        reader, writer = await asyncio.open_unix_connection(sock=sock, limit=wire.LINE_LIMIT)
        deadline = patience_s
        if patience_s == _USUAL_PATIENCE_S:
            deadline = float(order.get("timeout_s", 0)) * 16 + _CONNECT_SLACK_S
        try:
            async with asyncio.timeout(deadline):
                writer.write(wire.pack(order))
                while line := await reader.readline():
                    answer = wire.unpack(line)
                    if "error" in answer:
                        raise LabError(f"node {node!r}: {answer['error']}")
                    yield answer
                    if answer.get("done"):
                        return
            raise LabError(
                f"the program of node {node!r} ended in the middle of an order",
                remedy=f"see `lab logs {node}`",
            )
        except TimeoutError:
            raise LabError(
                f"the program of node {node!r} did not finish in {deadline:.0f} s",
                remedy=f"see `lab logs {node}`",
            ) from None
        finally:
            writer.close()

    def _ferry_stats(self) -> FerryStats | None:
        ferry = self._ferry
        return ferry.stats() if ferry is not None and ferry.alive() else None

    def _unfetched(self) -> int:
        return self._ferry.unfetched() if self._ferry is not None else 0

    def _receive_drops(self) -> int:
        nodes = self._plan.nodes if self._plan is not None else ()
        return counters.receive_drops(self._paths.netns(node.name) for node in nodes)


def _silence(event: dict[str, Any]) -> None:
    """Nobody watches the progress."""
