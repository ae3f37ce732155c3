"""What one party may use: rates and places."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lab.peer.limits import Buckets, Doors, party


def test_an_ipv6_host_is_its_subnet():
    assert party("192.0.2.1") == "192.0.2.1"
    assert party("2001:db8::1") == party("2001:db8::ffff:1") != party("2001:db8:0:1::1")
    assert party("::ffff:192.0.2.1") == "192.0.2.1"
    assert party("fe80::1%eth0") == party("fe80::2")


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0.1, 8)), max_size=50))
def test_a_bucket_gives_its_burst_and_its_rate_and_no_more(takes):
    buckets, now, given_out = Buckets(rate=3, burst=10), 0.0, 0.0
    for pause, amount in takes:
        now += pause
        given_out += amount if buckets.take("one", now, amount) else 0
        assert given_out <= 10 + 3 * now + 1e-6
    # Another key is not concerned.
    assert buckets.take("other", now, 10)


def test_buckets_do_not_fill_the_memory():
    buckets = Buckets(rate=1, burst=1, most=100)
    for number in range(1000):
        assert buckets.take(str(number), 0.0)
    assert len(buckets) == 100
    assert not buckets.take("999", 0.0)


def test_doors():
    doors = Doors(total=5, each=2)
    assert [doors.enter("192.0.2.1") for _ in range(4)] == [True, True, False, False]
    assert [doors.enter(f"2001:db8::{n}") for n in range(4)] == [True, True, False, False]
    assert doors.enter("192.0.2.2")
    assert not doors.enter("192.0.2.3")
    doors.leave("192.0.2.1")
    assert doors.enter("192.0.2.3")
    assert len(doors) == 5
