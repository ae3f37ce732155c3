"""Orders from outside the emulated network: the Unix socket of docs/contract.md."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from lab.peer.rendezvous.frames import parse_object, valid_name
from lab.peer.session.keeper import Keeper, Order
from lab.peer.session.sessions import Sessions
from lab.peer.session.terms import MAX_KEEPALIVE_S, MAX_RATE
from lab.peer.traversal.attempts import Attempts
from lab.peer.traversal.purpose import Wish

MAX_LINE = 64 * 1024
LONGEST_SESSION_S = 7 * 86400.0
LONGEST_PATH = 100
"""A Unix socket's name is 107 bytes at most."""


class OrderError(ValueError):
    """The order makes no sense; the text says why."""


class ControlServer:
    """Takes orders, several at a time; `attempts` is None for a node that is no peer."""

    def __init__(
        self,
        path: Path,
        attempts: Attempts | None,
        sessions: Sessions | None,
        status: Callable[[], dict[str, Any]],
    ) -> None:
        self._path = path
        self._attempts = attempts
        self._sessions = sessions
        self._ordered: dict[object, Keeper] = {}
        self._status = status
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen; OSError if the folder cannot be written."""
        self._path.unlink(missing_ok=True)
        folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            name = str(self._path)
            if len(name) > LONGEST_PATH:
                name = f"/proc/self/fd/{folder}/{self._path.name}"
            self._server = await asyncio.start_unix_server(self._serve, name, limit=MAX_LINE)
        finally:
            os.close(folder)
        self._path.chmod(0o600)

    async def close(self) -> None:
        """Stop listening, and cancel the orders under way."""
        if self._server:
            self._server.close()
        for task in tuple(self._clients):
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task:
            self._clients.add(task)
            task.add_done_callback(self._clients.discard)
        orders: set[asyncio.Task[None]] = set()
        try:
            while line := await reader.readline():
                order = asyncio.get_running_loop().create_task(self._obey(line, writer))
                orders.add(order)
                order.add_done_callback(orders.discard)
        except (OSError, ValueError):
            pass  # a line too long, or a client that is gone
        except asyncio.CancelledError:
            # The program ends: so does this client. Nobody awaits the task but `close`.
            pass
        finally:
            # Who gave the orders is gone: nobody would read what comes of them.
            for order in tuple(orders):
                order.cancel()
            await asyncio.gather(*orders, return_exceptions=True)
            writer.close()

    async def _obey(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        number: object = None

        async def say(message: dict[str, Any]) -> None:
            writer.write(json.dumps({"id": number, **message}).encode() + b"\n")
            await writer.drain()

        try:
            order = parse_object(line)
            number = order.get("id")
            await self._carry_out(order, say)
        except OSError:
            return
        except Exception as error:
            # An order must be answered, whatever becomes of it.
            text = (
                str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            )
            await say({"done": True, "error": text})

    async def _carry_out(
        self, order: dict[str, Any], say: Callable[[dict[str, Any]], Awaitable[None]]
    ) -> None:
        match order.get("do"):
            case "status":
                await say({"done": True, "status": self._status()})
            case "connect":
                await self._connect(order, say)
                await say({"done": True})
            case "session":
                await self._session(order, say)
                await say({"done": True})
            case "end":
                if keeper := self._ordered.get(order.get("session")):
                    keeper.ending.set()
                await say({"done": True})
            case other:
                known = "connect, session, end and status"
                raise OrderError(f"no such order: {str(other)[:40]!r}; {known} are known")

    async def _connect(
        self, order: dict[str, Any], say: Callable[[dict[str, Any]], Awaitable[None]]
    ) -> None:
        if self._attempts is None:
            raise OrderError("this node is no peer (LAB_ROLE has no `peer`)")
        peer, names = order.get("peer"), order.get("techniques", [])
        timeout_s, first = order.get("timeout_s"), order.get("first", False)
        if not valid_name(peer):
            raise OrderError("`peer` is the name of a peer")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise OrderError("`techniques` is a list of names")
        if timeout_s is not None and not _positive(timeout_s):
            raise OrderError("`timeout_s` is a number of seconds above 0")
        if not isinstance(first, bool):
            raise OrderError("`first` is true or false")
        goodput_s, options = order.get("goodput_s", 0), order.get("options", {})
        if isinstance(goodput_s, bool) or not isinstance(goodput_s, int | float) or goodput_s < 0:
            raise OrderError("`goodput_s` is a number of seconds")
        if not isinstance(options, dict):
            raise OrderError("`options` is an object")
        once = order.get("goodput_once", False) is True
        wish = Wish(first, timeout_s, goodput_s, once, options)
        records = self._attempts.connect(str(peer), names, wish)
        async for record in records:
            await say({"event": "attempt", "record": record.to_json()})

    async def _session(
        self, order: dict[str, Any], say: Callable[[dict[str, Any]], Awaitable[None]]
    ) -> None:
        if self._sessions is None:
            raise OrderError("this node is no peer (LAB_ROLE has no `peer`)")
        peer, names = order.get("peer"), order.get("techniques", [])
        if not valid_name(peer):
            raise OrderError("`peer` is the name of a peer")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise OrderError("`techniques` is a list of names")
        wanted = Order(
            peer=str(peer),
            techniques=names,
            keepalive_s=_number(order, "keepalive_s", 15.0, MAX_KEEPALIVE_S),
            for_s=_number(order, "for_s", 0.0, LONGEST_SESSION_S),
            rate=_number(order, "rate", 50.0, MAX_RATE),
        )
        happened: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        keeper = self._sessions.open(wanted, happened.put_nowait)
        self._ordered[keeper.report.session] = keeper
        running = asyncio.ensure_future(self._sessions.keep(keeper))
        try:
            await say({"event": "session", "what": "opened", "session": keeper.report.session})
            while not (running.done() and happened.empty()):
                hearing = asyncio.ensure_future(happened.get())
                await asyncio.wait((running, hearing), return_when=asyncio.FIRST_COMPLETED)
                if hearing.done():
                    await say(hearing.result())
                hearing.cancel()
            report = running.result()
            await say({"event": "session", "what": "record", "record": report.to_json()})
        finally:
            self._ordered.pop(keeper.report.session, None)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _number(order: dict[str, Any], name: str, usual: float, most: float) -> float:
    value = order.get(name, usual)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise OrderError(f"`{name}` is a number from 0 to {most:g}")
    return value
