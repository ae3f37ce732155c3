"""The lateness histogram: its buckets, and what is read off it."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest

from lab.fabric.links.ferry.protocol import (
    BUCKETS,
    AnyRequest,
    Attach,
    Lateness,
    Statistics,
    encode,
)
from lab.plan.model import End, Link
from lab.topology.character import Impairment


def lateness(**counts: int) -> Lateness:
    values = [0] * BUCKETS
    for bucket, count in counts.items():
        values[int(bucket[1:])] = count
    return Lateness(counts=tuple(values), worst_ns=5_000_000_000)


def test_bounds_are_powers_of_two():
    bounds = Lateness.bounds_s()
    assert len(bounds) == BUCKETS - 1
    assert bounds[0] == pytest.approx(1.024e-6)
    assert all(b == pytest.approx(2 * a) for a, b in pairwise(bounds))


def test_quantiles_are_upper_bounds():
    found = lateness(b0=50, b3=49, b10=1)
    assert found.quantile_s(0.5) == Lateness.bounds_s()[0]
    assert found.quantile_s(0.99) == Lateness.bounds_s()[3]
    assert found.quantile_s(1.0) == Lateness.bounds_s()[10]


def test_beyond_the_last_bound_the_worst_case_speaks():
    assert lateness(b23=1).quantile_s(0.5) == 5.0


def test_requests_survive_the_wire():
    link = Link(
        a=End(node="a", interface="wan", mac="02:00:00:00:00:01"),
        b=End(node="b", interface="lan", mac="02:00:00:00:00:02"),
        a_to_b=Impairment(loss=0.1, delay_us=5),
        mtu=1400,
    )
    for request in (Attach(link=link), Statistics()):
        assert msgspec.msgpack.decode(encode(request), type=AnyRequest) == request
