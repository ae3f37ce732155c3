"""The metrics of one lab, as Prometheus families.

Names begin with `lab_`, units are seconds, bytes and ratios, and no metric has
a label `lab`: Prometheus adds it from the scrape target (metrics/README.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from lab.observe.attempts import AttemptTally
from lab.observe.health import HealthSampler
from lab.observe.histogram import Histogram
from lab.observe.metrics.attempts import attempt_families
from lab.observe.metrics.histogram_family import histogram
from lab.observe.metrics.interfaces import interface_families
from lab.observe.metrics.machine import ferry_families, health_families
from lab.observe.metrics.plan import plan_families
from lab.observe.metrics.programs import program_families
from lab.observe.sessions import SessionTally
from lab.observe.state import ProgramState
from lab.paths import LabPaths
from lab.plan.model import Plan


class LabCollector(Collector):
    """Reads everything anew at each scrape; keeps nothing but the tally of attempts."""

    def __init__(
        self,
        paths: LabPaths,
        plan: Callable[[], Plan | None],
        programs: Callable[[], Mapping[str, ProgramState]],
        tally: AttemptTally,
        health: HealthSampler | None,
        *,
        timeline: Callable[[], Mapping[str, int]],
        lateness: Callable[[], Histogram] = lambda: Histogram.empty((1.0,)),
        sessions: SessionTally | None = None,
    ) -> None:
        self._paths = paths
        self._plan = plan
        self._programs = programs
        self._tally = tally
        self._health = health
        self._timeline = timeline
        self._lateness = lateness
        self._sessions = sessions

    def collect(self) -> Iterator[Metric]:
        """All families of one scrape."""
        began = time.perf_counter()
        plan = self._plan()
        yield from attempt_families(self._tally)
        if self._sessions is not None:
            yield from self._sessions.families()
        yield from _timeline(self._timeline(), self._lateness())
        if plan is not None:
            yield from plan_families(plan)
            yield from program_families(plan.nodes, self._programs())
            yield from interface_families(self._paths, plan.nodes)
        if self._health is not None:
            sample, mark = self._health.look()
            yield from health_families(sample, mark)
            if mark.ferry is not None:
                yield from ferry_families(mark.ferry, plan.links if plan else ())
        spent = time.perf_counter() - began
        yield GaugeMetricFamily(
            "lab_scrape_duration_seconds", "Time to read this scrape's values.", value=spent
        )


def _timeline(counts: Mapping[str, int], late: Histogram) -> Iterator[Metric]:
    events = CounterMetricFamily(
        "lab_timeline_events", "Moments of the timeline that have come.", labels=("outcome",)
    )
    for outcome, count in counts.items():
        events.add_metric((outcome,), count)
    yield events
    yield histogram(
        "lab_timeline_lateness_seconds",
        "How long after its time a moment of the timeline began.",
        (),
        {(): late},
    )
