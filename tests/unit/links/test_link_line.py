"""The whole model: what a line and its parts promise, with all times given."""

from __future__ import annotations

import math
import statistics
import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from lab.errors import LabError
from lab.fabric.links.aqm import Codel, FqCodel, Waiting, flow_of
from lab.fabric.links.jitter import strayer
from lab.fabric.links.line import Line
from lab.fabric.links.losses import bursty
from lab.fabric.links.model import FULL_FRAME, Direction, queue_packets, straight
from lab.fabric.links.transmitter import Trace
from lab.seeds import stream
from lab.topology.character import (
    Bursts,
    DataFile,
    Discipline,
    Distribution,
    Impairment,
    LossPattern,
    Order,
    Queue,
    QueueUnit,
)
from lab.topology.datafiles import find
from tests.unit.links.test_link_model import IMPAIRMENTS, TRAFFIC, carry, lots

MS = 1_000_000


def line_of(impairment: Impairment, seed: int = 1) -> Line:
    return Line(Direction(impairment, lots(seed)), impairment, lots(seed))


def frame(number: int, size: int = 100) -> bytes:
    return struct.pack("I", number) + bytes(size - 4)


def numbers(frames) -> list[int]:
    return [struct.unpack_from("I", data)[0] for _, data in frames]


def drain(line: Line) -> list[tuple[int, bytes]]:
    found = []
    while (at := line.next_ns()) is not None:
        found += line.take(at)
    return found


def carried(impairment: Impairment, count: int, period_ns: int = MS, seed: int = 1):
    """Departures of `count` packets of 100 bytes."""
    line = line_of(impairment, seed)
    found = []
    for i in range(count):
        found += line.take(i * period_ns)
        line.put(i * period_ns, frame(i))
    return found + drain(line)


@given(IMPAIRMENTS, TRAFFIC, st.integers(0, 100))
def test_a_line_and_a_direction_agree_where_both_can(impairment, traffic, seed):
    assert straight(impairment)
    expected = [found for _, _, found in carry(Direction(impairment, lots(seed)), traffic)]
    line = line_of(impairment, seed)
    now = 0
    for gap, size in traffic:
        now += gap
        line.put(now, bytes(size))
    assert [at for at, _ in drain(line)] == [at for at in expected if at is not None]


EVERYTHING = Impairment(
    rate_bit=5_000_000,
    delay_us=20_000,
    jitter_us=8_000,
    distribution=Distribution.NORMAL,
    correlation=0.3,
    loss=0.02,
    bursts=Bursts(p=0.01, r=0.3),
    reorder=0.02,
    duplicate=0.02,
    corrupt=0.02,
    discipline=Discipline.FQ_CODEL,
)


def test_equal_seeds_and_traffic_give_equal_everything():
    assert carried(EVERYTHING, 2000) == carried(EVERYTHING, 2000)
    assert carried(EVERYTHING, 2000) != carried(EVERYTHING, 2000, seed=2)


@given(
    st.lists(
        st.builds(
            Impairment,
            rate_bit=st.sampled_from((0, 1_000_000, 50_000_000)),
            delay_us=st.integers(0, 50_000),
            jitter_us=st.sampled_from((0, 5_000)),
            order=st.sampled_from(tuple(Order)),
            reorder=st.sampled_from((0.0, 0.1)),
            discipline=st.sampled_from(tuple(Discipline)),
            queue=st.sampled_from((Queue(), Queue(length=9000, unit=QueueUnit.BYTES))),
        ),
        min_size=2,
        max_size=6,
    ),
    st.integers(1, 2_000_000),
)
def test_changes_lose_only_what_queues_drop(stages, gap):
    direction = Direction(stages[0], lots(1))
    line = Line(direction, stages[0], lots(1))
    now, offered, out = 0, 0, []
    for stage in stages:
        line.change(stage, now)
        for _ in range(40):
            now += gap
            out += line.take(now)
            line.put(now, frame(offered, 1000))
            offered += 1
    out += drain(line)
    assert len(out) == offered - direction.overflowed - line.early
    assert len(set(numbers(out))) == len(out)
    assert direction.lost == 0
    assert line.waiting == 0


def test_a_direction_hands_over_what_is_on_its_way():
    before = Impairment(delay_us=50_000)
    direction = Direction(before, lots(1))
    pending = [(direction.offer(i * MS, 100), frame(i)) for i in range(10)]
    after = Impairment(delay_us=1000, jitter_us=500)
    line = Line(direction, after, lots(1), 10 * MS, pending)
    line.put(10 * MS, frame(10))
    # The newer packet has the shorter delay, and waits for the older ones.
    assert numbers(drain(line)) == list(range(11))


# --- losses -----------------------------------------------------------------


def test_a_pattern_loses_what_it_says():
    impairment = Impairment(pattern=LossPattern(lost=(3, 7, 9), of=20))
    direction = Direction(impairment, lots(1))
    lost = [i + 1 for i in range(60) if direction.offer(i, 100) is None]
    assert lost == [3, 7, 9, 23, 27, 29, 43, 47, 49]


def test_bursts_have_their_share_and_their_length():
    bursts = Bursts(p=0.01, r=0.25)
    lost = bursty(bursts, stream(1, "x"))
    fates = [lost() for _ in range(200_000)]
    lengths, run = [], 0
    for fate in fates:
        if fate:
            run += 1
        elif run:
            lengths.append(run)
            run = 0
    assert sum(fates) / len(fates) == pytest.approx(bursts.share, rel=0.1)
    assert statistics.mean(lengths) == pytest.approx(1 / bursts.r, rel=0.1)


def test_a_chain_goes_on_across_a_change_of_something_else():
    bursts = Bursts(p=0.05, r=0.2)
    plain, changed = (Direction(Impairment(bursts=bursts), lots(1)) for _ in range(2))
    for i in range(500):
        if i % 50 == 0:
            changed.change(Impairment(bursts=bursts, delay_us=i))
        assert (plain.offer(i * MS, 100) is None) == (changed.offer(i * MS, 100) is None)


# --- delays -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("distribution", "deviation"),
    [
        (Distribution.UNIFORM, 1 / math.sqrt(3)),
        (Distribution.NORMAL, 1.0),
        # The tail is cut at four deviations, as tc's tables are.
        (Distribution.PARETO, 0.75),
    ],
)
@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_jitter_is_distributed_as_it_says(distribution, deviation, correlation):
    impairment = Impairment(
        jitter_us=1000, distribution=distribution, correlation=correlation, delay_us=1
    )
    stray = strayer(impairment, stream(1, "jitter"))
    values = [stray() / MS for _ in range(40_000)]
    assert statistics.mean(values) == pytest.approx(0, abs=0.08)
    assert statistics.stdev(values) == pytest.approx(deviation, rel=0.1)
    both = statistics.correlation(values[:-1], values[1:])
    assert both == pytest.approx(correlation, abs=0.12)


def test_a_table_is_drawn_from(tmp_path):
    (tmp_path / "two.dist").write_text("# two delays\n-8192 8192\n8192\n")
    file, _ = find("two.dist", tmp_path)
    impairment = Impairment(
        delay_us=10_000, jitter_us=2000, distribution=Distribution.TABLE, table=file
    )
    departures = [
        at - i * 100 * MS for i, (at, _) in enumerate(carried(impairment, 3000, 100 * MS))
    ]
    assert set(departures) == {8 * MS, 12 * MS}
    assert departures.count(12 * MS) / 3000 == pytest.approx(2 / 3, abs=0.05)


def test_a_table_that_changed_is_refused(tmp_path):
    (tmp_path / "x.dist").write_text("1 2")
    file = DataFile(path=str(tmp_path / "x.dist"), digest="0" * 64)
    impairment = Impairment(delay_us=9, jitter_us=9, distribution=Distribution.TABLE, table=file)
    with pytest.raises(LabError, match="has changed"):
        line_of(impairment)


def test_jitter_keeps_order_unless_it_is_free():
    kept = Impairment(delay_us=20_000, jitter_us=10_000)
    free = Impairment(delay_us=20_000, jitter_us=10_000, order=Order.FREE)
    assert numbers(carried(kept, 500)) == list(range(500))
    overtaking = numbers(carried(free, 500))
    assert overtaking != list(range(500))
    assert sorted(overtaking) == list(range(500))


def test_reordered_packets_skip_the_delay_and_nothing_else_moves():
    impairment = Impairment(delay_us=10_000, reorder=0.2)
    line = line_of(impairment)
    skipped = []
    for i in range(1000):
        line.put(i * 20 * MS, frame(i))
        ((at, _),) = drain(line)
        assert at - i * 20 * MS in (0, 10 * MS)
        skipped.append(at == i * 20 * MS)
    assert sum(skipped) == line.reordered == pytest.approx(200, abs=70)


def test_duplicates_and_damage():
    impairment = Impairment(duplicate=0.1, corrupt=0.1)
    line = line_of(impairment)
    for i in range(2000):
        line.put(i, bytes(100))
    found = [data for _, data in drain(line)]
    assert len(found) == 2000 + line.duplicated
    assert line.duplicated == pytest.approx(200, abs=70)
    damaged = [sum(byte.bit_count() for byte in data) for data in found if any(data)]
    assert set(damaged) == {1}
    assert len(damaged) == line.corrupted == pytest.approx(220, abs=75)


# --- transmitters ---------------------------------------------------------------


def test_a_trace_lets_pass_what_it_says():
    trace = Trace([2, 2, 5, 10], 0)
    assert [trace.finish(0, 1504) // MS for _ in range(6)] == [2, 2, 5, 10, 12, 12]
    # What nobody uses is gone; what is left of a moment serves the next packet.
    assert trace.finish(16 * MS, 1000) == 20 * MS
    assert trace.finish(16 * MS, 504) == 20 * MS
    assert trace.finish(16 * MS, 1) == 22 * MS
    assert trace.finish(16 * MS, 4000) == 25 * MS
    assert Trace([2, 2, 5, 10], 0).rate_bit == 4 * 1504 * 800


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=20),
    st.lists(st.tuples(st.integers(0, 40 * MS), st.integers(1, 3000)), max_size=60),
)
def test_a_trace_never_goes_back_nor_beyond_its_rate(gaps, traffic):
    moments = [sum(gaps[: i + 1]) for i in range(len(gaps))]
    trace = Trace(moments, 0)
    now = last = total = 0
    for gap, size in traffic:
        now = max(now + gap, last)
        last = trace.finish(now, size)
        assert last >= now
        total += size
        turns = last // MS // moments[-1] + 1
        assert total <= turns * len(moments) * 1504


def test_queues_in_bytes_and_packets():
    for queue, size, held in (
        (Queue(length=10, unit=QueueUnit.PACKETS), 1514, 10),
        (Queue(length=10_000, unit=QueueUnit.BYTES), 1000, 10),
        (Queue(length=10_000, unit=QueueUnit.BYTES), 100, 100),
    ):
        direction = Direction(Impairment(rate_bit=1_000_000, queue=queue), lots(1))
        fates = [direction.offer(0, size) for _ in range(held + 5)]
        assert [fate is None for fate in fates] == [False] * held + [True] * 5
    rate = 100_000_000
    assert queue_packets(Impairment(rate_bit=rate, queue=Queue(length=2.0))) == 1652
    assert queue_packets(Impairment(rate_bit=rate, queue=Queue(length=0.5))) == 413


# --- active queues ----------------------------------------------------------------


def sojourns(queue, arrivals: int, per_s: int, seconds: float) -> list[float]:
    """How long packets wait when `arrivals` a second come and `per_s` leave."""
    at, found, sent = 0, [], 0
    for i in range(int(seconds * per_s)):
        now = i * 1_000_000_000 // per_s
        while sent * 1_000_000_000 // arrivals <= now:
            at = sent * 1_000_000_000 // arrivals
            queue.put(Waiting(at, bytes(FULL_FRAME)))
            sent += 1
        if (one := queue.take(now)) is not None:
            found.append((now - one.since_ns) / 1e9)
    return found


def test_codel_leaves_a_queue_alone_that_drains():
    queue = Codel()
    assert max(sojourns(queue, 900, 1000, 2)) < 0.005
    assert queue.drops == 0


def test_codel_drops_more_often_as_long_as_the_queue_stands():
    queue = Codel()
    moments = []
    for i in range(3000):
        queue.put(Waiting(i * MS, bytes(FULL_FRAME)))
        queue.put(Waiting(i * MS, bytes(FULL_FRAME)))
        before = queue.drops
        queue.take(i * MS)
        if queue.drops > before:
            moments.append(i)
    # The first after an interval above target, then by the inverse square root.
    assert 100 <= moments[0] <= 110
    gaps = [b - a for a, b in pairwise(moments)]
    assert gaps[0] == 100
    assert gaps[1] == pytest.approx(100 / math.sqrt(2), abs=1)
    assert gaps[2] == pytest.approx(100 / math.sqrt(3), abs=1)


def flow_frame(port: int, size: int = 1000) -> bytes:
    ip = bytes([0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2])
    return bytes(12) + b"\x08\x00" + ip + struct.pack("!HH", port, 53) + bytes(size - 38)


def test_fq_codel_serves_flows_in_turn_and_the_sparse_first():
    queue = FqCodel()
    for i in range(100):
        queue.put(Waiting(i, flow_frame(1)))
    for i in range(100):
        queue.put(Waiting(i, flow_frame(2)))
    first = [flow_of(queue.take(0).frame) for _ in range(40)]
    assert abs(first.count(flow_of(flow_frame(1))) - 20) <= 2
    queue.put(Waiting(0, flow_frame(3, 100)))
    assert flow_of(queue.take(0).frame) == flow_of(flow_frame(3))


def test_a_full_fq_codel_drops_from_the_longest():
    queue = FqCodel()
    for i in range(10):
        queue.put(Waiting(i, flow_frame(1)))
    queue.put(Waiting(10, flow_frame(2)))
    queue.drop_one()
    assert len(queue) == 10 == len(list(queue))
    assert queue.bytes == 10_000 == sum(len(one.frame) for one in queue)
    assert queue.drops == 0
    assert sum(flow_of(one.frame) == flow_of(flow_frame(2)) for one in queue) == 1


@pytest.mark.parametrize("discipline", [Discipline.CODEL, Discipline.FQ_CODEL])
def test_a_full_active_queue_holds_no_more_bytes_than_it_may(discipline):
    impairment = Impairment(
        rate_bit=8000, queue=Queue(length=5000, unit=QueueUnit.BYTES), discipline=discipline
    )
    line = line_of(impairment)
    for i in range(80):
        line.put(i, flow_frame(1, 60))
    for i in range(80, 90):
        line.put(i, flow_frame(2, 1500))
    # The first has left the queue for the transmitter.
    assert sum(len(data) for _, data in drain(line)[1:]) <= 5000


def test_an_active_queue_that_is_made_shorter_keeps_what_waits():
    wide = Impairment(
        rate_bit=1_000_000,
        queue=Queue(length=50, unit=QueueUnit.PACKETS),
        discipline=Discipline.CODEL,
    )
    direction = Direction(wide, lots(1))
    line = Line(direction, wide, lots(1))
    for _ in range(40):
        line.put(0, flow_frame(1))
    line.change(replace(wide, queue=Queue(length=10, unit=QueueUnit.PACKETS)), 0)
    line.put(0, flow_frame(1))
    assert direction.overflowed == 1
    assert line.waiting == 40


def test_flows_of_ipv6_and_of_fragments():
    six = bytes(12) + b"\x86\xdd" + bytes(6) + b"\x11" + bytes(33) + b"\0\1\0\2" + bytes(20)
    assert flow_of(six) != flow_of(six[:54] + b"\0\3" + six[56:])
    fragment = bytearray(flow_frame(1))
    fragment[21] = 9
    other = bytearray(flow_frame(2))
    other[21] = 9
    assert flow_of(bytes(fragment)) == flow_of(bytes(other))


@pytest.mark.parametrize("discipline", [Discipline.CODEL, Discipline.FQ_CODEL])
def test_an_active_queue_keeps_its_delay_short(discipline):
    def median_delay(discipline: Discipline) -> float:
        rate = 10_000_000
        impairment = Impairment(rate_bit=rate, discipline=discipline, queue=Queue(length=4.0))
        line = line_of(impairment)
        sent, delays = {}, []
        for i in range(12_000):
            now = i * 1_000_000
            for at, data in line.take(now):
                number = struct.unpack_from("I", data, 42)[0]
                delays.append(at - sent[number])
            sent[i] = now
            line.put(now, flow_frame(1, 42) + struct.pack("I", i) + bytes(1354))
        return statistics.median(delays[len(delays) // 2 :])

    assert median_delay(discipline) < 0.5 * median_delay(Discipline.DROP_TAIL)
