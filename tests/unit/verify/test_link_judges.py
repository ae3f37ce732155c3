"""What is said of links that are nothing but the model: right ones, wrong ones, late ones."""

from __future__ import annotations

from dataclasses import replace as replaced
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from simulated_links import bearings, flow_over, punctual, verified

from lab.fabric.links.ferry.protocol import BUCKETS, Lateness
from lab.fabric.links.jitter import strayer
from lab.fabric.links.line import Line
from lab.fabric.links.model import Direction
from lab.topology.character import (
    Backend,
    Bursts,
    Discipline,
    Distribution,
    Impairment,
    LossPattern,
    Order,
    Queue,
    QueueUnit,
)
from lab.verify.links import expected, fates, loaded, quiet
from lab.verify.links.delivery import Turn
from lab.verify.links.schedule import MOST_FRAMES_S, Task, begins
from lab.verify.links.toll import Felt, Reading, Toll, Trail
from lab.verify.report import LinkDimension, LinkVerdict

APART = [number * 4_000_000 for number in range(400)]
LONG = Queue(length=300, unit=QueueUnit.PACKETS)
FAIR = Impairment(rate_bit=10_000_000, delay_us=20_000)
FINE = LinkVerdict.AS_DECLARED
WRONG = LinkVerdict.DIFFERS
ODD = LinkVerdict.DISTORTED

CHANGED = {
    "delay": (FAIR, replace(FAIR, delay_us=24_000)),
    "jitter": (
        Impairment(delay_us=40_000, jitter_us=15_000),
        Impairment(delay_us=40_000, jitter_us=1_000),
    ),
    "correlation": (
        Impairment(delay_us=40_000, jitter_us=9_000, correlation=0.8, order=Order.FREE),
        Impairment(delay_us=40_000, jitter_us=9_000, order=Order.FREE),
    ),
    "loss": (Impairment(loss=0.05), Impairment(loss=0.3)),
    "length of bursts": (
        Impairment(bursts=Bursts(p=0.01, r=0.25)),
        Impairment(bursts=Bursts(p=0.04, r=1.0)),
    ),
    "pattern of losses": (
        Impairment(pattern=LossPattern(lost=(2, 3), of=20)),
        Impairment(pattern=LossPattern(lost=(2, 4), of=20)),
    ),
    "reordering": (
        Impairment(delay_us=60_000, reorder=0.2),
        Impairment(delay_us=60_000, reorder=0.02),
    ),
    "duplication": (Impairment(duplicate=0.02), Impairment(duplicate=0.2)),
    "corruption": (Impairment(corrupt=0.0), Impairment(corrupt=0.1)),
    "rate": (FAIR, replace(FAIR, rate_bit=9_000_000)),
    "queue": (
        replace(FAIR, queue=Queue(length=40, unit=QueueUnit.PACKETS)),
        replace(FAIR, queue=Queue(length=60, unit=QueueUnit.PACKETS)),
    ),
}
FOLLOWS = {"correlation": {"jitter"}, "delay": {"queue"}, "jitter": {"delay"}}


@pytest.mark.parametrize("dimension", CHANGED)
def test_a_link_that_is_another_is_found_and_one_that_is_not_is_right(dimension: str) -> None:
    declared, told = CHANGED[dimension]
    right = verified({"link": declared}, seed=1)
    assert [one for one in right if one.verdict is not FINE] == []
    assert dimension in {one.dimension for one in right} or not declared.corrupt
    found = verified({"link": declared}, {"link": told}, seed=1)
    wrong = {str(one.dimension) for one in found if one.verdict is WRONG}
    assert dimension in wrong
    assert wrong <= {dimension} | FOLLOWS.get(dimension, set())
    for one in found:
        if one.verdict is WRONG and one.high is not None:
            assert one.low is not None
            assert one.low <= (one.observed_value or 0.0) <= one.high


@pytest.mark.parametrize(
    ("way", "dimension", "why"),
    [
        (replace(FAIR, discipline=Discipline.CODEL), "queue", "codel"),
        (replace(FAIR, rate_bit=100_000, queue=LONG), "queue", "to fill and empty"),
        (Impairment(bursts=Bursts(p=0.00005, r=0.5)), "length of bursts", "packets lost"),
        (Impairment(bursts=Bursts(p=0.1, r=0.5), duplicate=0.2), "length of bursts", "twice"),
        (Impairment(pattern=LossPattern((1,), 9), loss=0.1), "pattern of losses", "besides"),
        (Impairment(delay_us=500, reorder=0.2), "reordering", "no delay"),
        (Impairment(delay_us=500, loss=1.0), "rate", "0 of 300 packets came"),
    ],
)
def test_what_no_probe_tells_is_said_to_be_unmeasured_and_why(
    way: Impairment, dimension: str, why: str
) -> None:
    found = [one for one in verified({"link": way}, seed=2) if one.dimension == dimension]
    assert [one.verdict for one in found] == [LinkVerdict.UNMEASURED] * 2
    assert all(why in one.detail.lower() for one in found), found
    assert all((one.observed_value, one.low, one.high) == (None, None, None) for one in found)


# --- lateness -----------------------------------------------------------------


def late_by(ns: int, frames: int = 400) -> Felt:
    counts = [0] * BUCKETS
    counts[(ns >> 10).bit_length()] = frames
    return Felt(late=tuple(counts))


def verdict_of_delay(felt: Felt, late_ns: int, way: Impairment = FAIR) -> LinkVerdict:
    flow = flow_over(FAIR, APART, 60, late=lambda _: late_ns)
    (found,) = (
        one
        for one in quiet.findings(bearings(way, felt=felt), flow)
        if one.dimension is LinkDimension.DELAY
    )
    return found.verdict


def test_frames_that_the_machine_says_it_sent_late_are_not_the_links_fault() -> None:
    late_ns = 9_000_000
    assert verdict_of_delay(late_by(late_ns), late_ns) is ODD
    # Nobody says so; or few frames were late; or they were by less; or it is the other way.
    assert verdict_of_delay(Felt(), late_ns) is WRONG
    assert verdict_of_delay(late_by(late_ns, frames=300), late_ns) is WRONG
    assert verdict_of_delay(late_by(1_000_000), late_ns) is WRONG
    assert verdict_of_delay(late_by(late_ns), 0, replace(FAIR, delay_us=28_000)) is WRONG


def test_an_interval_is_wider_by_the_lateness() -> None:
    flow = flow_over(FAIR, APART, 60)
    sure, unsure = (
        next(iter(quiet.findings(bearings(FAIR, felt=felt), flow)))
        for felt in (Felt(), late_by(9_000_000))
    )
    assert (sure.verdict, unsure.verdict) == (FINE, FINE)
    assert sure.low is not None
    assert unsure.low is not None
    assert sure.low - unsure.low == pytest.approx(late_by(9_000_000).late_s(360), abs=1e-6)
    assert sure.high == unsure.high


@given(st.lists(st.integers(0, 1 << 34), min_size=1, max_size=80), st.data())
def test_of_any_frames_as_many_are_not_later_than_is_said(late: list[int], data: st.DataObject):
    counts = [0] * 64
    for one in late:
        counts[(one >> 10).bit_length()] += 1
    felt = Felt(late=(*counts[: BUCKETS - 1], sum(counts[BUCKETS - 1 :])))
    frames = data.draw(st.integers(1, len(late)))
    # However unlucky a link is, the most punctual of so many of its frames was less late.
    unlucky = sorted(late)[-frames] / 1e9
    assert unlucky <= max(felt.late_s(frames), 0.0) or unlucky > Lateness.bounds_s()[-1]


def test_the_toll_of_a_probe_is_what_was_added_meanwhile() -> None:
    before, after = Reading((5, 0, 7), 3, None, 2), Reading((5, 2, 9), 8, None, 6)
    toll = Toll(before, after, wakings_s=[0.001] * 9 + [0.03])
    assert toll.felt(Backend.FERRY).late == (0, 2, 2)
    assert toll.felt(Backend.KERNEL).late_s(100) == 0.03
    assert toll.felt(Backend.KERNEL).dropped == 5
    # What the ferry left lying was lost on links that it carries, and on no others.
    assert toll.felt(Backend.FERRY).dropped == 5 + 4
    assert Toll(None, after).felt(Backend.FERRY).late_s(1) == 0.0


def test_a_process_is_as_busy_as_it_was_meanwhile() -> None:
    trail = Trail(1)
    for moment, effort in ((0, 0), (100, 10), (200, 110), (300, 115)):
        trail.note(moment, effort)
    trail.__exit__()
    assert trail.busy(100, 200) == 1.0
    # Of whole steps.
    assert trail.busy(150, 250) == pytest.approx(0.525)
    felt = Felt(worker=trail, work="carrying links")
    assert felt.saturated(100, 200) == "carrying links took a processor for 100% of the time"
    assert felt.saturated(0, 90) == ""
    assert Felt().saturated(0, 300) == ""


def test_a_rate_is_excused_by_who_could_do_no_more_and_by_nobody_else() -> None:
    slow = replace(FAIR, rate_bit=8_000_000)
    load = loaded.load(FAIR, 1500, 4.0)
    flow = flow_over(slow, load.offsets_ns, load.size)
    begin, end = flow.span_ns
    verdicts = []
    for effort in (0.2, 0.95):
        trail = Trail(1)
        trail.note(begin - 1, 0)
        trail.note(end + 1, int(effort * (end - begin)))
        trail.__exit__()
        about = bearings(FAIR, felt=Felt(worker=trail, work="carrying links"))
        verdicts.append(next(iter(loaded.findings(about, load, flow))).verdict)
    assert verdicts == [WRONG, ODD]


@pytest.mark.parametrize(
    "way",
    [
        Impairment(delay_us=5_000),
        Impairment(delay_us=5_000, pattern=LossPattern(lost=(2, 3), of=20)),
    ],
    ids=["plain", "pattern"],
)
def test_a_link_is_not_blamed_for_what_never_came_to_it(way: Impairment):
    flow = flow_over(way, APART, 200)
    # A reader that is away for a moment leaves frames lying until there is no room.
    flow.arrivals[:] = [one for one in flow.arrivals if not 100 <= one.number < 140]
    for dropped, verdict in ((0, WRONG), (40, ODD)):
        about = bearings(way, felt=Felt(dropped=dropped))
        found = [*fates.findings(about, flow), *fates.order_of_losses(about, flow)]
        wrong = [one for one in found if one.verdict is not FINE]
        assert {one.verdict for one in wrong} == {verdict}
        assert all(("dropped 40 packets" in one.detail) is (dropped > 0) for one in wrong)


# --- parts ----------------------------------------------------------------------


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize(
    "more",
    [{}, {"distribution": Distribution.PARETO, "correlation": 0.4}, {"rate_bit": 2_000_000}],
)
def test_delays_without_frames_are_those_of_the_model(order: Order, more: dict[str, object]):
    way = replace(Impairment(delay_us=9000, jitter_us=8000, order=order), **more)
    line = Line(Direction(way, Random), way, Random)
    for number, at_ns in enumerate(APART):
        line.put(at_ns, number.to_bytes(4, "big") + bytes(56))
    took = {int.from_bytes(frame[:4], "big"): at for at, frame in line.take(1 << 62)}
    delays = [(took[number] - at_ns) / 1e9 for number, at_ns in enumerate(APART)]
    assert expected.delays(way, APART, 60, strayer(way, Random("jitter"))) == delays


@given(st.data())
def test_a_pattern_is_known_from_any_place_on_and_past_packets_of_others(data: st.DataObject):
    period = data.draw(st.integers(2, 40))
    lost = data.draw(st.sets(st.integers(1, period), min_size=1, max_size=period - 1))
    pattern = LossPattern(tuple(sorted(lost)), period)
    begin = data.draw(st.integers(0, period - 1))
    count = data.draw(st.integers(1, 150))
    foreign = data.draw(st.sets(st.integers(0, count - 1), max_size=2))
    turns = ((begin + number) % period + 1 in lost for number in range(count + 2))
    fates_of_ours = [fate for number, fate in enumerate(turns) if number not in foreign]
    most = 2 * period
    if not foreign:
        assert fates.strays(fates_of_ours, pattern, begin, most) == 0
    assert fates.strays(fates_of_ours, pattern, begin, most) <= most + 1


MOMENTS = st.lists(st.integers(1, 150), min_size=2, max_size=60).map(sorted)


@given(MOMENTS, st.floats(0, 900))
def test_what_a_trace_has_given_is_its_moments_until_then(moments: list[int], until: float):
    turn = Turn(moments)
    period = moments[-1]
    later = (moment + again * period for again in range(1000) for moment in moments)
    count = 0
    for moment in later:
        if moment > until:
            break
        count += 1
    assert turn.given(until) == count * 1504


@settings(max_examples=40)
@given(MOMENTS, st.integers(0, 59), st.lists(st.integers(1, 400), min_size=4, max_size=24))
def test_a_trace_is_found_where_it_was(moments: list[int], first: int, ats: list[int]):
    turn = Turn(moments)
    begin = moments[first % len(moments)]
    passed = [(float(at), turn.given(begin + at) - turn.given(begin - 1)) for at in sorted(ats)]
    place = turn.place(passed, 1.0, 1504)
    assert place is not None
    gives = [turn.given(place + at) - turn.given(place - 1) for at, _ in passed]
    near = [
        abs(one - amount) <= 2 * 1504 * 60 for one, (_, amount) in zip(gives, passed, strict=True)
    ]
    assert all(near)
    # Nothing gives three times as much.
    assert turn.place([(at, 3 * amount + 200_000) for at, amount in passed], 1.0, 1504) is None


TASKS = st.lists(
    st.builds(Task, st.floats(1, 60_000), st.floats(0.01, 5.0)), min_size=1, max_size=40
)


@given(TASKS)
def test_links_are_loaded_together_as_long_as_the_machine_can(tasks: list[Task]) -> None:
    starts = begins(tasks)
    assert min(starts) == 0.0
    for at in starts:
        running = [
            task.frames_s
            for task, start in zip(tasks, starts, strict=True)
            if start <= at < start + task.busy_s
        ]
        most = max(running)
        room = max(MOST_FRAMES_S, most + 0.2 * MOST_FRAMES_S)
        assert sum(running) <= room + 1e-6
    slowest = sorted(range(len(tasks)), key=lambda place: tasks[place].frames_s)
    for former, later in pairwise(slowest):
        assert starts[former] <= starts[later]


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize(
    "distribution", [Distribution.UNIFORM, Distribution.NORMAL, Distribution.PARETO]
)
def test_jitter_does_not_make_a_link_slow(
    distribution: Distribution, share: float, order: Order
) -> None:
    way = Impairment(
        delay_us=40_000,
        jitter_us=10_000,
        distribution=distribution,
        correlation=share,
        order=order,
    )
    wrong = 0
    for seed in range(10):
        load = loaded.load(way, 1500, 4.0)
        assert not isinstance(load, str)
        flow = flow_over(way, load.offsets_ns, load.size, seed=seed)
        (rate,) = loaded.findings(bearings(way), load, flow)
        assert rate.verdict is FINE, rate.observed
        slow = replace(way, rate_bit=10_000_000, queue=LONG)
        flow = flow_over(slow, load.offsets_ns, load.size, seed=seed)
        (rate,) = loaded.findings(bearings(way), load, flow)
        wrong += rate.verdict is WRONG
    assert wrong == 10


def test_a_sender_that_pauses_does_not_make_a_link_slow() -> None:
    load = loaded.load(FAIR, 1500, 4.0)
    half = len(load.offsets_ns) // 2
    # For a second: the transmitter rests.
    offsets = [
        at + (1_000_000_000 if place > half else 0) for place, at in enumerate(load.offsets_ns)
    ]
    flow = flow_over(FAIR, offsets, load.size)
    rate = next(iter(loaded.findings(bearings(FAIR), load, flow)))
    assert (rate.dimension, rate.verdict) == (LinkDimension.RATE, FINE)


@given(st.integers(0, 2**32), st.floats(0.2, 0.95))
@settings(max_examples=15)
def test_nor_does_one_that_starves_make_a_queue_short(seed: int, share: float) -> None:
    load = loaded.load(FAIR, 1500, 4.0)
    rng = Random(seed)
    at_ns, offsets, former = 0, [], 0
    for planned in load.offsets_ns:
        # Now and then it is not its turn for some milliseconds.
        pause = rng.randrange(20_000_000) if rng.random() > share else 0
        at_ns += planned - former + pause
        former = planned
        offsets.append(at_ns)
    found = [*loaded.findings(bearings(FAIR), load, flow_over(FAIR, offsets, load.size))]
    assert [one for one in found if one.verdict in {WRONG, ODD}] == []


def test_others_on_a_link_are_counted_while_it_was_measured() -> None:
    flow = flow_over(FAIR, APART, 60, late=punctual)
    begin, end = flow.span_ns
    flow.foreign.extend((begin - 5, 1_000_000_000) for _ in range(3))
    assert bearings(FAIR).crowded(flow) == ""
    share = 0.3 * FAIR.rate_bit / 8 * (end - begin) / 1e9
    flow.foreign.append((begin + 5, int(share)))
    assert bearings(FAIR).crowded(flow) == "others use 30% of it"
    assert replaced(bearings(FAIR), way=Impairment()).crowded(flow) == ""
