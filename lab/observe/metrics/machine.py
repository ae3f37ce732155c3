"""Metrics of what carries the lab: the machine and the ferry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
)

from lab.fabric.links.ferry.protocol import FerryStats
from lab.observe.metrics.histogram_family import histogram
from lab.observe.sample import HealthSample, Mark, lateness
from lab.plan.model import Link


def health_families(sample: HealthSample, mark: Mark) -> Iterator[Metric]:
    """How the machine fares that carries the lab."""
    for name, text, value in (
        ("distorted", "Whether the machine distorts the lab (last 10 s).", sample.distorted),
        ("cpu_busy_ratio", "Share of processor time in use (last 10 s).", sample.cpu_busy),
        ("cpu_steal_ratio", "Share taken by the hypervisor (last 10 s).", sample.cpu_steal),
        (
            "cpu_pressure_ratio",
            "Share of time in which a task waited for a processor (last 10 s).",
            sample.cpu_pressure,
        ),
    ):
        if value is not None:
            yield GaugeMetricFamily(f"lab_health_{name}", text, value=float(value))
    for name, text, count in (
        ("softirq_drops", "Packets that found a backlog full.", mark.host.softirq_drops),
        ("softirq_squeezes", "Network budgets used up.", mark.host.softirq_squeezes),
        ("neighbour_overflows", "Full neighbour tables.", mark.host.neighbour_overflows),
    ):
        yield CounterMetricFamily(f"lab_health_{name}", f"{text[:-1]}, machine-wide.", value=count)
    yield CounterMetricFamily(
        "lab_health_tap_drops",
        "Packets that user-space links did not fetch before the kernel dropped them.",
        value=mark.tap_drops,
    )
    if mark.receive_drops is not None:
        yield CounterMetricFamily(
            "lab_health_receive_drops",
            "Packets dropped on receipt by the lab's interfaces, at the machine's last drop.",
            value=mark.receive_drops,
        )
    yield histogram(
        "lab_health_scheduling_lag_seconds",
        "How late the machine wakes a thread that waits for a timer.",
        (),
        {(): mark.lag},
    )


def ferry_families(ferry: FerryStats, links: Iterable[Link]) -> Iterator[Metric]:
    """What each direction of each user-space link did, at the end that sends."""
    yield histogram(
        "lab_ferry_lateness_seconds",
        "How long after it was due a user-space link delivered a packet.",
        (),
        {(): lateness(ferry)},
    )
    yield CounterMetricFamily(
        "lab_ferry_cpu_seconds", "Processor time that user-space links used.", value=ferry.cpu_s
    )
    labels = ("node", "interface", "to")
    families = {
        field: CounterMetricFamily(f"lab_ferry_{name}", text, labels=labels)
        for field, name, text in (
            ("packets", "packets", "Packets that a user-space link delivered."),
            ("lost", "lost_packets", "Packets lost by chance, as the link's loss demands."),
            ("overflowed", "queue_drops", "Packets that found the queue of a slow link full."),
            ("early", "discipline_drops", "Packets that CoDel or fq_codel dropped early."),
            ("duplicated", "duplicated_packets", "Packets that a link delivered twice, as told."),
            ("corrupted", "corrupted_packets", "Packets with a bit inverted, as told."),
            ("reordered", "reordered_packets", "Packets that overtook others, as told."),
            ("refused", "refused_packets", "Packets that the receiving interface did not take."),
        )
    }
    by_name = {link.name: link for link in links}
    for stats in ferry.links:
        link = by_name.get(stats.name)
        if link is None:
            continue
        for sender, receiver, direction in (
            (link.a, link.b, stats.a_to_b),
            (link.b, link.a, stats.b_to_a),
        ):
            where = (sender.node, sender.interface, receiver.node)
            for field, family in families.items():
                family.add_metric(where, getattr(direction, field))
    yield from families.values()
