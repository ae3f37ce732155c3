"""The metrics of one lab, as Prometheus families.

Names begin with `lab_`, units are seconds, bytes and ratios, and no metric has
a label `lab`: Prometheus adds it from the scrape target (metrics/README.md).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from lab import __version__
from lab.fabric.links.ferry.protocol import FerryStats
from lab.observe import counters
from lab.observe.attempts import LABELS, TIMED, UNITS, AttemptTally
from lab.observe.health import HealthSample, HealthSampler, Mark, lateness
from lab.observe.histogram import Histogram
from lab.observe.sessions import SessionTally
from lab.observe.state import ProgramState, Stage
from lab.paths import LabPaths
from lab.plan.model import Link, Node, NodeKind, Plan
from lab.topology.behaviour import Backend, Runtime

Labels = TypeVar("Labels", bound=tuple[str, ...])

_INTERFACE_HELP = {
    "receive_packets": "Packets received by an interface of a node.",
    "receive_bytes": "Bytes received by an interface of a node, Ethernet headers included.",
    "receive_drops": "Packets that an interface of a node received and dropped.",
    "transmit_packets": "Packets sent by an interface of a node.",
    "transmit_bytes": "Bytes sent by an interface of a node, Ethernet headers included.",
    "transmit_drops": "Packets that an interface of a node dropped instead of sending.",
}


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
        yield from self._attempts()
        if self._sessions is not None:
            yield from self._sessions.families()
        yield _timeline(self._timeline())
        yield _histogram(
            "lab_timeline_lateness_seconds",
            "How long after its time a moment of the timeline began.",
            (),
            {(): self._lateness()},
        )
        if plan is not None:
            yield _info(plan)
            yield from _shape(plan)
            yield from _links(plan.links)
            yield from _programs(plan.nodes, self._programs())
            yield from self._namespaces(plan.nodes)
        if self._health is not None:
            sample, mark = self._health.look()
            yield from _health(sample, mark)
            if mark.ferry is not None:
                yield from _ferry(mark.ferry, plan.links if plan else ())
        spent = time.perf_counter() - began
        yield GaugeMetricFamily(
            "lab_scrape_duration_seconds", "Time to read this scrape's values.", value=spent
        )

    def _attempts(self) -> Iterator[Metric]:
        attempts = CounterMetricFamily(
            "lab_connect_attempts", "Connection attempts that ended.", labels=LABELS
        )
        for labels, count in sorted(self._tally.counts().items()):
            attempts.add_metric(labels, count)
        yield attempts
        yield _histogram(
            "lab_connect_seconds",
            "From the order to connect to the first authenticated round trip, of successes.",
            TIMED,
            self._tally.connect_times(),
        )
        yield _histogram(
            "lab_connect_rtt_seconds",
            "Round trip over the path that was found.",
            TIMED,
            self._tally.round_trips(),
        )
        yield _histogram(
            "lab_connect_jitter_seconds",
            "How much successive round trips over the path differ, on average.",
            TIMED,
            self._tally.jitters(),
        )
        yield _histogram(
            "lab_connect_goodput_bytes_per_second",
            "Payload that the path carried, where that was measured.",
            TIMED,
            self._tally.goodputs(),
        )
        for name, text, counts in (
            ("overhead", "What attempts that connected cost", self._tally.overheads()),
            ("relayed", "What relays carried of attempts that connected", self._tally.relayed()),
        ):
            for unit in UNITS:
                family = CounterMetricFamily(
                    f"lab_connect_{name}_{unit}", f"{text}, in {unit}.", labels=TIMED[:2]
                )
                for (program, technique, counted), count in sorted(counts.items()):
                    if counted == unit:
                        family.add_metric((program, technique), count)
                yield family

    def _namespaces(self, nodes: Iterable[Node]) -> Iterator[Metric]:
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
            read = counters.read(
                self._paths.netns(node.name), tracking=bool(node.nat or node.firewall)
            )
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


def _timeline(counts: Mapping[str, int]) -> Metric:
    events = CounterMetricFamily(
        "lab_timeline_events", "Moments of the timeline that have come.", labels=("outcome",)
    )
    for outcome, count in counts.items():
        events.add_metric((outcome,), count)
    return events


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


def _programs(nodes: Iterable[Node], states: Mapping[str, ProgramState]) -> Iterator[Metric]:
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


def _health(sample: HealthSample, mark: Mark) -> Iterator[Metric]:
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
    yield _histogram(
        "lab_health_scheduling_lag_seconds",
        "How late the machine wakes a thread that waits for a timer.",
        (),
        {(): mark.lag},
    )


def _ferry(ferry: FerryStats, links: Iterable[Link]) -> Iterator[Metric]:
    """What each direction of each user-space link did, at the end that sends."""
    yield _histogram(
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


def _histogram(
    name: str,
    text: str,
    labels: tuple[str, ...],
    readings: Mapping[Labels, Histogram],
) -> Metric:
    family = HistogramMetricFamily(name, text, labels=labels)
    for values, reading in sorted(readings.items()):
        family.add_metric(values, reading.buckets(), reading.total)
    return family
