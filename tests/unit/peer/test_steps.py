"""What a few external ports say about the next one."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.peer.endpoint import Endpoint
from lab.peer.traversal.steps import FARTHEST, forecast


def seen(*ports):
    return [Endpoint("45.0.0.2", port) for port in ports]


@pytest.mark.parametrize(
    ("ports", "step", "expected"),
    [
        ((5000, 5000, 5000, 5000), 0, (5000,)),
        ((5000,), 0, (5000,)),
        ((5000, 5001, 5002, 5003), 1, (5004, 5005, 5006)),
        ((5000, 5002, 5004, 5006), 2, (5008, 5010, 5012)),
        ((5003, 5002, 5001, 5000), -1, (4999, 4998, 4997)),
        # A mapping for each address, with two ports asked at each.
        ((5000, 5001, 5000, 5001), 1, (5002, 5003, 5004)),
        # Another flow took a port in between.
        ((5000, 5001, 5003, 5004), 1, (5005, 5006, 5007)),
        ((5000, 5004, 5006, 5012), 2, (5014, 5016, 5018)),
        ((51234, 9921, 33004, 60100), None, (60100,)),
        # Distances with a common divisor that was never seen are chance.
        ((5000, 5006, 5015, 5025), None, (5025,)),
        ((65533, 65534, 65535), 1, ()),
    ],
)
def test_forecasts(ports, step, expected):
    found = forecast(seen(*ports))
    assert found.step == step
    assert tuple(endpoint.port for endpoint in found.next(3)) == expected


def test_nothing_seen():
    assert forecast([]).next(4) == ()
    assert "nothing" in forecast([]).words


def test_a_pool_of_addresses_has_no_step():
    assert forecast([Endpoint("45.0.0.2", 5000), Endpoint("45.0.0.3", 5001)]).step is None


@given(st.integers(1024, 60000), st.integers(1, 64), st.lists(st.integers(0, 3), max_size=3))
def test_a_counting_nat_is_seen_through_if_one_step_was_undisturbed(first, stride, others):
    ports = [first, first + stride]
    for count in others:
        ports.append(ports[-1] + stride * (1 + count))
    if max(b - a for a, b in pairwise(ports)) > FARTHEST:
        return
    found = forecast(seen(*ports))
    assert found.step == stride
    following = found.next(1)
    assert [e.port for e in following] == [p for p in (ports[-1] + stride,) if p <= 65535]


@given(st.lists(st.integers(1, 65535), max_size=6))
def test_whatever_is_seen_something_sendable_follows(ports):
    found = forecast(seen(*ports))
    assert all(endpoint.sendable for endpoint in found.next(4))
    assert found.words
