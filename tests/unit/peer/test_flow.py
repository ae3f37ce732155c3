"""Measuring what a path carries, on a network with a bottleneck and a clock that jumps."""

from __future__ import annotations

import pytest

from lab.peer.endpoint import Endpoint
from lab.peer.traversal.flow import FIRST_S, FIRST_WINDOW, MAX_WINDOW, PATIENCE_S, QUEUED_S, Flow
from lab.peer.traversal.measure import jitter
from lab.peer.traversal.seal import MAX_PAYLOAD, Agreement

REMOTE = Endpoint("192.0.2.1", 4000)


def _seal():
    one, two = Agreement(), Agreement()
    return one.seal(b"12345678", two.ephemeral, b"", caller=True)


def run(
    packet_s: float,
    rtt_s: float,
    queue: int,
    duration_s: float = 2.0,
    known_s: float = 0.0,
    *,
    too_large: int = 0,
) -> Flow:
    """A flow over a link that takes `packet_s` for a packet and holds `queue` of them.

    The first `too_large` flights are lost: routers say that they are too large.
    """
    flow = Flow(_seal(), REMOTE, 0.0, duration_s, round_trip_s=known_s)
    now, free_at, under_way, flights = 0.0, 0.0, [], 0
    while not flow.over:
        flights += bool(sent := flow.take())
        for datagram in sent:
            if (free_at - now) / packet_s < queue and flights > too_large:
                free_at = max(free_at, now) + packet_s
                sequence = int.from_bytes(datagram.payload[10:18], "big")
                under_way.append((free_at + rtt_s, sequence))
        due = [when for when, _ in under_way[:1]]
        due += [when for when in (flow.deadline(),) if when is not None and when > now]
        now = min(due)
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
    # 10, 20 and 40 packets, after one that went ahead.
    assert flow.received >= 70 * MAX_PAYLOAD


def test_a_window_bounds_what_is_under_way():
    flow = run(1e-6, 0.1, 10_000, 3.0)
    assert flow.lost == 0
    assert flow.goodput_bps <= 1.01 * MAX_WINDOW * MAX_PAYLOAD * 8 / 0.1


@pytest.mark.parametrize("too_large", [0, 2])
def test_a_modem_at_either_end_carries_what_it_can(too_large):
    """A small packet is back in 0.37 s, and one of full size needs as long to get onto the line."""
    packet_s = 0.31
    flow = run(packet_s, 0.53, 6, 1.0, 0.37, too_large=too_large)
    capacity = MAX_PAYLOAD * 8 / packet_s
    assert 0.6 * capacity < flow.goodput_bps <= 1.01 * capacity


def test_a_dead_path_carries_nothing_and_is_not_flooded():
    flow = Flow(_seal(), REMOTE, 0.0, 3.0)
    sent, now = 0, 0.0
    while not flow.over and (due := flow.deadline()) is not None:
        now = max(now, due)
        flow.tick(now)
        sent += len(flow.take())
    assert flow.goodput_bps == 0.0
    assert 3 <= sent <= 10
    assert now <= FIRST_S


def test_what_comes_late_was_not_lost():
    flow = _started()
    sent = _sequences(flow)
    assert len(sent) == FIRST_WINDOW
    flow.tick(0.1 + PATIENCE_S)
    assert flow.lost == FIRST_WINDOW
    for sequence in sent:
        flow.acknowledged(sequence, 0.5)
        flow.acknowledged(sequence, 0.5)
    assert flow.lost == 0
    assert flow.received == FIRST_WINDOW * MAX_PAYLOAD


def test_what_comes_after_the_end_counts_not_and_is_waited_for():
    flow = _started()
    sent = _sequences(flow)
    flow.acknowledged(sent[0], 0.5)
    received = flow.received
    for sequence in sent[1:]:
        assert flow.under_way
        assert not flow.over
        flow.acknowledged(sequence, 1.2)
    assert flow.over
    assert flow.received == received > 0
    assert flow.deadline() is None


def _started() -> Flow:
    """One of a second, whose first packet was back after 0.1 s."""
    flow = Flow(_seal(), REMOTE, 0.0, 1.0)
    (first,) = _sequences(flow)
    flow.acknowledged(first, 0.1)
    return flow


def _sequences(flow: Flow) -> list[int]:
    return [int.from_bytes(datagram.payload[10:18], "big") for datagram in flow.take()]


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
