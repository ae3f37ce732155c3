"""Metrics of the programs in nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import (
    GaugeMetricFamily,
    Metric,
)

from lab.observe.state import ProgramState, Stage
from lab.plan.model import Node
from lab.topology.behaviour import Runtime


def program_families(nodes: Iterable[Node], states: Mapping[str, ProgramState]) -> Iterator[Metric]:
    """Which programs and daemons run, and since when."""
    up = GaugeMetricFamily(
        "lab_program_up",
        "Whether a node's program can do its work; a daemon is `node/name`.",
        labels=("node", "runtime"),
    )
    started = GaugeMetricFamily(
        "lab_program_start_time_seconds",
        "When a node's program started, since the epoch.",
        labels=("node", "runtime"),
    )
    count = GaugeMetricFamily("lab_programs", "Programs of the lab by state.", labels=("state",))
    stages: Counter[Stage] = Counter()
    running = [
        (name, node.program.runtime if node.program and name == node.name else Runtime.PROCESS)
        for node in nodes
        for name in node.programs
    ]
    for where in running:
        state = states.get(where[0])
        up.add_metric(where, float(state is not None and state.up))
        if state is not None:
            stages[state.state] += 1
            if state.started_at:
                started.add_metric(where, state.started_at)
    yield up
    yield started
    for stage in Stage:
        count.add_metric((stage,), stages[stage])
    yield count
