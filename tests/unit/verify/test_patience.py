"""Waiting that a pause of the machine does not use up."""

from __future__ import annotations

import pytest

from lab.verify import patience
from lab.verify.patience import SLICE_S, Patience


@pytest.fixture
def clock(monkeypatch):
    """A clock that tests set: its only item is the time."""
    now = [1000.0]
    monkeypatch.setattr(patience.time, "monotonic", lambda: now[0])
    return now


def waited(patience: Patience, clock: list[float], over: float) -> float:
    """How long is waited in all if each wait takes `over` longer than asked for."""
    begun = clock[0]
    while left := patience.left():
        clock[0] += left + over
    return clock[0] - begun


def test_undisturbed_it_is_as_long_as_it_says(clock):
    assert waited(Patience(1.0), clock, 0.0) == pytest.approx(1.0)
    assert waited(Patience(0.01), clock, 0.0) == pytest.approx(0.01)
    assert waited(Patience(0.0), clock, 0.0) == 0.0


def test_what_is_overslept_does_not_count(clock):
    begun = clock[0]
    patience = Patience(0.2)
    patience.left()
    clock[0] += 30.0
    assert waited(patience, clock, 0.0) == pytest.approx(0.2 - SLICE_S)
    assert clock[0] - begun == pytest.approx(30.0 + 0.2 - SLICE_S)


def test_what_came_early_leaves_time(clock):
    patience = Patience(0.2)
    for _ in range(10):
        assert patience.left() > 0
        clock[0] += 0.01
    assert waited(patience, clock, 0.0) == pytest.approx(0.1)


def test_even_one_that_begins_late_is_heard_out_once(clock):
    patience = Patience(0.1)
    clock[0] += 5.0
    assert patience.left() == pytest.approx(SLICE_S)
