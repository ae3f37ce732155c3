"""Orders to the programs in nodes, over the socket that each has for it (docs/contract.md)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from lab.agent import wire
from lab.errors import LabError
from lab.observe.state import ProgramState
from lab.paths import LabPaths

_SLACK_S = 30.0
"""What a peer may take beyond its own deadlines before it counts as stuck."""
_DEADLINES = 16
"""How many deadlines an order may have to wait for, one after another."""
_LONGEST_S = 60.0
"""Of an order to connect that says nothing of them: no attempt takes longer."""

USUAL_PATIENCE_S = -1.0
"""Stands for what the order says of its own deadlines."""


class Orders:
    """Gives orders to the programs of one lab."""

    def __init__(self, paths: LabPaths, states: Callable[[], Mapping[str, ProgramState]]) -> None:
        """`states` says how programs are, for error texts."""
        self._paths = paths
        self._states = states

    async def give(
        self, node: str, order: dict[str, Any], patience_s: float | None = USUAL_PATIENCE_S
    ) -> AsyncIterator[dict[str, Any]]:
        """Give an order to the program in `node`; yields its answers.

        It may take `patience_s`, None for as long as it wants to.  Raises
        LabError if it can't be reached, refuses, or does not finish in time.
        """
        try:
            sock = await asyncio.to_thread(wire.connect, self._paths.node(node) / "control.sock")
        except OSError as error:
            state = self._states().get(node)
            raise LabError(
                f"the program of node {node!r} takes no orders"
                + (f": it is {state.state}" if state is not None and not state.up else ""),
                remedy="only the built-in peer does (`peer: true`); see `lab status`",
            ) from error
        reader, writer = await asyncio.open_unix_connection(sock=sock, limit=wire.LINE_LIMIT)
        deadline = patience_s
        if patience_s == USUAL_PATIENCE_S:
            unsaid = _LONGEST_S if order.get("do") == "connect" else 0.0
            deadline = float(order.get("timeout_s", unsaid)) * _DEADLINES + _SLACK_S
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
