"""Metrics of the attempts to connect."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    Metric,
)

from lab.observe.attempts import LABELS, TIMED, UNITS, AttemptTally
from lab.observe.metrics.histogram_family import histogram


def attempt_families(tally: AttemptTally) -> Iterator[Metric]:
    """What came of the attempts to connect."""
    attempts = CounterMetricFamily(
        "lab_connect_attempts", "Connection attempts that ended.", labels=LABELS
    )
    for labels, count in sorted(tally.counts().items()):
        attempts.add_metric(labels, count)
    yield attempts
    yield histogram(
        "lab_connect_seconds",
        "From the order to connect to the first authenticated round trip, of successes.",
        TIMED,
        tally.connect_times(),
    )
    yield histogram(
        "lab_connect_rtt_seconds",
        "Round trip over the path that was found.",
        TIMED,
        tally.round_trips(),
    )
    yield histogram(
        "lab_connect_jitter_seconds",
        "How much successive round trips over the path differ, on average.",
        TIMED,
        tally.jitters(),
    )
    yield histogram(
        "lab_connect_goodput_bytes_per_second",
        "Payload that the path carried, where that was measured.",
        TIMED,
        tally.goodputs(),
    )
    for name, text, counts in (
        ("overhead", "What attempts that connected cost", tally.overheads()),
        ("relayed", "What relays carried of attempts that connected", tally.relayed()),
    ):
        for unit in UNITS:
            family = CounterMetricFamily(
                f"lab_connect_{name}_{unit}", f"{text}, in {unit}.", labels=TIMED[:2]
            )
            for (program, technique, counted), count in sorted(counts.items()):
                if counted == unit:
                    family.add_metric((program, technique), count)
            yield family
