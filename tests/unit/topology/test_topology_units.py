"""Quantities: what is read, what is refused, and that writing mirrors reading."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.topology.problems import WrongValueError
from lab.topology.units import (
    format_duration,
    format_size,
    parse_duration,
    parse_probability,
    parse_rate,
    parse_size,
)


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parse_duration, "20ms", 20_000),
        (parse_duration, "1.5s", 1_500_000),
        (parse_duration, "250us", 250),
        (parse_duration, "250µs", 250),
        (parse_duration, "20 ms", 20_000),
        (parse_duration, "2m", 120_000_000),
        (parse_duration, "2min", 120_000_000),
        (parse_duration, "1h", 3_600_000_000),
        (parse_duration, 0, 0),
        (parse_duration, "0", 0),
        (parse_rate, "10mbit", 10_000_000),
        (parse_rate, "1gbit", 10**9),
        (parse_rate, "64kbit", 64_000),
        (parse_rate, "8Mbit/s", 8_000_000),
        (parse_rate, "1.5mbit", 1_500_000),
        (parse_rate, "unlimited", 0),
        (parse_size, "256MB", 256_000_000),
        (parse_size, "1GiB", 2**30),
        (parse_size, "512kB", 512_000),
        (parse_size, "0.5KiB", 512),
        (parse_size, "7B", 7),
        (parse_probability, "1%", 0.01),
        (parse_probability, "0.5%", 0.005),
        (parse_probability, "100%", 1.0),
        (parse_probability, 0.01, 0.01),
        (parse_probability, 0, 0.0),
        (parse_probability, "0.25", 0.25),
    ],
)
def test_quantities_are_read(parse, text, value):
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "says"),
    [
        (parse_duration, "20", "no unit"),
        (parse_duration, 20, "no unit"),
        (parse_duration, "20msec", "unknown unit 'msec'"),
        (parse_duration, "-20ms", "not a duration"),
        (parse_duration, "1e3ms", "not a duration"),
        (parse_duration, "0.5us", "finer than a microsecond"),
        (parse_duration, True, "true is not a duration"),
        (parse_duration, ["1s"], "a list is not a duration"),
        (parse_duration, None, "nothing is not a duration"),
        (parse_duration, "9" * 40 + "s", "not a duration"),
        (parse_rate, "10", "no unit"),
        (parse_rate, "10mbps", "bits or bytes"),
        (parse_rate, "10MB", "unknown unit 'MB'"),
        (parse_rate, "0mbit", "lets nothing pass"),
        (parse_rate, "0.5bit", "finer than a bit per second"),
        (parse_size, "256m", "unknown unit 'm'"),
        (parse_size, 256, "no unit"),
        (parse_probability, 1, "not a probability"),
        (parse_probability, "101%", "not a probability"),
        (parse_probability, "1 percent", "not a probability"),
        (parse_probability, -0.1, "not a probability"),
        (parse_probability, float("nan"), "not a probability"),
    ],
)
def test_what_is_no_quantity_is_refused_with_the_units_named(parse, text, says):
    with pytest.raises(WrongValueError, match=says) as caught:
        parse(text)
    assert caught.value.remedy


@given(st.integers(0, 10**15))
def test_durations_round_trip(us):
    assert parse_duration(format_duration(us)) == us


@given(st.integers(0, 10**14))
def test_sizes_round_trip(size):
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (format_duration(20_000), "20ms"),
        (format_duration(1_500_000), "1.5s"),
        (format_duration(7_200_000_000), "2h"),
        (format_duration(0), "0s"),
        (format_size(256_000_000), "256MB"),
        (format_size(2**30), "1GiB"),
    ],
)
def test_quantities_are_written_short(text, written):
    assert text == written


@given(st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.booleans()))
def test_nothing_but_a_refusal_comes_of_junk(junk):
    for parse in (parse_duration, parse_rate, parse_size, parse_probability):
        with contextlib.suppress(WrongValueError):
            parse(junk)
