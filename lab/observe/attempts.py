"""Connection attempts, counted: the part of the metrics that comes from records.

A record (docs/contract.md, "The record of an attempt") may come from a program
that we did not write, so nothing about it is taken for granted: what is not a
word or a number where one belongs is counted as `unknown` or left out.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lab.observe.histogram import Counting, Histogram
from lab.topology.outcomes import CONNECTED

CONNECT_BOUNDS_S = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0),
)
"""From one round trip in a LAN to the patience of a person."""

RTT_BOUNDS_S = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.2, 0.3, 0.5, 1.0, 2.5),
)
"""From a shared segment to a satellite link through a relay."""

GOODPUT_BOUNDS = (1e4, 3e4, 1e5, 3e5, 1e6, 3e6, 1e7, 3e7, 1e8)
"""Bytes per second: from a modem's line to what an attempt's own program can seal."""

BITS_PER_BYTE = 8
"""Records count bits, as lines are sold; metrics count bytes, as Prometheus asks."""

LABELS = ("local", "remote", "program", "technique", "outcome", "path", "source")

TIMED = ("program", "technique", "path")
"""The labels of histograms."""

TECHNIQUES_PER_PROGRAM = 32
"""Names of techniques that one program gets series for; the rest of them are `other`."""

SERIES_PER_NODE = 2000
"""Series of attempts that one node gets; more of them are by `other` to `other`."""

OTHER = "other"

UNITS = ("packets", "bytes")

_WORD_LIMIT = 64
_REMOTE, _TECHNIQUE = LABELS.index("remote"), LABELS.index("technique")


Timed = tuple[str, str, str]


class AttemptTally:
    """Counts of attempts since the start; any thread may add and read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._attempts: Counter[tuple[str, ...]] = Counter()
        self._techniques: dict[str, set[str]] = {}
        self._series: Counter[str] = Counter()
        self._connect: dict[Timed, Counting] = {}
        self._rtt: dict[Timed, Counting] = {}
        self._jitter: dict[Timed, Counting] = {}
        self._goodput: dict[Timed, Counting] = {}
        self._overhead: Counter[Timed] = Counter()
        self._relayed: Counter[Timed] = Counter()

    def add(self, record: Mapping[str, Any]) -> None:
        """Count one record."""
        words = [_word(record.get(key), none=key == "path") for key in LABELS]
        with self._lock:
            words = self._within_bounds(words)
            _, _, program, technique, outcome, path, _ = words
            self._attempts[tuple(words)] += 1
            if outcome not in CONNECTED:
                return
            for into, bounds, key, divisor in (
                (self._connect, CONNECT_BOUNDS_S, "time_to_path_s", 1),
                (self._rtt, RTT_BOUNDS_S, "rtt_after_s", 1),
                (self._jitter, RTT_BOUNDS_S, "jitter_s", 1),
                (self._goodput, GOODPUT_BOUNDS, "goodput_bps", BITS_PER_BYTE),
            ):
                value = seconds_of(record.get(key))
                again = key == "goodput_bps" and record.get("goodput_by")
                if value is not None and not again:
                    into.setdefault((program, technique, path), Counting(bounds)).add(
                        value / divisor
                    )
            for into_counter, key in ((self._overhead, "overhead"), (self._relayed, "relayed")):
                for unit in UNITS:
                    into_counter[program, technique, unit] += _count(record.get(key), unit)

    def counts(self) -> dict[tuple[str, ...], int]:
        """How many attempts, by the values of `LABELS`."""
        with self._lock:
            return dict(self._attempts)

    def connect_times(self) -> dict[Timed, Histogram]:
        """Time to the path in seconds, of successes, by `TIMED`."""
        return self._readings(self._connect)

    def round_trips(self) -> dict[Timed, Histogram]:
        """Round trip over the new path in seconds, of successes, by `TIMED`."""
        return self._readings(self._rtt)

    def jitters(self) -> dict[Timed, Histogram]:
        """Difference of successive round trips in seconds, of successes, by `TIMED`."""
        return self._readings(self._jitter)

    def goodputs(self) -> dict[Timed, Histogram]:
        """Goodput in bytes per second where it was measured, by `TIMED`."""
        return self._readings(self._goodput)

    def overheads(self) -> dict[Timed, int]:
        """What paths cost beside their payload, by program, technique and unit (`UNITS`)."""
        with self._lock:
            return dict(self._overhead)

    def relayed(self) -> dict[Timed, int]:
        """What relays carried, by program, technique and unit (`UNITS`)."""
        with self._lock:
            return dict(self._relayed)

    def _within_bounds(self, words: list[str]) -> list[str]:
        """`words` by which series stay few, whatever programs call what they do; under the lock."""
        local, _, program, technique, *_ = words
        known = self._techniques.setdefault(program, set())
        if technique not in known:
            if len(known) >= TECHNIQUES_PER_PROGRAM:
                words[_TECHNIQUE] = OTHER
            else:
                known.add(technique)
        if tuple(words) not in self._attempts:
            if self._series[local] >= SERIES_PER_NODE:
                words[_REMOTE] = words[_TECHNIQUE] = OTHER
            else:
                self._series[local] += 1
        return words

    def _readings(self, histograms: Mapping[Timed, Counting]) -> dict[Timed, Histogram]:
        with self._lock:
            return {labels: counting.reading() for labels, counting in histograms.items()}


def latest(
    records: Iterable[Mapping[str, Any]], key: Callable[[Mapping[str, Any]], Any]
) -> list[Mapping[str, Any]]:
    """The last record for each `key`, in the order in which the keys were last seen."""
    last: dict[Any, Mapping[str, Any]] = {}
    for record in records:
        wanted = key(record)
        last.pop(wanted, None)
        last[wanted] = record
    return list(last.values())


def seconds_of(value: Any) -> float | None:
    """`value` if it is a finite number of seconds, not negative; else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) and value >= 0 else None


def _count(counts: Any, unit: str) -> int:
    """A count of packets or bytes in a record; 0 for what is none."""
    value = counts.get(unit) if isinstance(counts, Mapping) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _word(value: Any, *, none: bool) -> str:
    if none and value is None:
        return "none"
    return value[:_WORD_LIMIT] if isinstance(value, str) and value else "unknown"
