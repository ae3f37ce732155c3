"""The programs of a lab under both runtimes: start, stop, readiness, exits.

A program is ready when it says so (a `ready` line, docs/contract.md) or, if it
does not speak the contract, when it runs.  One that ends is reported and left
alone: nothing is restarted silently.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

import msgspec

from lab.errors import LabError
from lab.fabric.journal import Journal
from lab.observe.state import ProgramState, Stage, program_label, program_words
from lab.paths import LabPaths
from lab.plan.model import Daemon, Node, Plan, Program
from lab.runtime import daemons, freeze, group
from lab.runtime.containers import Containers
from lab.runtime.contract import Event, Tail, last_lines
from lab.runtime.docker import Engine
from lab.runtime.limits import Limits
from lab.runtime.process import Exit, Zygote
from lab.topology.behaviour import Runtime

READY_DEADLINE_S = 30.0
"""How long a program may take to announce that it is ready."""


class Programs:
    """The programs of one lab; belongs to the event loop that made it."""

    def __init__(
        self,
        paths: LabPaths,
        journal: Journal,
        on_event: Callable[[str, Event], None],
        on_exit: Callable[[ProgramState], None],
    ) -> None:
        """`on_event` gets what programs announce, `on_exit` the state of one that ended."""
        self._paths = paths
        self._journal = journal
        self._on_exit = on_exit
        self._tail = Tail(paths, on_event)
        self._states: dict[str, ProgramState] = {}
        self._stopping: set[str] = set()
        self._group = group.create(paths, journal)
        self._limits = Limits(paths, journal)
        self._zygote: Zygote | None = None
        self._containers: Containers | None = None

    @property
    def states(self) -> Mapping[str, ProgramState]:
        """What each program is doing, by node, a daemon by `node/name`; read from any thread."""
        return MappingProxyType(self._states)

    @property
    def ended(self) -> frozenset[str]:
        """The nodes in which something that should run has ended by itself."""
        return frozenset(
            name.partition("/")[0]
            for name, state in self._states.items()
            if state.state in (Stage.EXITED, Stage.FAILED)
        )

    async def prepare(self, plan: Plan) -> None:
        """Start what the programs of `plan` will need, if it does not run yet.

        Raises MissingError when there are containers and no engine answers, or
        daemons that are not installed.
        """
        daemons.demand(plan.nodes)
        wanted = {node.program.runtime for node in plan.nodes if node.program is not None}
        if any(node.daemons for node in plan.nodes):
            wanted.add(Runtime.PROCESS)
        if Runtime.PROCESS in wanted and self._zygote is None:
            self._zygote = await Zygote.start(self._paths, self._group, self._exited)
        if Runtime.DOCKER in wanted and self._containers is None:
            engine = await asyncio.to_thread(Engine.demand)
            self._containers = Containers(self._paths, engine, self._journal, self._exited)

    async def create_container(self, node: Node) -> int:
        """Make the node's container, its program waiting at the gate; its first process."""
        if node.program is None or self._containers is None:
            raise LabError(f"node {node.name!r} is not a container")
        return await self._containers.create_gated(node.name, node.program)

    def holds_container(self, node: str) -> bool:
        """Whether the node's namespace is that of a container."""
        return self._containers is not None and self._containers.holds(node)

    async def remove_container(self, node: Node) -> None:
        """Remove the node's container."""
        if self._containers is not None:
            await self._containers.remove(node.name)
        self._states.pop(node.name, None)

    async def start(self, node: str, program: Program) -> None:
        """Start the program and wait until it is ready.

        Raises LabError, with the program's last words, if it can't be started,
        ends at once, or does not become ready in time.
        """
        self._tail.watch(node)
        state = ProgramState(
            node=node,
            runtime=program.runtime,
            program=program_words(program),
            label=program_label(program),
            started_at=time.time(),
        )
        self._states[node] = state
        try:
            pid = await self._launch(node, program)
            # It may have ended already.
            if self._states[node].state is Stage.STARTING:
                self._replace(node, pid=pid)
            if program.ready_signal:
                await self._await_ready(node)
            if self._states[node].state is Stage.STARTING:
                self._replace(node, state=Stage.READY)
        except LabError as error:
            self._replace(node, state=Stage.FAILED, reason=error.message)
            raise

    async def pause(self, node: Node) -> None:
        """Have everything in the node hold still; returns when it does."""
        if self.holds_container(node.name) and self._containers is not None:
            await self._containers.pause(node.name)
        else:
            await asyncio.to_thread(freeze.pause, self._paths.netns(node.name))
        for name in node.programs:
            if name in self._states and self._states[name].state is Stage.READY:
                self._replace(name, state=Stage.PAUSED)

    async def resume(self, node: str) -> None:
        """Let what holds still in the node go on."""
        if self.holds_container(node) and self._containers is not None:
            await self._containers.resume(node)
        else:
            await asyncio.to_thread(freeze.resume, self._paths.netns(node))
        for name, state in self._states.items():
            if state.state is Stage.PAUSED and name.partition("/")[0] == node:
                self._replace(name, state=Stage.READY)

    async def _wake(self, name: str) -> None:
        """What is to be ended has to be able to end."""
        state = self._states.get(name)
        if state is not None and state.state is Stage.PAUSED:
            await self.resume(name.partition("/")[0])

    async def stop(self, node: str, program: Program) -> None:
        """End the program; returns when it has ended."""
        await self._wake(node)
        self._stopping.add(node)
        try:
            if program.runtime is Runtime.PROCESS and self._zygote is not None:
                await self._zygote.stop(node)
            elif self._containers is not None:
                await self._containers.stop(node)
        finally:
            self._stopping.discard(node)
            self._states.pop(node, None)
            self._tail.unwatch(node)

    async def start_daemon(self, node: str, daemon: Daemon) -> None:
        """Start the daemon and wait until its ports are open.

        Raises LabError, with its last words, if it can't be started or ends.
        """
        if self._zygote is None:
            raise LabError("the process server does not run")
        name = daemon.key(node)
        self._tail.watch(name)
        self._states[name] = ProgramState(
            node=name,
            runtime=Runtime.PROCESS,
            program=" ".join(daemon.command),
            started_at=time.time(),
        )
        try:
            pid = await self._zygote.spawn_daemon(node, daemon)
            self._replace(name, pid=pid)
            if not await daemons.listening(pid, daemon.ready, self._zygote.ended(name)):
                raise LabError("it ended before it was ready")
            self._replace(name, state=Stage.READY)
        except LabError as error:
            self._replace(name, state=Stage.FAILED, reason=error.message)
            said = "".join(f"\n    {line}" for line in last_lines(self._paths.node(name)))
            raise LabError(
                f"the daemon {name}: {error.message}{':' if said else ''}{said}",
                remedy=f"`lab logs {name}` shows all that it said",
            ) from error

    async def stop_daemon(self, node: str, daemon: Daemon) -> None:
        """End the daemon, giving it time to say goodbye; returns when it has ended."""
        name = daemon.key(node)
        await self._wake(name)
        self._stopping.add(name)
        try:
            if self._zygote is not None:
                await self._zygote.stop(name)
        finally:
            self._stopping.discard(name)
            self._states.pop(name, None)
            self._tail.unwatch(name)

    async def _launch(self, node: str, program: Program) -> int | None:
        if program.runtime is Runtime.PROCESS:
            if self._zygote is None:
                raise LabError("the process server does not run")
            groups = self._limits.groups(node, program)
            return await self._zygote.spawn(node, program, groups)
        if self._containers is None:
            raise LabError("no Docker engine is connected")
        self._containers.open_gate(node)
        return self._containers.pid(node)

    async def _await_ready(self, node: str) -> None:
        for late in await self._tail.wait_ready([node], READY_DEADLINE_S):
            if not os.statvfs(self._paths.root).f_bavail:
                raise LabError(
                    f"no space left in the state folder: the program of node {node!r} "
                    "could not say that it is ready",
                    remedy="make room, or set LAB_STATE_DIR to a folder with space",
                )
            said = "".join(f"\n    {line}" for line in late.lines)
            what = "ended before it was ready" if late.ended else "did not become ready"
            raise LabError(
                f"the program of node {node!r} {what}{':' if said else ''}{said}",
                remedy=f"`lab logs {node}` shows all that it said",
            )

    def _replace(self, node: str, **changes: object) -> None:
        if node in self._states:
            self._states[node] = msgspec.structs.replace(self._states[node], **changes)

    def _exited(self, ended: Exit) -> None:
        self._tail.ended(ended.node)
        if ended.node in self._stopping:
            return
        last = last_lines(self._paths.node(ended.node), 1)
        # One that ended well did without what was killed.
        exceeded = ""
        if ended.code:
            exceeded = ended.exceeded or self._limits.exceeded(ended.node)
        self._replace(
            ended.node,
            state=Stage.EXITED,
            exit_code=ended.code,
            pid=None,
            reason=f"killed: {exceeded}" if exceeded else last[-1] if last else "",
            exceeded=exceeded,
        )
        if ended.node in self._states:
            self._on_exit(self._states[ended.node])
