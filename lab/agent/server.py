"""The agent: holds what must live on, and answers on a Unix socket.

It is started with a socket on which its first order comes: `up`, with the
lab's state folder and plan.  If that connection ends before the order is
carried out, the command line died, and everything is removed again.  From then
on requests come on `agent.sock`, one per connection (`lab.agent.wire`).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import os
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from lab.agent import lock, wire
from lab.agent.lab import Lab
from lab.agent.teardown import destroy
from lab.errors import InputError, LabError, error_to_wire
from lab.paths import LabPaths
from lab.topology.changes import changes_from_wire

Emit = Callable[[dict[str, Any]], None]
_WARM = ("lab.fabric.netlink", "lab.fabric.rules.loading", "lab.fabric.links.ferry.client")
"""What is otherwise imported in the middle of the first order."""

_ENDLESS = frozenset({"events"})
"""Requests that whoever asked ends by hanging up."""

Handler = Callable[[dict[str, Any], Emit], Coroutine[Any, Any, Any]]


def main(fd: int) -> int:
    """Serve one lab; returns when its first order fails or never comes."""
    first = socket.socket(fileno=fd)
    _warm_up()
    return asyncio.run(_serve(first))


def _warm_up() -> None:
    """Import what the first order needs while the command line reads the topology."""
    for module in _WARM:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()


async def _serve(first: socket.socket) -> int:
    reader, writer = await asyncio.open_connection(sock=first, limit=wire.LINE_LIMIT)
    line = await reader.readline()
    if not line:
        return 0
    order = wire.unpack(line)
    paths = LabPaths.of(os.path.basename(order["root"]))  # noqa: PTH119 - a name, not a path
    try:
        held = _become_agent(paths)
        _redirect_output(paths)
    except (OSError, LabError) as error:
        writer.write(wire.pack({"error": error_to_wire(error)}))
        await writer.drain()
        return 4
    try:
        return await Agent(paths, held).run(order, reader, writer)
    except Exception:
        traceback.print_exc()
        raise


def _become_agent(paths: LabPaths) -> int:
    """Take the lab's lock; LabError if the lab was removed before we came to it."""
    with lock.alone(paths.root) as there:
        if not there:
            raise LabError(
                f"lab {paths.lab!r} was removed while it was being started",
                remedy="start it again",
            )
        return lock.hold(paths.agent_lock)


def _redirect_output(paths: LabPaths) -> None:
    """Everything that this process and its children say goes into the agent's log."""
    log = os.open(paths.agent_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


class Agent:
    """Requests in, answers out; what they do is in `Lab`."""

    def __init__(self, paths: LabPaths, held: int) -> None:
        self._paths = paths
        self._held = held
        self._lab = Lab(paths)
        self._handlers: dict[str, Handler] = {
            "apply": self._apply,
            "status": self._status,
            "toll": self._toll,
            "connect": self._connect,
            "change": self._change,
            "events": self._events,
        }
        self._lasting = {"session": self._session, "explain": self._explain}
        """Requests that whoever asked ends by saying no more, and still hears the end of."""

    async def run(
        self, order: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> int:
        """Carry out the first order, then serve until killed."""
        metrics = await self._first(order, reader, writer)
        if metrics is None:
            return 4
        server = await asyncio.start_unix_server(
            self._client, sock=wire.listen(self._paths.agent_socket), limit=wire.LINE_LIMIT
        )
        # Only now may the command line go: whoever comes next finds the socket.
        writer.write(wire.pack({"result": {"metrics": metrics}}))
        await writer.drain()
        writer.close()
        async with server:
            await server.serve_forever()
        return 0

    async def _first(
        self, order: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> str | None:
        """Build the lab; where its metrics are, or None if there is no lab after all."""

        def emit(event: dict[str, Any]) -> None:
            writer.write(wire.pack(event))

        up = asyncio.create_task(self._lab.up(order["plan"], order["metrics_port"], emit))
        gone = asyncio.create_task(reader.read(1))
        await asyncio.wait({up, gone}, return_when=asyncio.FIRST_COMPLETED)
        if up.done() and up.exception() is None:
            gone.cancel()
            return up.result()
        if up.done():
            error = up.exception()
            _log(error)
            # The command line removes everything; it knows better when to be patient.
            writer.write(wire.pack({"error": error_to_wire(error)}))  # type: ignore[arg-type] # done with an error
            await asyncio.wait({gone})
        else:
            print("the command line is gone: removing everything", file=sys.stderr)
            _remove_from_outside(self._paths)
            await asyncio.Event().wait()  # until killed
        await asyncio.to_thread(destroy, self._paths)
        return None

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def emit(event: dict[str, Any]) -> None:
            if not writer.is_closing():
                writer.write(wire.pack(event))

        try:
            line = await reader.readline()
            if not line:
                return
            request = wire.unpack(line)
            if lasting := self._lasting.get(str(request.get("do"))):
                with _hanging_up(reader) as hang_up:
                    emit({"result": await lasting(request, emit, hang_up)})
                await writer.drain()
                return
            handler = self._handlers.get(str(request.get("do")))
            if handler is None:
                raise InputError(f"the agent does not know how to {request.get('do')!r}")
            if request["do"] in _ENDLESS:
                await _until_gone(reader, handler(request, emit))
                return
            emit({"result": await handler(request, emit)})
            await writer.drain()
        except ConnectionError:
            pass  # whoever asked has gone
        except Exception as error:
            _log(error)
            emit({"error": error_to_wire(error)})
        finally:
            writer.close()

    async def _apply(self, request: dict[str, Any], emit: Emit) -> Any:
        await self._lab.apply(request["plan"], emit)
        return {}

    async def _change(self, request: dict[str, Any], emit: Emit) -> Any:
        return await self._lab.change(changes_from_wire(request["changes"]), emit)

    async def _events(self, request: dict[str, Any], emit: Emit) -> Any:
        await self._lab.follow(emit)

    async def _status(self, request: dict[str, Any], emit: Emit) -> Any:
        return await self._lab.status()

    async def _toll(self, request: dict[str, Any], emit: Emit) -> Any:
        return await self._lab.toll()

    async def _connect(self, request: dict[str, Any], emit: Emit) -> Any:
        return await self._lab.connect(request, emit)

    async def _session(self, request: dict[str, Any], emit: Emit, hang_up: asyncio.Event) -> Any:
        return await self._lab.session(request, emit, hang_up)

    async def _explain(self, request: dict[str, Any], emit: Emit, hang_up: asyncio.Event) -> Any:
        return {"capture": await self._lab.explain(request, emit, hang_up)}


@contextlib.contextmanager
def _hanging_up(reader: asyncio.StreamReader) -> Iterator[asyncio.Event]:
    """An event that is set when the other side says no more."""
    hang_up = asyncio.Event()
    hearing = asyncio.create_task(reader.read(1))
    hearing.add_done_callback(lambda _: hang_up.set())
    try:
        yield hang_up
    finally:
        hearing.cancel()


async def _until_gone(reader: asyncio.StreamReader, answering: Coroutine[Any, Any, Any]) -> None:
    """Let it answer until the other side hangs up; raises what it raises."""
    task = asyncio.create_task(answering)
    gone = asyncio.create_task(reader.read(1))
    await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
    for each in (task, gone):
        each.cancel()
    if task.done() and not task.cancelled():
        task.result()


def _remove_from_outside(paths: LabPaths) -> None:
    """Have another process take the lab down, this one first of all.

    Threads of this process are creating things at this moment; only its end
    stops them all.
    """
    subprocess.Popen(
        [sys.executable, "-P", "-m", "lab", "down", "--quiet", paths.lab],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        # Should somebody else be quicker, this process is one more of the lab's to be removed.
        env=os.environ | {"LAB_STATE": str(paths.root)},
    )


def _log(error: BaseException | None) -> None:
    """Write it into the log; where the disk is full, whoever asked is told all the same."""
    stamp = time.strftime("%H:%M:%S")
    with contextlib.suppress(OSError):
        if isinstance(error, LabError):
            print(f"{stamp} {error}", file=sys.stderr)
        elif error is not None:
            print(stamp, file=sys.stderr)
            traceback.print_exception(error)
