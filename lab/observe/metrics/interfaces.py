"""Metrics that the kernel counts in each node's namespace: interfaces, connection tracking."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
)

from lab.observe import counters
from lab.paths import LabPaths
from lab.plan.model import Node

_INTERFACE_HELP = {
    "receive_packets": "Packets received by an interface of a node.",
    "receive_bytes": "Bytes received by an interface of a node, Ethernet headers included.",
    "receive_drops": "Packets that an interface of a node received and dropped.",
    "transmit_packets": "Packets sent by an interface of a node.",
    "transmit_bytes": "Bytes sent by an interface of a node, Ethernet headers included.",
    "transmit_drops": "Packets that an interface of a node dropped instead of sending.",
}


def interface_families(paths: LabPaths, nodes: Iterable[Node]) -> Iterator[Metric]:
    """What the kernel counts in the namespaces of `nodes`."""
    labels = ("node", "interface")
    interfaces = {
        field: CounterMetricFamily(f"lab_interface_{field}", text, labels=labels)
        for field, text in _INTERFACE_HELP.items()
    }
    entries = GaugeMetricFamily(
        "lab_conntrack_entries",
        "Connections that a node with a NAT or firewall keeps track of.",
        labels=("node",),
    )
    lost = CounterMetricFamily(
        "lab_conntrack_drops",
        "Packets or entries lost in connection tracking.",
        labels=("node", "reason"),
    )
    for node in nodes:
        read = counters.read(paths.netns(node.name), tracking=bool(node.nat or node.firewall))
        if read is None:
            continue
        for interface in read.interfaces:
            where = (node.name, interface.name)
            for field, family in interfaces.items():
                family.add_metric(where, getattr(interface, field))
        if read.tracking is not None:
            entries.add_metric((node.name,), read.tracking.entries)
            for reason, count in read.tracking.lost:
                lost.add_metric((node.name, reason), count)
    yield from interfaces.values()
    yield entries
    yield lost
    limit = counters.tracking_limit()
    if limit is not None:
        yield GaugeMetricFamily(
            "lab_conntrack_entries_max", "Entries that each node may have.", value=limit
        )
