"""Sessions, counted: the part of the metrics that comes from their records.

A record (docs/sessions.md) comes from the program in a node, so nothing about
it is taken for granted.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

from lab.observe.attempts import seconds_of
from lab.observe.histogram import Counting

REPAIR_BOUNDS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0)
"""From a path that comes back by itself to when a session is given up."""
OUTCOMES = frozenset({"completed", "hung-up", "lost", "failed"})
FATES = ("sent", "unsent", "received", "lost", "lost_by_peer", "reordered")
MAX_TECHNIQUES = 64
"""Names of techniques that are told apart; what is beyond that is `other`."""


class SessionTally:
    """Counts of sessions since the start; any thread may add and read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: Counter[str] = Counter()
        self._repairs: Counter[tuple[str, str]] = Counter()
        self._seconds: dict[str, Counting] = {}
        self._gaps = Counting(REPAIR_BOUNDS_S)
        self._datagrams: Counter[str] = Counter()

    def add(self, record: Mapping[str, Any]) -> None:
        """Count one session that has ended."""
        outcome, datagrams = record.get("outcome"), record.get("datagrams")
        repairs = record.get("repairs")
        with self._lock:
            self._sessions[str(outcome) if outcome in OUTCOMES else "failed"] += 1
            for repair in repairs if isinstance(repairs, list) else ():
                if isinstance(repair, Mapping):
                    self._repaired(repair)
            for fate in FATES:
                count = datagrams.get(fate) if isinstance(datagrams, Mapping) else None
                if isinstance(count, int) and not isinstance(count, bool) and count > 0:
                    self._datagrams[fate] += count

    def _repaired(self, repair: Mapping[str, Any]) -> None:
        took = seconds_of(repair.get("took_s"))
        by = repair.get("by")
        name = by[:MAX_TECHNIQUES] if isinstance(by, str) and by else "itself"
        if name not in self._seconds and len(self._seconds) >= MAX_TECHNIQUES:
            name = "other"
        if took is None:
            self._repairs["none", "failed"] += 1
            return
        self._repairs[name, "done"] += 1
        self._seconds.setdefault(name, Counting(REPAIR_BOUNDS_S)).add(took)
        gap = seconds_of(repair.get("gap_s"))
        if gap is not None:
            self._gaps.add(gap)

    def families(self) -> list[Metric]:
        """All that was counted, as Prometheus families."""
        with self._lock:
            sessions = CounterMetricFamily(
                "lab_sessions", "Sessions that ended.", labels=("outcome",)
            )
            for outcome, count in sorted(self._sessions.items()):
                sessions.add_metric((outcome,), count)
            repairs = CounterMetricFamily(
                "lab_session_repairs",
                "Times that a session's path was dead, by what found the next one.",
                labels=("technique", "outcome"),
            )
            for labels, count in sorted(self._repairs.items()):
                repairs.add_metric(labels, count)
            took = HistogramMetricFamily(
                "lab_session_repair_seconds",
                "From the notice that a path is dead to the next one that works.",
                labels=("technique",),
            )
            for technique, counting in sorted(self._seconds.items()):
                reading = counting.reading()
                took.add_metric((technique,), reading.buckets(), reading.total)
            gaps = HistogramMetricFamily(
                "lab_session_gap_seconds", "What an application hears of a repair: silence."
            )
            reading = self._gaps.reading()
            gaps.add_metric((), reading.buckets(), reading.total)
            datagrams = CounterMetricFamily(
                "lab_session_datagrams", "Datagrams of sessions that ended.", labels=("fate",)
            )
            for fate in FATES:
                datagrams.add_metric((fate,), self._datagrams[fate])
        return [sessions, repairs, took, gaps, datagrams]


def words(event: Mapping[str, Any]) -> str:
    """What happened in a session, for people; `event` as the program told it."""
    technique = event.get("technique") or "?"
    match event.get("what"):
        case "connecting" | "repairing":
            doing = "looking for a path" if event["what"] == "connecting" else "repairing"
            return f"{doing}: {', '.join(map(str, event.get('techniques') or ()))}"
        case "path":
            return f"path by {technique}, {event.get('path')}: {event.get('note')}"
        case "dead":
            silent = f"{event.get('silent_s')} s of silence"
            return f"path by {technique} is dead: {event.get('reason')}, {silent}"
        case "repaired":
            took = f"after {event.get('took_s')} s"
            return f"repaired {took} by {technique}, {event.get('path')}: {event.get('note')}"
        case "back":
            return f"the path by {technique} is back after {event.get('took_s')} s"
        case "switched":
            return f"now by {technique}, {event.get('path')}"
        case "resumed":
            return f"heard again after {event.get('gap_s')} s, {event.get('lost')} datagrams lost"
        case "ended":
            return f"{event.get('outcome')}: {event.get('reason')}"
    return str(event.get("what"))
