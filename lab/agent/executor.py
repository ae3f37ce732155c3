"""Carrying out operations, phase by phase, and knowing at every moment what is running.

The executor is the only place where operations meet the kernel and the
runtimes.  Everything that wants to change a lab (up, apply, commands, the
timeline) hands it a list from `lab.plan.diff` and gets an event per operation.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from lab.fabric.network import Network
from lab.plan.describe import describe
from lab.plan.model import Daemon, Node, Program
from lab.plan.operations import (
    AnyOperation,
    CreateNode,
    DeleteNode,
    PauseNode,
    Phase,
    ResumeNode,
    StartDaemon,
    StartProgram,
    StopDaemon,
    StopProgram,
    phase,
)
from lab.plan.progress import Running
from lab.topology.behaviour import Runtime


class Programs(Protocol):
    """What the executor needs of the runtimes (see `lab.agent.programs`)."""

    async def create_container(self, node: Node) -> int:
        """Make the container, waiting at its gate; its process number."""

    def holds_container(self, node: str) -> bool:
        """Whether the node's namespace is that of a container."""

    async def remove_container(self, node: Node) -> None: ...

    async def start(self, node: str, program: Program) -> None:
        """Start it and wait until it is ready."""

    async def stop(self, node: str, program: Program) -> None: ...

    async def start_daemon(self, node: str, daemon: Daemon) -> None:
        """Start it and wait until it is ready."""

    async def stop_daemon(self, node: str, daemon: Daemon) -> None: ...

    async def pause(self, node: Node) -> None:
        """Have everything in the node hold still."""

    async def resume(self, node: str) -> None: ...


Emit = Callable[[dict[str, object]], None]
Done = Callable[[AnyOperation, float], None]
"""Called with an operation that was carried out, and the seconds that it took."""
Heed = Callable[[AnyOperation, int, int], None]
"""Told of each operation that was carried out, and between which moments (`time.time_ns`)."""


def _wants_container(node: Node) -> bool:
    return node.program is not None and node.program.runtime is Runtime.DOCKER


class Executor:
    """Applies operations to one lab; `running` is always what exists now."""

    def __init__(self, network: Network, programs: Programs, running: Running) -> None:
        self._network = network
        self._programs = programs
        self.running = running

    async def carry_out(
        self, operations: Sequence[AnyOperation], emit: Emit, heed: Heed | None = None
    ) -> None:
        """Carry out `operations` in phase order, emitting an event after each.

        Raises the first LabError; whatever was done until then is in `running`.
        """
        for step, group in itertools.groupby(sorted(operations, key=phase), key=phase):
            await self._phase(step, tuple(group), emit, heed)

    async def _phase(
        self, step: Phase, operations: Sequence[AnyOperation], emit: Emit, heed: Heed | None
    ) -> None:
        began, began_ns = time.monotonic(), time.time_ns()
        emit({"event": "phase", "phase": step.name.lower(), "operations": len(operations)})
        loop = asyncio.get_running_loop()

        def done(operation: AnyOperation, seconds: float, at_ns: int = 0) -> None:
            self.running.advance(operation)
            if heed is not None:
                heed(operation, began_ns, at_ns or time.time_ns())
            emit(
                {
                    "event": "done",
                    "phase": step.name.lower(),
                    "text": describe(operation),
                    "seconds": seconds,
                }
            )

        def done_from_thread(operation: AnyOperation, seconds: float) -> None:
            loop.call_soon_threadsafe(done, operation, seconds, time.time_ns())

        tasks = self._begin(operations, done, done_from_thread)
        # Let everything that began come to its end, so that `running` is true.
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        # Callbacks from threads were queued before the thread's task ended.
        await asyncio.sleep(0)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        emit(
            {
                "event": "phase-done",
                "phase": step.name.lower(),
                "operations": len(operations),
                "seconds": time.monotonic() - began,
            }
        )

    def _begin(
        self, operations: Sequence[AnyOperation], done: Done, done_from_thread: Done
    ) -> list[asyncio.Task[None]]:
        """Begin all `operations` of a phase at once, each where it belongs."""
        kernel: list[AnyOperation] = []
        tasks: list[asyncio.Task[None]] = []
        for operation in operations:
            match operation:
                case (
                    StartProgram()
                    | StopProgram()
                    | StartDaemon()
                    | StopDaemon()
                    | PauseNode()
                    | ResumeNode()
                ):
                    tasks.append(asyncio.create_task(self._program(operation, done)))
                case CreateNode(node=node) if _wants_container(node):
                    tasks.append(asyncio.create_task(self._container(operation, done)))
                case DeleteNode(node=node) if self._programs.holds_container(node.name):
                    tasks.append(asyncio.create_task(self._container(operation, done)))
                case _:
                    kernel.append(operation)
        if kernel:
            tasks.append(
                asyncio.create_task(
                    asyncio.to_thread(self._network.carry_out, kernel, done_from_thread)
                )
            )
        return tasks

    async def _program(
        self,
        operation: StartProgram | StopProgram | StartDaemon | StopDaemon | PauseNode | ResumeNode,
        done: Done,
    ) -> None:
        began = time.monotonic()
        match operation:
            case StartProgram(node=node, program=program):
                await self._programs.start(node, program)
            case StopProgram(node=node, program=program):
                await self._programs.stop(node, program)
            case StartDaemon(node=node, daemon=daemon):
                await self._programs.start_daemon(node, daemon)
            case StopDaemon(node=node, daemon=daemon):
                await self._programs.stop_daemon(node, daemon)
            case PauseNode(node=whole):
                await self._programs.pause(whole)
            case ResumeNode(node=whole):
                await self._programs.resume(whole.name)
        done(operation, time.monotonic() - began)

    async def _container(self, operation: CreateNode | DeleteNode, done: Done) -> None:
        began = time.monotonic()
        if isinstance(operation, CreateNode):
            pid = await self._programs.create_container(operation.node)
            await asyncio.to_thread(self._network.adopt_node, operation.node, pid)
        else:
            await asyncio.to_thread(
                self._network.carry_out, (operation,), lambda _operation, _seconds: None
            )
            await self._programs.remove_container(operation.node)
        done(operation, time.monotonic() - began)
