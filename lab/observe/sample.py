"""Emulation health: whether the machine kept up, or distorted what was measured; pure.

Peers that wake late, user-space links that deliver late, packets that the kernel
dropped and no impairment asked for: all of it is counted, and what happened
between two marks of the counters is a sample, judged by limits.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from lab.fabric.links.ferry.protocol import FerryStats
from lab.observe import host
from lab.observe.histogram import Histogram
from lab.topology.behaviour import Frozen


class Limits(Frozen, frozen=True):
    """From where on a machine counts as one that distorts.

    Shares are of the machine (all processors), 0 to 1.  The limits of time
    stand well below the shortest delays worth emulating (a few milliseconds)
    and well above what an idle machine shows.
    """

    cpu_busy: float = 0.95
    cpu_steal: float = 0.05
    cpu_pressure: float = 0.80
    lag_p99_s: float = 0.005
    ferry_lateness_p99_s: float = 0.005
    softirq_drops: int = 0
    neighbour_overflows: int = 0
    tap_drops: int = 0
    ferry_busy: float = 0.90
    """Of one processor: the ferry is one thread."""


class Mark(Frozen, frozen=True):
    """All counters at one moment; two of them make a `HealthSample`."""

    at: float
    """Monotonic seconds."""
    host: host.HostCounters
    lag: Histogram
    ferry: FerryStats | None = None
    """None without user-space links, and in the marks that the sampler takes by itself."""
    tap_drops: int = 0
    """Frames that the ferry did not fetch in time; 0 in the marks that the sampler takes itself."""
    receive_drops: int | None = None
    """What the lab's own interfaces dropped on receipt, as of the last drop anywhere on the
    machine; None if nobody counts."""


class HealthSample(Frozen, frozen=True):
    """How well the machine emulated over a span of time."""

    span_s: float
    cpu_busy: float
    """Share of all processors' time, 0 to 1."""
    cpu_steal: float
    cpu_pressure: float | None
    """Share of the time in which some task waited for a processor; None if not counted."""
    lag_p50_s: float
    """Scheduling lag: how late a waiting thread is woken."""
    lag_p99_s: float
    lag_max_s: float
    softirq_drops: int
    """Packets that found a processor's backlog full, on the whole machine."""
    softirq_squeezes: int
    neighbour_overflows: int
    softirq_drops_here: int | None = None
    """How many of `softirq_drops` were this lab's, at most; None if nobody counted."""
    tap_drops: int = 0
    """Packets that the kernel dropped because user-space links did not fetch them in time."""
    ferry_lateness_p50_s: float | None = None
    """How late user-space links deliver; None without such links."""
    ferry_lateness_p99_s: float | None = None
    ferry_busy: float | None = None
    """Share of one processor that the user-space links use."""
    queue_drops: int = 0
    """Packets that user-space links dropped at full queues: what slow links do, no distortion."""
    reasons: tuple[str, ...] = ()
    """Why the span is distorted, one sentence each."""

    @property
    def distorted(self) -> bool:
        """Whether figures measured in this span say more of the machine than of the lab."""
        return bool(self.reasons)


def between(before: Mark, after: Mark, limits: Limits) -> HealthSample:
    """What happened from `before` to `after`, judged by `limits`."""
    old, new = before.host, after.host
    span = max(after.at - before.at, 1e-9)
    cpu = max(new.cpu_total_s - old.cpu_total_s, 1e-9)
    waited = (
        None
        if old.pressure_s is None or new.pressure_s is None
        else _share(new.pressure_s - old.pressure_s, span)
    )
    lags = after.lag.minus(before.lag)
    # A span shorter than a tick of /proc/stat has no processor time at all: call it idle.
    idle = _share(new.cpu_idle_s - old.cpu_idle_s, cpu) if cpu > 1e-6 else 1.0
    sample = HealthSample(
        span_s=span,
        cpu_busy=1.0 - idle,
        cpu_steal=_share(new.cpu_steal_s - old.cpu_steal_s, cpu),
        cpu_pressure=waited,
        lag_p50_s=lags.quantile(0.5),
        lag_p99_s=lags.quantile(0.99),
        lag_max_s=lags.quantile(1.0),
        softirq_drops=new.softirq_drops - old.softirq_drops,
        softirq_squeezes=new.softirq_squeezes - old.softirq_squeezes,
        neighbour_overflows=new.neighbour_overflows - old.neighbour_overflows,
    )
    dropped = sample.softirq_drops
    if before.receive_drops is not None and after.receive_drops is not None:
        here = max(after.receive_drops - before.receive_drops, 0)
        sample = msgspec.structs.replace(sample, softirq_drops_here=min(here, dropped))
    sample = msgspec.structs.replace(sample, tap_drops=max(after.tap_drops - before.tap_drops, 0))
    if after.ferry is not None:
        late, busy = _ferry_between(before.ferry or FerryStats(), after.ferry, span)
        sample = msgspec.structs.replace(
            sample,
            ferry_lateness_p50_s=late.quantile(0.5),
            ferry_lateness_p99_s=late.quantile(0.99),
            ferry_busy=busy,
            queue_drops=max(_queue_drops(after.ferry) - _queue_drops(before.ferry), 0),
        )
    return judged(sample, limits)


def judged(sample: HealthSample, limits: Limits) -> HealthSample:
    """`sample` with the reasons why it is distorted by `limits`, if it is."""
    return msgspec.structs.replace(sample, reasons=tuple(_reasons(sample, limits)))


def lateness(ferry: FerryStats) -> Histogram:
    """How late user-space links delivered each packet, in seconds."""
    late = ferry.lateness
    return Histogram(bounds=late.bounds_s(), counts=late.counts, total=late.total_ns / 1e9)


def _queue_drops(ferry: FerryStats | None) -> int:
    """Packets that found a queue full, or that its discipline dropped, on any link."""
    ways = (way for link in (ferry.links if ferry else ()) for way in (link.a_to_b, link.b_to_a))
    return sum(way.overflowed + way.early for way in ways)


def _ferry_between(before: FerryStats, after: FerryStats, span_s: float) -> tuple[Histogram, float]:
    late = lateness(after).minus(lateness(before))
    return late, max(after.cpu_s - before.cpu_s, 0.0) / span_s


def _reasons(sample: HealthSample, limits: Limits) -> Iterator[str]:
    if sample.cpu_busy > limits.cpu_busy:
        yield f"the processors are {sample.cpu_busy:.0%} busy"
    if sample.cpu_steal > limits.cpu_steal:
        yield f"the hypervisor took {sample.cpu_steal:.0%} of the processors' time"
    if sample.cpu_pressure is not None and sample.cpu_pressure > limits.cpu_pressure:
        yield f"programs waited for a processor {sample.cpu_pressure:.0%} of the time"
    if sample.lag_p99_s > limits.lag_p99_s:
        yield f"programs are woken up to {sample.lag_p99_s * 1e3:.3g} ms late (p99)"
    late = sample.ferry_lateness_p99_s
    if late is not None and late > limits.ferry_lateness_p99_s:
        yield f"user-space links deliver up to {late * 1e3:.3g} ms late (p99)"
    if sample.ferry_busy is not None and sample.ferry_busy > limits.ferry_busy:
        yield f"user-space links use {sample.ferry_busy:.0%} of a processor and can't do more"
    if sample.tap_drops > limits.tap_drops:
        yield f"user-space links left {_packets(sample.tap_drops)} lying until the kernel lost them"
    here = sample.softirq_drops_here
    lost = sample.softirq_drops if here is None else here
    if lost > limits.softirq_drops:
        yield f"the kernel's backlog was full and lost {_packets(lost)}" + (
            "" if here is None else " of this lab"
        )
    if sample.neighbour_overflows > limits.neighbour_overflows:
        yield (
            f"the neighbour table was full {sample.neighbour_overflows} times"
            " (raise net.ipv4.neigh.default.gc_thresh3)"
        )


def _packets(number: int) -> str:
    return "1 packet" if number == 1 else f"{number} packets"


def _share(part: float, whole: float) -> float:
    return min(max(part / whole, 0.0), 1.0)
