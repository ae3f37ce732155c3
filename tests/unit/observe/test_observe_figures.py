"""Histograms, the tally of attempts, and what is read from the kernel's text files."""

import math

from hypothesis import given
from hypothesis import strategies as st

from lab.observe import counters, host
from lab.observe.attempts import (
    SERIES_PER_NODE,
    TECHNIQUES_PER_PROGRAM,
    AttemptTally,
    latest,
    seconds_of,
)
from lab.observe.histogram import Counting, Histogram
from tests.unit.observe_support import attempt

BOUNDS = (0.001, 0.01, 0.1)


@given(st.lists(st.floats(0, 1)), st.lists(st.floats(0, 1)))
def test_the_difference_of_two_readings_is_what_came_between(before, between):
    counting, alone = Counting(BOUNDS), Counting(BOUNDS)
    for value in before:
        counting.add(value)
    earlier = counting.reading()
    for value in between:
        counting.add(value)
        alone.add(value)
    difference = counting.reading().minus(earlier)
    assert difference.counts == alone.reading().counts
    assert math.isclose(difference.total, alone.reading().total, abs_tol=1e-9)


@given(st.lists(st.floats(0, 0.1), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_not_below_its_share_of_values(values, q):
    counting = Counting(BOUNDS)
    for value in values:
        counting.add(value)
    bound = counting.reading().quantile(q)
    assert sum(value <= bound for value in values) >= q * len(values)


def test_quantiles_of_nothing_and_of_the_open_bucket():
    assert Histogram.empty(BOUNDS).quantile(0.99) == 0.0
    counting = Counting(BOUNDS)
    counting.add(5.0)
    assert counting.reading().quantile(0.5) == 0.2


def test_buckets_are_cumulative_and_end_with_infinity():
    counting = Counting(BOUNDS)
    for value in (0.0005, 0.001, 0.05, 7.0):
        counting.add(value)
    assert counting.reading().buckets() == [
        ("0.001", 2.0),
        ("0.01", 2.0),
        ("0.1", 3.0),
        ("+Inf", 4.0),
    ]


def test_only_successes_have_times():
    tally = AttemptTally()
    tally.add(attempt())
    tally.add(attempt())
    tally.add(attempt("direct", "unreachable"))
    tally.add(attempt("udp-punch", "timed-out", time_to_path_s=10.0))
    assert tally.counts() == {
        ("alice", "bob", "lab", "udp-punch", "success", "direct", "ordered"): 2,
        ("alice", "bob", "lab", "direct", "unreachable", "none", "ordered"): 1,
        ("alice", "bob", "lab", "udp-punch", "timed-out", "none", "ordered"): 1,
    }
    (labels, times), *others = tally.connect_times().items()
    assert not others
    assert labels == ("lab", "udp-punch", "direct")
    assert sum(times.counts) == 2
    assert math.isclose(times.total, 2 * 0.0431)
    assert list(tally.round_trips()) == [("lab", "udp-punch", "direct")]


junk = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
)
keys = st.sampled_from(
    ["technique", "outcome", "path", "local", "remote", "time_to_path_s", "rtt_after_s"]
)


@given(st.dictionaries(keys, junk))
def test_no_record_is_strange_enough_to_break_the_tally(record):
    tally = AttemptTally()
    tally.add(record)
    tally.add(record | {"outcome": "success"})
    assert sum(tally.counts().values()) == 2
    for labels in tally.counts():
        assert all(0 < len(label) <= 64 for label in labels)
    for times in (*tally.connect_times().values(), *tally.round_trips().values()):
        assert math.isfinite(times.total)


def test_no_program_makes_series_without_end():
    tally = AttemptTally()
    for number in range(TECHNIQUES_PER_PROGRAM + 10):
        tally.add(attempt(f"mine-{number}", program="own"))
    tally.add(attempt("direct"))
    assert len(tally.connect_times()) == TECHNIQUES_PER_PROGRAM + 2
    ended = ("success", "direct", "ordered")
    assert tally.counts()["alice", "bob", "own", "other", *ended] == 10
    assert tally.counts()["alice", "bob", "lab", "direct", *ended] == 1
    for number in range(SERIES_PER_NODE):
        tally.add(attempt(remote=f"node-{number}"))
    tally.add(attempt(remote="elsewhere"))
    assert len(tally.counts()) == SERIES_PER_NODE + 1
    beyond = tally.counts()["alice", "other", "lab", "other", *ended]
    assert beyond == TECHNIQUES_PER_PROGRAM + 3
    assert sum(tally.counts().values()) == TECHNIQUES_PER_PROGRAM + 12 + SERIES_PER_NODE


def test_what_counts_as_seconds():
    assert seconds_of(3) == 3.0
    for value in (None, True, -1, math.nan, math.inf, "3", [3]):
        assert seconds_of(value) is None


def test_the_latest_of_each_kind_in_the_order_of_time():
    records = [attempt("relay", n=1), attempt("direct", n=2), attempt("relay", n=3)]
    assert [record["n"] for record in latest(records, lambda record: record["technique"])] == [2, 3]


DEVICES = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     168       2    0    0    0     0          0         0      168       2    0    0    0     0       0          0
   wan: 1234567    1001    1    2    3     4          5         6  7654321    2002    7    8    9    10      11         12
eth0.1:9999999999    1    0    0    0     0          0         0      0       0    0    0    0     0       0          0
"""  # noqa: E501 - as the kernel writes it


def test_interfaces_of_proc_net_dev():
    wan, vlan = counters.parse_devices(DEVICES)
    assert wan == counters.InterfaceCounters(
        name="wan",
        receive_packets=1001,
        receive_bytes=1234567,
        receive_drops=2,
        transmit_packets=2002,
        transmit_bytes=7654321,
        transmit_drops=8,
    )
    assert (vlan.name, vlan.receive_bytes) == ("eth0.1", 9999999999)


def test_losses_of_connection_tracking_are_summed_over_processors():
    text = (
        "entries  found new invalid insert insert_failed drop early_drop\n"
        "0000000a  00000000 00000000 00000000 00000000 00000001 00000010 00000000\n"
        "0000000a  00000000 00000000 00000000 00000000 00000002 00000001 00000000\n"
    )
    assert counters.parse_tracking(text) == (("drop", 17), ("early_drop", 0), ("insert_failed", 3))


def test_processor_time_leaves_guests_out_since_users_contain_them():
    text = "cpu  100 0 50 800 40 0 5 5 77 0\ncpu0 100 0 50 800 40 0 5 5 77 0\n"
    assert host.parse_stat(text) == (10.0, 8.4, 0.05)


def test_softnet_counts_are_hexadecimal():
    assert host.parse_softnet("00001cc5 0000000f 00000010 00\n00000000 00000001 00000000 00\n") == (
        16,
        16,
    )


def test_pressure_is_that_of_some_tasks():
    text = (
        "some avg10=2.35 avg60=1.15 avg300=0.40 total=12957117\n"
        "full avg10=0.00 avg60=0.00 avg300=0.00 total=99\n"
    )
    assert host.parse_pressure(text) == 12.957117


def test_the_host_can_be_read():
    counted = host.read()
    assert 0 < counted.cpu_idle_s <= counted.cpu_total_s
    assert counted.softirq_drops >= 0


def test_a_machine_without_pressure_figures(tmp_path):
    for name in ("stat", "net/softnet_stat"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / "stat").write_text("cpu  1 0 1 8 0 0 0 0 0 0\n")
    (tmp_path / "net/softnet_stat").write_text("00000001 00000000 00000000\n")
    counted = host.read(tmp_path)
    assert counted.pressure_s is None
    assert counted.neighbour_overflows == 0
