"""Which pair ICE nominates, and when."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from lab.peer.traversal.nomination import AGAIN_S, ANSWER_S, DIRECT_S, RELAYED_S, Standing, due

DIRECT, REFLEXIVE, RELAYED = 300, 200, 100
"""Priorities."""


def relayed(**more):
    return Standing(RELAYED, relayed=True, **more)


def direct(priority=REFLEXIVE, **more):
    return Standing(priority, relayed=False, **more)


def test_nothing_is_nominated_that_does_not_work():
    assert due([], more=True) is None
    assert due([direct(), direct(DIRECT, began=1.0), relayed(ended=True)], more=False) is None


def test_the_best_pair_is_nominated_at_once():
    pairs = [direct(began=1.0, answered=1.1), relayed(began=1.2), direct(DIRECT, ended=True)]
    assert due(pairs, more=True) == (0, 1.1)


def test_a_pair_that_worked_and_failed_is_none():
    pairs = [direct(began=1.0, answered=1.1, ended=True), relayed(began=1.0, answered=1.3)]
    assert due(pairs, more=False) == (1, 1.3)


def test_a_relayed_pair_waits_for_a_direct_one_to_be_tried_twice():
    for trip in (0.001, 0.3):
        place, at = due([direct(began=1.0), relayed(began=1.0, answered=1 + trip)], more=False)
        assert place == 1
        assert math.isclose(at, 1.0 + AGAIN_S + max(ANSWER_S, trip))
    pairs = [direct(began=1.0), relayed(began=1.0, answered=1.2)]
    pairs[0] = direct(began=1.0, answered=1.6)
    assert due(pairs, more=False) == (0, 1.6)
    pairs[0] = direct(began=1.0, ended=True)
    assert due(pairs, more=False) == (1, 1.2)


def test_a_relayed_pair_waits_a_second_for_what_is_to_come():
    assert due([relayed(began=1.0, answered=1.2)], more=True) == (0, 1.2 + RELAYED_S)
    pairs = [direct(), relayed(began=1.0, answered=1.2)]
    assert due(pairs, more=False) == (1, 1.2 + RELAYED_S)


def test_a_direct_pair_does_not_wait_long_for_another():
    late = direct(DIRECT)
    good = direct(began=1.0, answered=1.1)
    assert due([late, good], more=True) == (1, 1.1 + DIRECT_S)
    place, at = due([direct(DIRECT, began=0.9), good], more=True)
    assert (place, at) == (1, 1.1)
    place, at = due([direct(DIRECT, began=1.05), good], more=True)
    assert place == 1
    assert math.isclose(at, 1.05 + 0.15)


times = st.floats(0, 10)


@st.composite
def standings(draw):
    began = draw(st.none() | times)
    answered = None if began is None else draw(st.none() | st.floats(began, began + 2))
    by_relay = draw(st.booleans())
    priority = draw(st.integers(1, 99)) + (0 if by_relay else 100)
    return Standing(
        priority, relayed=by_relay, ended=draw(st.booleans()), began=began, answered=answered
    )


@given(st.lists(standings(), max_size=8), st.booleans())
def test_patience_has_an_end_and_priority_decides(pairs, more):
    found = due(pairs, more=more)
    valid = [pair for pair in pairs if pair.valid]
    if not valid:
        assert found is None
        return
    place, at = found
    best = pairs[place]
    assert best.priority == max(pair.priority for pair in valid)
    assert best.answered <= at <= best.answered + (RELAYED_S if best.relayed else DIRECT_S)
