"""When a machine counts as one that distorts a lab."""

import threading

import msgspec
import pytest

from lab.errors import LabError
from lab.fabric.links.ferry.protocol import DirectionStats, FerryStats, Lateness, LinkStats
from lab.observe import host
from lab.observe.health import HealthSampler
from lab.observe.histogram import Counting
from lab.observe.host import HostCounters
from lab.observe.lag import BOUNDS_S
from lab.observe.sample import Limits, Mark, between

IDLE = HostCounters(
    cpu_total_s=1000.0,
    cpu_idle_s=900.0,
    cpu_steal_s=0.0,
    pressure_s=5.0,
    softirq_drops=3,
    softirq_squeezes=7,
    neighbour_overflows=1,
)


def lags(*values: float):
    counting = Counting(BOUNDS_S)
    for value in values:
        counting.add(value)
    return counting.reading()


BEFORE = Mark(at=100.0, host=IDLE, lag=lags())


def after(lag=(), ferry=None, **changes: float) -> Mark:
    """Ten seconds later on two processors that were a tenth busy, but for `changes`."""
    usual = {"cpu_total_s": 1020.0, "cpu_idle_s": 918.0, "pressure_s": 5.2}
    host = msgspec.structs.replace(IDLE, **(usual | changes))
    return Mark(at=110.0, host=host, lag=lags(*lag), ferry=ferry)


def test_an_idle_machine_does_not_distort():
    sample = between(BEFORE, after(lag=[0.0001] * 200), Limits())
    assert not sample.distorted
    assert sample.reasons == ()
    assert sample.span_s == 10.0
    assert sample.cpu_busy == pytest.approx(0.1)
    assert sample.cpu_pressure == pytest.approx(0.02)
    assert sample.lag_p99_s == 0.0001
    assert sample.ferry_lateness_p99_s is None


@pytest.mark.parametrize(
    ("mark", "reason"),
    [
        (after(cpu_idle_s=900.2), "the processors are 99% busy"),
        (after(cpu_steal_s=2.0), "the hypervisor took 10% of the processors' time"),
        (after(pressure_s=14.0), "programs waited for a processor 90% of the time"),
        (after(lag=[0.0001] * 90 + [0.015] * 10), "programs are woken up to 20 ms late (p99)"),
        (after(softirq_drops=4), "the kernel's backlog was full and lost 1 packet"),
        (after(softirq_drops=40), "the kernel's backlog was full and lost 37 packets"),
        (
            after(neighbour_overflows=5),
            "the neighbour table was full 4 times (raise net.ipv4.neigh.default.gc_thresh3)",
        ),
        (
            after(ferry=FerryStats(cpu_s=9.5)),
            "user-space links use 95% of a processor and can't do more",
        ),
        (
            after(ferry=FerryStats(lateness=Lateness(counts=(0,) * 14 + (100,) + (0,) * 9))),
            "user-space links deliver up to 16.8 ms late (p99)",
        ),
    ],
)
def test_each_reason(mark, reason):
    sample = between(BEFORE, mark, Limits())
    assert sample.reasons == (reason,)
    assert sample.distorted


def counted(mark: Mark, **counters: int) -> Mark:
    return msgspec.structs.replace(mark, **counters)


def test_packets_that_nobody_fetched_distort():
    before = counted(BEFORE, tap_drops=5)
    sample = between(before, counted(after(), tap_drops=12), Limits())
    assert sample.tap_drops == 7
    assert sample.reasons == ("user-space links left 7 packets lying until the kernel lost them",)


@pytest.mark.parametrize(
    ("received", "here", "reason"),
    [
        (0, 0, None),
        (1, 1, "the kernel's backlog was full and lost 1 packet of this lab"),
        # What no protocol wanted is counted by interfaces too.
        (99, 37, "the kernel's backlog was full and lost 37 packets of this lab"),
    ],
)
def test_the_backlog_matters_to_whom_it_lost_packets_of(received, here, reason):
    before = counted(BEFORE, receive_drops=10)
    sample = between(
        before, counted(after(softirq_drops=40), receive_drops=10 + received), Limits()
    )
    assert sample.softirq_drops == 37
    assert sample.softirq_drops_here == here
    assert sample.reasons == ((reason,) if reason else ())


def test_a_lab_is_asked_what_it_lost_only_after_the_machine_lost_something(monkeypatch):
    reading = host.read()
    monkeypatch.setattr(host, "read", lambda: reading)
    asked = []
    sampler = HealthSampler(receive_drops=lambda: asked.append(1) or 4)
    try:
        assert sampler.mark().receive_drops == 0
        assert not asked
        reading = msgspec.structs.replace(reading, softirq_drops=reading.softirq_drops + 9)
        assert sampler.mark().receive_drops == 4
        assert sampler.mark().receive_drops == 4
        assert len(asked) == 1
        assert sampler.current().softirq_drops_here == 4
    finally:
        sampler.close()


def test_what_was_wrong_before_the_span_is_not_held_against_it():
    late = FerryStats(lateness=Lateness(counts=(0,) * 14 + (100,) + (0,) * 9), cpu_s=50.0)
    before = Mark(at=100.0, host=IDLE, lag=lags(*[0.5] * 100), ferry=late)
    now = Mark(at=110.0, host=after().host, lag=lags(*[0.5] * 100, *[0.0001] * 100), ferry=late)
    assert not between(before, now, Limits()).distorted


def test_a_kernel_without_pressure_figures_is_no_reason():
    before = Mark(at=100.0, host=msgspec.structs.replace(IDLE, pressure_s=None), lag=lags())
    assert between(before, after(), Limits()).cpu_pressure is None


def test_a_span_of_no_time_at_all():
    sample = between(BEFORE, BEFORE, Limits())
    assert not sample.distorted
    assert sample.cpu_busy == 0.0


def test_a_sampler_measures_this_machine_and_ends_its_threads():
    before = set(threading.enumerate())
    sampler = HealthSampler(ferry=lambda: FerryStats(cpu_s=0.1))
    try:
        mark = sampler.mark()
        measured = threading.Event()
        for _ in range(600):
            if sum(sampler.mark().lag.counts) >= 3:
                break
            measured.wait(0.05)
        sample = sampler.since(mark)
        assert sample.span_s > 0
        assert 0 <= sample.cpu_busy <= 1
        assert sum(sampler.mark().lag.counts) >= 3
        current, now = sampler.look()
        assert current.ferry_busy is not None
        assert now.ferry == FerryStats(cpu_s=0.1)
    finally:
        sampler.close()
    assert set(threading.enumerate()) <= before


def test_what_is_lately_goes_back_to_the_mark_and_no_further_than_ten_seconds():
    sampler = HealthSampler(tap_drops=lambda: 3)
    try:
        mark = msgspec.structs.replace(sampler.mark(), tap_drops=1)
        assert sampler.lately(mark).tap_drops == 2
        old = msgspec.structs.replace(mark, at=mark.at - 60.0)
        assert sampler.since(old).span_s > 60.0 > sampler.lately(old).span_s
    finally:
        sampler.close()


def test_a_dead_ferry_is_not_the_samplers_business():
    def gone() -> FerryStats:
        raise LabError("the ferry is gone")

    sampler = HealthSampler(ferry=gone)
    try:
        assert sampler.current().ferry_busy is None
    finally:
        sampler.close()


def test_what_slow_links_drop_is_counted_and_no_distortion():
    def ferry(overflowed: int, early: int) -> FerryStats:
        way = DirectionStats(packets=9, overflowed=overflowed, early=early)
        return FerryStats(links=(LinkStats(name="l", a_to_b=way, b_to_a=way),))

    before = msgspec.structs.replace(BEFORE, ferry=ferry(1, 0))
    sample = between(before, after(ferry=ferry(4, 2)), Limits())
    assert sample.queue_drops == 10
    assert not sample.distorted
