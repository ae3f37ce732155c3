"""Emulation health: whether the machine kept up, or distorted what was measured.

A lab on an overloaded machine still gives figures, and they are wrong: peers
wake late, user-space links deliver late, the kernel drops packets that no
impairment asked for.  `HealthSampler` watches for that.  Who runs an
experiment takes a `mark` before and asks for the sample `since` it after; who
only looks (`lab status`, the exporter) asks for the `current` one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

import msgspec

from lab.errors import LabError
from lab.fabric.links.ferry.protocol import FerryStats
from lab.observe import host, lag
from lab.observe.histogram import Histogram
from lab.topology.behaviour import Frozen

TICK_S = 1.0
WINDOW_S = 10.0
"""What `HealthSampler.current` looks back on."""


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


class HealthSampler:
    """Watches the machine from its making until `close`.

    `ferry` gives the figures of the user-space links, or None without any;
    `tap_drops` the packets that they did not fetch in time; `receive_drops`
    what the interfaces of the lab dropped on receipt.  They are called in the
    thread that asks for a mark, a sample or a look, the last of them only
    after the machine has dropped something: it may have to visit every node.
    """

    def __init__(
        self,
        ferry: Callable[[], FerryStats | None] = lambda: None,
        limits: Limits | None = None,
        *,
        tap_drops: Callable[[], int] = lambda: 0,
        receive_drops: Callable[[], int] | None = None,
    ) -> None:
        self._ferry = ferry
        self._limits = limits or Limits()
        self._tap_drops = tap_drops
        self._receive_drops = receive_drops
        self._meter = lag.LagMeter()
        self._received = None if receive_drops is None else 0
        self._received_at = -1
        """How many packets the machine had dropped when `_received` was read."""
        first = self._host_mark()
        self._received_at = first.host.softirq_drops
        self._marks: deque[Mark] = deque([first], maxlen=round(WINDOW_S / TICK_S) + 1)
        self._ferry_base = first
        """What the ferry had done at some look before: it isn't asked at every tick."""
        self._closed = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="health", daemon=True)
        self._ticker.start()

    def mark(self) -> Mark:
        """All counters now: the beginning or end of a span."""
        try:
            ferry = self._ferry()
        except LabError:
            ferry = None  # it died; that is for the agent to report
        mark = self._host_mark()
        dropped = mark.host.softirq_drops
        if self._receive_drops is not None and dropped != self._received_at:
            self._received = self._receive_drops()
            self._received_at = dropped
        return msgspec.structs.replace(
            mark, ferry=ferry, tap_drops=self._tap_drops(), receive_drops=self._received
        )

    def since(self, mark: Mark) -> HealthSample:
        """The sample of the span from `mark` until now."""
        return between(mark, self.mark(), self._limits)

    def lately(self, mark: Mark) -> HealthSample:
        """As `since`; if `mark` is more than ten seconds old, the sample of the last ten."""
        return self.since(mark) if time.monotonic() - mark.at <= WINDOW_S else self.current()

    def look(self) -> tuple[HealthSample, Mark]:
        """The sample of the last ten seconds (or since the start), and all counters now.

        What concerns user-space links reaches back to an earlier look.
        """
        now, base = self.mark(), self._ferry_base
        ferry = between(base, now, self._limits)
        if now.at - base.at > WINDOW_S:
            self._ferry_base = now
        host_only = between(self._marks[0], msgspec.structs.replace(now, ferry=None), self._limits)
        sample = msgspec.structs.replace(
            host_only,
            ferry_lateness_p50_s=ferry.ferry_lateness_p50_s,
            ferry_lateness_p99_s=ferry.ferry_lateness_p99_s,
            ferry_busy=ferry.ferry_busy,
            queue_drops=ferry.queue_drops,
            tap_drops=ferry.tap_drops,
        )
        return judged(sample, self._limits), now

    def current(self) -> HealthSample:
        """The sample of the last ten seconds (or since the start)."""
        return self.look()[0]

    def close(self) -> None:
        """Stop watching; returns when the threads have ended."""
        self._closed.set()
        self._ticker.join()
        self._meter.close()

    def _host_mark(self) -> Mark:
        return Mark(
            at=time.monotonic(),
            host=host.read(),
            lag=self._meter.reading(),
            receive_drops=self._received,
        )

    def _tick(self) -> None:
        while not self._closed.wait(TICK_S):
            self._marks.append(self._host_mark())


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
