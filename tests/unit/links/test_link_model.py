"""The link model's promises, for any traffic and any changes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.fabric.links.model import (
    FULL_FRAME,
    MIN_QUEUE,
    Direction,
    queue_packets,
    serialisation_ns,
)
from lab.seeds import stream
from lab.topology.character import Impairment

RATES = st.sampled_from((0, 64_000, 1_000_000, 10_000_000, 999_999_937, 10_000_000_000))
IMPAIRMENTS = st.builds(
    Impairment,
    rate_bit=RATES,
    delay_us=st.integers(0, 700_000),
    loss=st.sampled_from((0.0, 0.01, 0.3, 1.0)),
)
LOSSLESS = st.builds(Impairment, rate_bit=RATES, delay_us=st.integers(0, 700_000))
TRAFFIC = st.lists(
    st.tuples(st.integers(0, 20_000_000), st.integers(14, FULL_FRAME)), min_size=1, max_size=200
)
"""Gaps in nanoseconds and sizes in bytes."""


def lots(seed: int):
    """The streams of one direction."""
    return lambda what: stream(seed, what)


def carry(direction: Direction, traffic, start_ns: int = 0):
    """Arrival, size and departure of each packet."""
    now = start_ns
    found = []
    for gap, size in traffic:
        now += gap
        found.append((now, size, direction.offer(now, size)))
    return found


@given(IMPAIRMENTS, TRAFFIC, st.integers(0, 100))
def test_nothing_leaves_early_or_overtakes(impairment, traffic, seed):
    last = 0
    for arrival, size, departure in carry(Direction(impairment, lots(seed)), traffic):
        if departure is None:
            continue
        least = impairment.delay_us * 1000
        if impairment.rate_bit:
            least += serialisation_ns(size, impairment.rate_bit)
        assert departure >= arrival + least
        assert departure >= last
        last = departure


@given(LOSSLESS.filter(lambda found: found.rate_bit > 0), TRAFFIC)
def test_departures_never_exceed_the_rate(impairment, traffic):
    carried = [
        (size, departure)
        for _, size, departure in carry(Direction(impairment, lots(1)), traffic)
        if departure is not None
    ]
    for (_, before), (size, departure) in pairwise(carried):
        assert departure - before >= serialisation_ns(size, impairment.rate_bit)


@given(LOSSLESS, TRAFFIC)
def test_an_idle_link_adds_exactly_its_delay_and_transmission(impairment, traffic):
    direction = Direction(impairment, lots(1))
    now = 0
    for _, size in traffic:
        departure = direction.offer(now, size)
        assert departure is not None
        transmission = serialisation_ns(size, impairment.rate_bit) if impairment.rate_bit else 0
        assert departure == now + transmission + impairment.delay_us * 1000
        now = departure


@given(IMPAIRMENTS, TRAFFIC, st.integers(0, 100))
def test_equal_seeds_and_traffic_give_equal_fates(impairment, traffic, seed):
    first = carry(Direction(impairment, lots(seed)), traffic)
    assert first == carry(Direction(impairment, lots(seed)), traffic)


@given(st.integers(0, 1000))
def test_more_loss_loses_the_same_packets_and_more(seed):
    def lost(loss: float) -> set[int]:
        direction = Direction(Impairment(loss=loss), lots(seed))
        return {i for i in range(500) if direction.offer(i, 100) is None}

    assert lost(0.0) <= lost(0.01) <= lost(0.05) <= lost(0.5) <= lost(1.0)
    assert lost(0.0) == set()
    assert lost(1.0) == set(range(500))


@given(st.lists(st.tuples(LOSSLESS, TRAFFIC), min_size=2, max_size=5))
def test_changes_overtake_nothing_and_lose_only_to_a_full_queue(stages):
    direction = Direction(stages[0][0], lots(1))
    offered = delivered = last = now = 0
    for impairment, traffic in stages:
        direction.change(impairment)
        for arrival, _, departure in carry(direction, traffic, now):
            now = arrival
            offered += 1
            if departure is not None:
                delivered += 1
                assert departure >= max(last, arrival)
                last = departure
    assert offered == delivered + direction.overflowed
    assert direction.lost == 0


@pytest.mark.parametrize("rate", [64_000, 1_000_000, 100_000_000])
def test_a_burst_fills_the_queue_exactly(rate):
    impairment = Impairment(rate_bit=rate, delay_us=50_000)
    limit = queue_packets(impairment)
    direction = Direction(impairment, lots(1))
    fates = [direction.offer(0, FULL_FRAME) for _ in range(limit + 10)]
    assert None not in fates[:limit]
    assert fates[limit:] == [None] * 10
    assert direction.overflowed == 10
    # Once one packet is out, there is room for one.
    done = serialisation_ns(FULL_FRAME, rate)
    assert direction.offer(done, FULL_FRAME) is not None
    assert direction.offer(done, FULL_FRAME) is None


def test_the_queue_is_a_bandwidth_delay_product_of_full_frames():
    assert queue_packets(Impairment(delay_us=50_000)) == 0
    assert queue_packets(Impairment(rate_bit=1_000_000, delay_us=1000)) == MIN_QUEUE
    # 100 Mbit/s for 100 ms are 1.25 MB, or 826 frames, with a link of 50 ms or less ...
    assert queue_packets(Impairment(rate_bit=100_000_000, delay_us=50_000)) == 826
    assert queue_packets(Impairment(rate_bit=100_000_000, delay_us=1000)) == 826
    # ... and for 600 ms over a geostationary satellite.
    assert queue_packets(Impairment(rate_bit=100_000_000, delay_us=300_000)) == 4954


def test_a_plain_wire_delivers_at_once():
    assert Direction(Impairment(), lots(1)).offer(12_345, 100) == 12_345
