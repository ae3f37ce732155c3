"""Programs as plain processes: the agent's side of the zygote.

`Zygote.spawn` returns when the program is in its node and runs, or raises
with the reason.  Programs outlive the zygote, which outlives nobody: it ends
with the agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from lab.errors import LabError
from lab.paths import LabPaths
from lab.plan.model import Daemon, Program
from lab.runtime import daemons, enter
from lab.runtime.orders import Exited, Failed, Message, Signal, Spawn, Started, encode, report
from lab.topology.behaviour import Mount

GRACE_S = 2.0
"""How long a program may take to end after SIGTERM before it is killed."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LINE_LIMIT = 1 << 22
_KILLED_DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True)
class Exit:
    """A program or daemon ended: `code` is its exit code, or minus the signal that killed it."""

    node: str
    code: int
    exceeded: str = ""
    """The limit for which it was killed, where its runtime knows; see `Limits.exceeded`."""


def environment(paths: LabPaths, node: str, program: Program) -> dict[str, str]:
    """The whole environment of a process program: the contract's, and a few basics.

    Nothing of the agent's own gets through, so that a run depends on the
    topology and not on the shell that started it.
    """
    basics = {
        "PATH": os.environ.get("PATH", _PATH),
        "HOME": os.environ.get("HOME", "/root"),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "LAB_NAME": paths.lab,
        "LAB_NODE": node,
    }
    where = {"LAB_DIR": str(paths.node(node)), "LAB_STATE": str(paths.root)}
    return basics | dict(program.env) | where


class Zygote:
    """The prefork server of one lab, and the process programs that it started."""

    def __init__(
        self,
        paths: LabPaths,
        process: asyncio.subprocess.Process,
        writer: asyncio.StreamWriter,
        on_exit: Callable[[Exit], None],
    ) -> None:
        """Take over a started server; use `Zygote.start`."""
        self._paths = paths
        self._process = process
        self._writer = writer
        self._on_exit = on_exit
        self._starting: dict[str, asyncio.Future[int]] = {}
        self._running: dict[str, int] = {}
        self._ended: dict[str, asyncio.Event] = {}
        self._lost: LabError | None = None
        self._reader_task: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls, paths: LabPaths, group: Path | None, on_exit: Callable[[Exit], None]
    ) -> Zygote:
        """Start the server; its imports go on while orders may be given already.

        `on_exit` is called in the event loop for each started program that
        ends, also when it was stopped.  `group` is the lab's, if it has one.
        """
        paths.root.mkdir(parents=True, exist_ok=True)
        ours, theirs = socket.socketpair()
        with theirs, paths.agent_log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "lab.runtime.zygote",
                str(theirs.fileno()),
                *([str(group)] if group else []),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(theirs.fileno(),),
                env={**os.environ, "LAB_STATE": str(paths.root)},
                start_new_session=True,
            )
        reader, writer = await asyncio.open_connection(sock=ours, limit=_LINE_LIMIT)
        zygote = cls(paths, process, writer, on_exit)
        zygote._reader_task = asyncio.create_task(zygote._listen(reader))
        return zygote

    @property
    def running(self) -> dict[str, int]:
        """The process number of each program that runs, by node."""
        return dict(self._running)

    async def spawn(self, node: str, program: Program, groups: tuple[str, ...] = ()) -> int:
        """Start `program` in `node`; its process number, once it is in the node and runs.

        `groups` are the control groups that limit it (`lab.runtime.limits`).

        Raises LabError if it can't be started: no such namespace, no such
        command, one that runs already.
        """
        self._admit(node)
        env = environment(self._paths, node, program)
        folder = self._paths.node(node)
        if program.command:
            enter.write_files(folder, node, env)
        else:
            folder.mkdir(parents=True, exist_ok=True)
        return await self._spawn(
            node, node, env, program.command, mounts=program.mounts, groups=groups
        )

    async def spawn_daemon(self, node: str, daemon: Daemon) -> int:
        """Start `daemon` in `node`; its process number, once it is in the node and runs.

        From then on it is called `daemon.key(node)`.
        Raises LabError as `spawn` does.
        """
        name = daemon.key(node)
        self._admit(name)
        env = {
            "PATH": daemons.search_path(os.environ.get("PATH", _PATH)),
            "LANG": "C.UTF-8",
            "LAB_NAME": self._paths.lab,
            "LAB_NODE": node,
            "LAB_DIR": str(self._paths.node(name)),
            "LAB_STATE": str(self._paths.root),
        }
        enter.write_files(self._paths.node(name), node, env)
        # After them: a daemon may bring a `hosts` or `resolv.conf` of its own.
        argv = daemons.write_files(self._paths, node, daemon)
        if daemons.is_module(daemon):
            return await self._spawn(name, node, env, module=argv[2:])
        return await self._spawn(name, node, env, argv)

    def ended(self, node: str) -> asyncio.Event:
        """Set when the program of that name has ended; KeyError if none was started."""
        return self._ended[node]

    async def stop(self, node: str, *, grace_s: float = GRACE_S) -> None:
        """End the program of that name and its process group: SIGTERM, then SIGKILL.

        Returns when it has ended; at once if none runs.
        """
        if node not in self._running:
            return
        ended = self._ended[node]
        await self._send(Signal(node, signal.SIGTERM))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await ended.wait()
                return
        await self._send(Signal(node, signal.SIGKILL))
        try:
            async with asyncio.timeout(_KILLED_DEADLINE_S):
                await ended.wait()
        except TimeoutError:
            raise LabError(
                f"the program of node {node!r} can't be killed",
                remedy="it is stuck in the kernel: see `dmesg`",
            ) from None

    async def close(self) -> None:
        """End the server; programs that run go on."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()
        await self._process.wait()
        if self._reader_task is not None:
            await self._reader_task

    def _admit(self, name: str) -> None:
        self._check()
        if name in self._running or name in self._starting:
            raise LabError(
                f"a program runs in node {name!r} already", remedy="stop it before another starts"
            )

    async def _spawn(
        self,
        name: str,
        node: str,
        env: dict[str, str],
        argv: tuple[str, ...] = (),
        *,
        module: tuple[str, ...] = (),
        mounts: tuple[Mount, ...] = (),
        groups: tuple[str, ...] = (),
    ) -> int:
        started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._starting[name] = started
        self._ended[name] = asyncio.Event()
        await self._send(
            Spawn(
                node=name,
                host=node,
                namespace=str(self._paths.netns(node)),
                folder=str(self._paths.node(name)),
                env=env,
                argv=argv,
                module=module,
                mounts=mounts,
                groups=groups,
            )
        )
        try:
            return await started
        finally:
            self._starting.pop(name, None)

    def _check(self) -> None:
        if self._lost is not None:
            raise self._lost

    async def _send(self, message: Message) -> None:
        self._check()
        self._writer.write(encode(message))
        try:
            await self._writer.drain()
        except ConnectionError:
            await self._process.wait()
            self._check()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                with contextlib.suppress(msgspec.DecodeError):
                    self._take(report(line))
        self._lose(await self._process.wait())

    def _take(self, message: Started | Failed | Exited) -> None:
        match message:
            case Started(node=node, pid=pid):
                self._running[node] = pid
                self._answer(node, pid)
            case Failed(node=node, code=code, reason=reason):
                self._answer(node, self._failure(node, code, reason))
            case Exited(node=node, code=code):
                self._running.pop(node, None)
                self._ended[node].set()
                self._on_exit(Exit(node, code))

    def _answer(self, node: str, outcome: int | LabError) -> None:
        future = self._starting.get(node)
        if future is None or future.done():
            return
        if isinstance(outcome, LabError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    def _failure(self, node: str, code: int, reason: str) -> LabError:
        remedy = {
            127: "install the program, or give its full path in `command:`",
            126: "make it executable, and for this machine",
        }.get(code, f"see {self._paths.agent_log}")
        if reason.startswith("can't mount"):
            remedy = "source and target have to be there, as two folders or two files"
        return LabError(f"node {node!r}: {reason} (exit code {code})", remedy=remedy)

    def _lose(self, code: int) -> None:
        """The server is gone: whoever waits for it must not wait for ever."""
        self._lost = LabError(
            f"the process server of lab {self._paths.lab!r} ended with code {code}",
            remedy=f"see {self._paths.agent_log}; then take the lab down and up again",
        )
        for future in self._starting.values():
            if not future.done():
                future.set_exception(self._lost)
