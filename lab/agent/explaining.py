"""One attempt, recorded: what `lab explain` asks of the agent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from lab.fabric.claimed import with_claimed
from lab.fabric.links.ferry.protocol import FerryStats
from lab.observe.capture import Recorder
from lab.observe.explain.events import Capture, Missing
from lab.observe.explain.wiring import own_addresses, way
from lab.paths import LabPaths
from lab.plan.model import Plan

Connect = Callable[[Callable[[dict[str, Any]], None]], Awaitable[object]]
"""Makes the attempt; what it is given is called with each event."""

_QUIET_S, _PATIENCE_S = 0.2, 1.5
"""How long nothing is under way any more before the recording ends, and how long at most."""


async def recorded(
    paths: LabPaths,
    plan: Plan,
    request: Mapping[str, Any],
    connect: Connect,
    *,
    ferry_stats: Callable[[], FerryStats | None] = lambda: None,
) -> Capture:
    """Have the attempt made that `request` names, and record it.

    `ferry_stats` says what links have lost so far, if any of them count it.
    Raises LabError if the network can't be looked at or the attempt not be made.
    """
    local, remote = str(request["local"]), str(request["remote"])
    plan = with_claimed(plan, paths)
    found = way(plan, local, remote)
    nodes = [plan.node(name) for name in dict.fromkeys(found.nodes)]
    recorder = Recorder(paths, nodes, own_addresses(plan, found))
    records: list[dict[str, Any]] = []

    def hear(event: dict[str, Any]) -> None:
        if event.get("event") == "attempt":
            records.append(event["record"])

    before = await asyncio.to_thread(ferry_stats)
    await asyncio.to_thread(recorder.__enter__)
    try:
        await connect(hear)
        await asyncio.to_thread(recorder.wait_quiet, _QUIET_S, _PATIENCE_S)
        held = await asyncio.to_thread(recorder.held)
        rules = await asyncio.to_thread(recorder.rules)
    finally:
        await asyncio.to_thread(recorder.__exit__, None, None, None)
        after = await asyncio.to_thread(ferry_stats)
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
        untraced=tuple(recorder.untraced),
        missing=tuple(_missing(before, after)),
        ended_ns=recorder.ended_ns,
    )


def _missing(before: FerryStats | None, after: FerryStats | None) -> Iterator[Missing]:
    """What each direction of a link lost between the two."""
    if before is None or after is None:
        return
    earlier = {link.name: link for link in before.links}
    for link in after.links:
        first = earlier.get(link.name)
        if first is None:
            continue
        for up in (True, False):
            was, now = (each.a_to_b if up else each.b_to_a for each in (first, link))
            lost = now.lost - was.lost
            full = now.overflowed + now.early - was.overflowed - was.early
            if lost > 0 or full > 0:
                yield Missing(link=link.name, up=up, lost=max(lost, 0), full=max(full, 0))
