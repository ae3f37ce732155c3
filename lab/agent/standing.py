"""What stands of a lab, and the one way to change it.

Whatever is to change is a plan that is desired: `diff` says what leads to it
from what runs, and the executor carries that out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from lab.agent.executor import Executor
from lab.agent.programs import Programs
from lab.errors import LabError
from lab.fabric.journal import Journal
from lab.fabric.links.ferry.client import Ferry
from lab.fabric.links.ferry.protocol import FerryStats
from lab.fabric.network import Network
from lab.observe import counters
from lab.observe.state import ProgramState
from lab.paths import LabPaths
from lab.plan.change import changed, momentary
from lab.plan.diff import diff
from lab.plan.model import Plan, encode
from lab.plan.operations import AnyOperation, LoadRules, ResetNode
from lab.plan.progress import Running
from lab.topology.changes import Activity, AnyChange, SetActivity
from lab.topology.character import Backend

if TYPE_CHECKING:
    from lab.agent.witness import Witness

Emit = Callable[[dict[str, Any]], None]
"""Tells whoever gave the order how far it has come."""


class Standing:
    """The network and the programs of one lab.

    Whoever calls sees to it that one change is made at a time.
    """

    def __init__(
        self,
        paths: LabPaths,
        announced: Callable[[str, Mapping[str, Any]], None],
        ended: Callable[[ProgramState], None],
        failed: Callable[[LabError], None],
    ) -> None:
        """`announced` and `ended` hear of programs, `failed` why a change is undone."""
        self.plan: Plan | None = None
        """What runs; None until there is something."""
        self.witness: Witness | None = None
        """Who looks on while something changes."""
        self._paths = paths
        self._failed = failed
        self._journal = Journal.open(paths.journal)
        self.programs = Programs(paths, self._journal, announced, ended)
        self._ferry: Ferry | None = None
        self._network: Network | None = None
        self._executor: Executor | None = None

    async def make(self, changes: Sequence[AnyChange], emit: Emit) -> int:
        """Make `changes` to what runs; the number of operations.

        Raises as `change_or_undo` does, and InputError for a change of what is not there.
        """
        if self.plan is None:
            raise LabError("the lab is not up")
        # What ended by itself is stopped first: the plan does not know that it ended.
        ended = self.programs.ended
        stops = [
            msgspec.structs.replace(change, activity=Activity.STOPPED)
            for change in changes
            if isinstance(change, SetActivity)
            and change.activity is Activity.RUNNING
            and not change.only_paused
            and change.node in ended
            and self.plan.node(change.node).activity is Activity.RUNNING
        ]
        plan = changed(self.plan, changes)
        if stops:
            await self.change_or_undo(changed(self.plan, stops), emit, changes=())
            plan = changed(self.plan, changes)
        return await self.change_or_undo(plan, emit, momentary(plan, changes), changes)

    async def change_or_undo(
        self,
        desired: Plan,
        emit: Emit,
        besides: Sequence[AnyOperation] = (),
        changes: Sequence[AnyChange] | None = None,
    ) -> int:
        """As `change`; on failure the lab goes back to what it was, and the error is raised."""
        before = self.plan
        try:
            return await self.change(desired, emit, besides, changes)
        except LabError as error:
            if before is None:
                raise
            self._failed(error)
            emit({"event": "note", "text": "the change failed: going back to what was"})
            try:
                again = self._rules_again(before, desired, besides)
                await self.change(before, emit, again, ())
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

    async def change(
        self,
        desired: Plan,
        emit: Emit,
        besides: Sequence[AnyOperation] = (),
        changes: Sequence[AnyChange] | None = None,
    ) -> int:
        """Carry out what leads from what runs to `desired`; the only way to change anything.

        `besides` are operations that leave nothing behind in a plan, `changes`
        what it is all made from, for whoever looks on: None if that is a whole
        file.  Returns how many operations it took.
        """
        await self.programs.prepare(desired)
        executor = await self._ready_for(desired)
        operations = (*diff(executor.running.plan(), desired), *besides)
        witness = self.witness
        if witness is not None:
            await asyncio.to_thread(witness.before, desired, operations, changes)
        failure = "it was given up"
        try:
            heed = None if witness is None else witness.carried
            await executor.carry_out(operations, emit, heed)
            failure = ""
        except LabError as error:
            failure = error.message
            raise
        finally:
            if witness is not None:
                witness.after(failure)
        executor.running = Running(desired)
        if desired is not self.plan:
            self.plan = desired
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
            self._executor = Executor(self._network, self.programs, Running.nothing(plan))
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

    @property
    def ferry_pid(self) -> int | None:
        """The process that carries user-space links; None if there is none."""
        return self._ferry.pid if self._ferry is not None else None

    def ferry_stats(self) -> FerryStats | None:
        """What user-space links did; None if there are none, or their ferry died."""
        ferry = self._ferry
        return ferry.stats() if ferry is not None and ferry.alive() else None

    def unfetched(self) -> int:
        """Frames that user-space links did not fetch in time."""
        return self._ferry.unfetched() if self._ferry is not None else 0

    def receive_drops(self) -> int:
        """What the interfaces of all nodes dropped on receipt."""
        nodes = self.plan.nodes if self.plan is not None else ()
        return counters.receive_drops(self._paths.netns(node.name) for node in nodes)
