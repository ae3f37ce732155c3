"""Measuring what a path carries, on a network with a bottleneck and a clock that jumps."""

from __future__ import annotations

import pytest

from lab.peer.endpoint import Endpoint
from lab.peer.traversal.flow import MAX_WINDOW, QUEUED_S, Flow
from lab.peer.traversal.measure import jitter
from lab.peer.traversal.seal import MAX_PAYLOAD, Agreement

REMOTE = Endpoint("192.0.2.1", 4000)


def _seal():
    one, two = Agreement(), Agreement()
    return one.seal(b"12345678", two.ephemeral, b"", caller=True)


def run(
    packet_s: float, rtt_s: float, queue: int, duration_s: float = 2.0, known_s: float = 0.0
) -> Flow:
    """A flow over a link that takes `packet_s` for a packet and holds `queue` of them."""
    flow = Flow(_seal(), REMOTE, 0.0, duration_s, round_trip_s=known_s)
    now, free_at, under_way = 0.0, 0.0, []
    while now < duration_s:
        for datagram in flow.take():
            if (free_at - now) / packet_s < queue:
                free_at = max(free_at, now) + packet_s
                sequence = int.from_bytes(datagram.payload[10:18], "big")
                under_way.append((free_at + rtt_s, sequence))
        due = [when for when, _ in under_way[:1]]
        due += [when for when in (flow.deadline(),) if when is not None and when > now]
        now = min(due, default=duration_s)
        while under_way and under_way[0][0] <= now:
            flow.acknowledged(under_way.pop(0)[1], now)
        flow.tick(now)
    return flow


@pytest.mark.parametrize("queue", [20, 200])
@pytest.mark.parametrize("rtt_s", [0.005, 0.05])
def test_it_finds_what_the_link_carries(rtt_s, queue):
    packet_s = 0.001
    flow = run(packet_s, rtt_s, queue, 4.0)
    capacity = MAX_PAYLOAD * 8 / packet_s
    assert 0.6 * capacity < flow.goodput_bps <= 1.01 * capacity


@pytest.mark.parametrize("rtt_s", [0.4, 1.1])
def test_a_long_round_trip_is_no_loss(rtt_s):
    flow = run(0.001, rtt_s, 10_000, 4 * rtt_s, known_s=rtt_s)
    assert flow.lost == 0
    # 10, 20 and 40 packets, and what more of them the last round trip brings.
    assert flow.received >= 70 * MAX_PAYLOAD


def test_a_window_bounds_what_is_under_way():
    flow = run(1e-6, 0.1, 10_000, 3.0)
    assert flow.lost == 0
    assert flow.goodput_bps <= 1.01 * MAX_WINDOW * MAX_PAYLOAD * 8 / 0.1


def test_a_dead_path_carries_nothing_and_is_not_flooded():
    flow = Flow(_seal(), REMOTE, 0.0, 3.0)
    sent, now = 0, 0.0
    while (due := flow.deadline()) is not None:
        now = max(now, due)
        flow.tick(now)
        sent += len(flow.take())
    assert flow.goodput_bps == 0.0
    assert 10 <= sent <= 40


def test_what_comes_too_late_counts_not_and_is_waited_for():
    flow = Flow(_seal(), REMOTE, 0.0, 1.0)
    sent = [int.from_bytes(datagram.payload[10:18], "big") for datagram in flow.take()]
    flow.acknowledged(sent[0], 0.5)
    received = flow.received
    for sequence in sent[1:]:
        assert flow.under_way
        flow.acknowledged(sequence, 1.1)
    assert not flow.under_way
    assert flow.received == received > 0
    assert flow.deadline() is None


def test_long_queues_are_not_filled():
    packet_s, rtt_s = 0.001, 0.05
    flow = run(packet_s, rtt_s, 10_000)
    assert flow.goodput_bps > 0.8 * MAX_PAYLOAD * 8 / packet_s
    # It may double once more before it sees that a queue has begun, and does not go on.
    assert flow.under_way * packet_s < 2.2 * (1.5 * rtt_s + QUEUED_S)


def test_jitter_is_the_mean_difference():
    assert jitter([]) is None
    assert jitter([0.1]) is None
    assert jitter([0.1, 0.3, 0.2]) == pytest.approx(0.15)
