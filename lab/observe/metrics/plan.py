"""Metrics of what a plan says: nodes, NATs, links."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from prometheus_client.core import (
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)

from lab import __version__
from lab.plan.model import Link, NodeKind, Plan
from lab.topology.character import Backend


def plan_families(plan: Plan) -> Iterator[Metric]:
    """What the lab is, and what it is declared to do."""
    yield _info(plan)
    yield from _shape(plan)
    yield from _links(plan.links)


def _info(plan: Plan) -> Metric:
    facts = {
        "name": plan.lab,
        "topology": plan.source,
        "seed": str(plan.seed),
        "version": __version__,
    }
    return InfoMetricFamily("lab", "What this lab is.", value=facts)


def _shape(plan: Plan) -> Iterator[Metric]:
    nodes = GaugeMetricFamily("lab_nodes", "Nodes of the lab.", labels=("kind",))
    kinds = Counter(node.kind for node in plan.nodes)
    for kind in NodeKind:
        nodes.add_metric((kind,), kinds[kind])
    yield nodes
    nats = InfoMetricFamily(
        "lab_nat", "The NAT of a router.", labels=("node", "mapping", "filtering", "ports")
    )
    for node in plan.nodes:
        if node.nat is not None:
            facts = (node.name, node.nat.mapping, node.nat.filtering, node.nat.ports.policy)
            nats.add_metric(facts, {"preset": node.nat.preset})
    yield nats


def _links(links: Iterable[Link]) -> Iterator[Metric]:
    """What each direction of each link is declared to do, at the end that sends."""
    labels = ("node", "interface", "to", "backend")
    delay = GaugeMetricFamily(
        "lab_link_delay_seconds",
        "Declared one-way delay of what this interface sends.",
        None,
        labels,
    )
    rate = GaugeMetricFamily(
        "lab_link_rate_bytes_per_second",
        "Declared rate of what this interface sends; absent if unlimited.",
        None,
        labels,
    )
    loss = GaugeMetricFamily(
        "lab_link_loss_ratio", "Declared loss of what this interface sends.", None, labels
    )
    backends: Counter[Backend] = Counter()
    for link in links:
        backends[link.backend] += 1
        for sender, receiver, impairment in (
            (link.a, link.b, link.a_to_b),
            (link.b, link.a, link.b_to_a),
        ):
            where = (sender.node, sender.interface, receiver.node, link.backend)
            delay.add_metric(where, impairment.delay_us / 1e6)
            loss.add_metric(where, impairment.loss_share)
            if impairment.rate_bit:
                rate.add_metric(where, impairment.rate_bit / 8)
    yield delay
    yield rate
    yield loss
    count = GaugeMetricFamily("lab_links", "Links of the lab.", labels=("backend",))
    for backend in Backend:
        count.add_metric((backend,), backends[backend])
    yield count
