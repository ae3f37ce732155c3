"""One attempt, recorded: what `lab explain` asks of the agent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from lab.observe.capture import Recorder
from lab.observe.explain.events import Capture
from lab.observe.explain.wiring import own_addresses, way
from lab.paths import LabPaths
from lab.plan.model import Plan

Connect = Callable[[Callable[[dict[str, Any]], None]], Awaitable[object]]
"""Makes the attempt; what it is given is called with each event."""

_QUIET_S, _PATIENCE_S = 0.2, 1.5
"""How long nothing is under way any more before the recording ends, and how long at most."""


async def recorded(
    paths: LabPaths, plan: Plan, request: Mapping[str, Any], connect: Connect
) -> Capture:
    """Have the attempt made that `request` names, and record it.

    Raises LabError if the network can't be looked at or the attempt not be made.
    """
    local, remote = str(request["local"]), str(request["remote"])
    found = way(plan, local, remote)
    nodes = [plan.node(name) for name in dict.fromkeys(found.nodes)]
    recorder = Recorder(paths, nodes, own_addresses(plan, found))
    records: list[dict[str, Any]] = []

    def hear(event: dict[str, Any]) -> None:
        if event.get("event") == "attempt":
            records.append(event["record"])

    await asyncio.to_thread(recorder.__enter__)
    try:
        await connect(hear)
        await asyncio.to_thread(recorder.wait_quiet, _QUIET_S, _PATIENCE_S)
        held = await asyncio.to_thread(recorder.held)
        rules = await asyncio.to_thread(recorder.rules)
    finally:
        await asyncio.to_thread(recorder.__exit__, None, None, None)
    return Capture(
        plan=plan,
        local=local,
        remote=remote,
        technique=str(request["techniques"][0]),
        record=records[-1] if records else {},
        sightings=tuple(recorder.sightings),
        decisions=tuple(recorder.decisions),
        rules=rules,
        held=held,
        lost=tuple(dict.fromkeys(recorder.lost)),
    )
