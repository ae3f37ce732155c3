"""Histograms as Prometheus has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from prometheus_client.core import (
    HistogramMetricFamily,
    Metric,
)

from lab.observe.histogram import Histogram

Labels = TypeVar("Labels", bound=tuple[str, ...])


def histogram(
    name: str,
    text: str,
    labels: tuple[str, ...],
    readings: Mapping[Labels, Histogram],
) -> Metric:
    """A family of histograms: one for each tuple of values of `labels`."""
    family = HistogramMetricFamily(name, text, labels=labels)
    for values, reading in sorted(readings.items()):
        family.add_metric(values, reading.buckets(), reading.total)
    return family
