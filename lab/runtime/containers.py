"""The containers of one lab, from create to exit: the agent's side.

A container's life: created without a network, its output attached, started;
its shell reaches the gate; the fabric wires its namespace; the gate opens and
the program runs; it ends, and its exit code is fetched.  Each wait is for an
event: the gate's FIFO, the output's socket, a pidfd of the first process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

from lab.errors import InputError, LabError
from lab.fabric.journal import Journal
from lab.paths import LabPaths
from lab.plan.model import Program
from lab.runtime import enter, gate
from lab.runtime.container import Image, container_config, container_name
from lab.runtime.contract import ERRORS, OUTPUT, last_lines
from lab.runtime.docker import Engine
from lab.runtime.limits import memory_limit
from lab.runtime.output import Output
from lab.runtime.process import GRACE_S, Exit
from lab.runtime.teardown import KIND_CONTAINER, KIND_CREATED, KIND_PAUSED

_GATE_DEADLINE_S = 30.0

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(slots=True)
class _Container:
    node: str
    image: str
    memory_bytes: int
    """What it may use; 0 for as much as there is."""
    identifier: str = ""
    gate: int = -1
    pid: int = 0
    pidfd: int = -1
    output: Output | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    code: int | None = None


class Containers:
    """The containers of one lab; belongs to the event loop that made it."""

    def __init__(
        self,
        paths: LabPaths,
        engine: Engine,
        journal: Journal,
        on_exit: Callable[[Exit], None],
    ) -> None:
        """`on_exit` is called for each container whose program ended, also when it was stopped."""
        self._paths = paths
        self._engine = engine
        self._journal = journal
        self._on_exit = on_exit
        self._busybox = str(gate.busybox())
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(engine.workers, thread_name_prefix="docker")
        self._containers: dict[str, _Container] = {}
        self._fetching: set[asyncio.Task[None]] = set()

    async def create_gated(self, node: str, program: Program) -> int:
        """Create and start the node's container; the number of its first process, at the gate.

        Raises MissingError without the image, InputError for a mount whose
        source is not there, LabError if the name is taken or the image has no
        such program.
        """
        for mount in program.mounts:
            if not Path(mount.source).exists():
                raise InputError(
                    f"node {node!r}: the mount's source {mount.source} does not exist",
                    remedy="correct `mounts:` in the topology, or make it",
                )
        container = _Container(node, program.image, program.memory_bytes)
        folder = self._paths.node(node)
        env = {"LAB_NAME": self._paths.lab, "LAB_NODE": node} | dict(program.env)
        enter.write_files(folder, node, env)
        for name in (OUTPUT, ERRORS):
            (folder / name).touch()
        container.gate, reached = gate.make(folder)
        said: asyncio.Future[bytes] = self._loop.create_future()
        self._loop.add_reader(reached, gate.hear, reached, said)
        try:
            container.pid = await self._in_thread(self._bring_up, container, program)
            self._containers[node] = container
            await self._at_gate(container, said)
        except BaseException:
            await self._discard(container)
            raise
        finally:
            self._loop.remove_reader(reached)
            os.close(reached)
        (folder / enter.CONTAINER_PID).write_text(f"{container.pid}\n")
        return container.pid

    def holds(self, node: str) -> bool:
        """Whether the node has a container, whatever state it is in."""
        return node in self._containers

    def open_gate(self, node: str) -> None:
        """Let the node's program run; its network stands.  LabError if its container has ended."""
        container = self._containers.get(node)
        if container is None or container.ended.is_set() or container.gate < 0:
            raise LabError(
                f"node {node!r}: its container is not waiting at its gate",
                remedy=f"`lab logs {node}` shows what it said",
            )
        gate.let_go(container.gate)
        container.gate = -1

    def pid(self, node: str) -> int | None:
        """The first process of the node's container; None if it has ended or there is none."""
        container = self._containers.get(node)
        return container.pid if container is not None and not container.ended.is_set() else None

    async def stop(self, node: str, *, grace_s: float = GRACE_S) -> None:
        """End the node's program: SIGTERM, then SIGKILL.  The container stays, for its log."""
        container = self._containers.get(node)
        if container is not None and not container.ended.is_set():
            await self._in_thread(self._engine.stop, container.identifier, grace_s)
            await container.ended.wait()

    async def pause(self, node: str) -> None:
        """Freeze the node's container; fine if it has ended."""
        container = self._containers.get(node)
        if container is not None and not container.ended.is_set():
            # Before: whoever takes the lab down has to know.
            self._journal.note(KIND_PAUSED, container_name(self._paths, node))
            await self._in_thread(self._engine.pause, container.identifier)

    async def resume(self, node: str) -> None:
        """Let a paused container go on; fine if it has ended."""
        container = self._containers.get(node)
        if container is not None and not container.ended.is_set():
            await self._in_thread(self._engine.unpause, container.identifier)
            self._journal.retract(KIND_PAUSED, container_name(self._paths, node))

    async def remove(self, node: str) -> None:
        """Remove the node's container, running or not; fine if there is none."""
        container = self._containers.pop(node, None)
        if container is not None:
            await self._discard(container)

    async def close(self) -> None:
        """Let go of everything; containers that run go on, without their output reaching files."""
        for container in self._containers.values():
            self._release(container)
        for task in self._fetching:
            task.cancel()
        await asyncio.gather(*self._fetching, return_exceptions=True)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def describe_exit(self, node: str, code: int) -> LabError:
        """What to tell a person of a container whose program ended before it was ready."""
        container = self._containers.get(node)
        image = container.image if container is not None else "?"
        lines = last_lines(self._paths.node(node))
        said = "".join(f"\n    {line}" for line in lines)
        return LabError(
            f"node {node!r}: the program of image {image} ended with exit code {code}{said}",
            remedy=f"`lab logs {node}` shows all that it said",
        )

    # --- steps ------------------------------------------------------------

    def _bring_up(self, container: _Container, program: Program) -> int:
        """What has to happen in order, in one thread of the pool."""
        engine, node = self._engine, container.node
        image = engine.image(program.image)
        _open_to(image, self._paths.node(node))
        config = container_config(self._paths, node, program, image, self._busybox)
        name = container_name(self._paths, node)
        self._journal.note(KIND_CONTAINER, name, image=image.identifier)
        container.identifier = engine.create(name, config)
        self._journal.note(KIND_CREATED, name)
        stream = engine.attach(container.identifier)
        container.output = Output(stream, self._paths.node(node))
        return engine.start(container.identifier)

    async def _at_gate(self, container: _Container, said: asyncio.Future[bytes]) -> None:
        """Wait until the shell has found the program, or has ended."""
        if container.output is not None:
            container.output.follow(self._loop)
        if container.pid > 0:
            gate.check_shared(self._paths.node(container.node), container.pid)
            with contextlib.suppress(ProcessLookupError):
                container.pidfd = os.pidfd_open(container.pid)
        if container.pidfd >= 0:
            self._loop.add_reader(container.pidfd, self._process_ended, container)
        else:
            self._process_ended(container)
        ended = asyncio.ensure_future(container.ended.wait())
        try:
            await asyncio.wait(
                (said, ended), timeout=_GATE_DEADLINE_S, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            ended.cancel()
        if said.done():
            code, _, reason = said.result().decode(errors="replace").strip().partition(" ")
            if code == "0":
                return
            raise LabError(
                f"node {container.node!r}: image {container.image}: {reason} (exit code {code})",
                remedy="correct `command:` in the topology; it is looked for in the image",
            )
        if container.ended.is_set():
            raise self.describe_exit(container.node, container.code or 0)
        raise LabError(
            f"node {container.node!r}: the container of image {container.image} "
            f"did not reach its gate within {_GATE_DEADLINE_S:.0f} s",
            remedy=f"see docker logs {container_name(self._paths, container.node)}",
        )

    def _process_ended(self, container: _Container) -> None:
        if container.pidfd >= 0:
            self._loop.remove_reader(container.pidfd)
            os.close(container.pidfd)
            container.pidfd = -1
        task = self._loop.create_task(self._fetch_code(container))
        self._fetching.add(task)
        task.add_done_callback(self._fetching.discard)

    async def _fetch_code(self, container: _Container) -> None:
        """The engine learns of the end a little later than we; then its exit code is known."""
        code, exceeded = -9, ""
        # Removed under our feet, or the engine died: it ended by force.
        with contextlib.suppress(Exception):
            code = await self._in_thread(self._engine.wait, container.identifier)
            limited = code and container.memory_bytes
            if limited and await self._in_thread(self._engine.out_of_memory, container.identifier):
                exceeded = memory_limit(container.memory_bytes)
        if container.output is not None:
            await container.output.finished()
        container.code = code
        container.ended.set()
        (self._paths.node(container.node) / enter.CONTAINER_PID).unlink(missing_ok=True)
        if self._containers.get(container.node) is container:
            self._on_exit(Exit(container.node, code, exceeded))

    async def _discard(self, container: _Container) -> None:
        if self._containers.get(container.node) is container:
            del self._containers[container.node]
        if container.identifier:
            await self._in_thread(self._engine.remove_id, container.identifier)
            if container.output is not None:
                await container.output.finished()
        self._release(container)
        for kind in (KIND_CREATED, KIND_CONTAINER):
            self._journal.retract(kind, container_name(self._paths, container.node))

    def _release(self, container: _Container) -> None:
        if container.gate >= 0:
            os.close(container.gate)
            container.gate = -1
        if container.output is not None:
            container.output.close()
        if container.pidfd >= 0:
            self._loop.remove_reader(container.pidfd)
            os.close(container.pidfd)
            container.pidfd = -1

    async def _in_thread(self, function: Callable[_P, _T], *args: _P.args, **kw: _P.kwargs) -> _T:
        """Call `function` in the pool; it comes to its end even if the caller is cancelled."""
        call = self._loop.run_in_executor(self._pool, partial(function, *args, **kw))
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            await asyncio.wait((call,))
            raise


def _open_to(image: Image, folder: Path) -> None:
    """Let a program that does not run as root write into its node's folder."""
    user = image.user.partition(":")[0]
    folder.chmod(0o755 if user in ("", "0", "root") else 0o1777)
