"""Intervals hold what they promise: how often they miss a known truth, by simulation."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.fabric.links.losses import bursty
from lab.topology.character import Bursts
from lab.verify.links import intervals
from lab.verify.links.runs import Chain, ends, spread_of_ends

RUNS = 1000
ALPHA = 0.01
ENOUGH = 0.98 * RUNS


@pytest.mark.parametrize("count", [10, 97])
@pytest.mark.parametrize("p", [0.0, 0.003, 0.05, 0.5, 0.93, 1.0])
def test_a_share_lies_in_its_interval(p: float, count: int) -> None:
    rng = Random(f"{p} {count}")
    drawn = [sum(rng.random() < p for _ in range(count)) for _ in range(RUNS)]
    known = {hits: intervals.share(hits, count, ALPHA) for hits in {*drawn}}
    assert sum(known[hits][0] <= p <= known[hits][1] for hits in drawn) >= ENOUGH


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_interval_of_a_share_is_about_what_was_seen(seen: tuple[int, int]) -> None:
    hits, count = seen
    low, high = intervals.share(hits, count, ALPHA)
    assert 0.0 <= low <= hits / count <= high <= 1.0
    other_low, other_high = intervals.share(count - hits, count, ALPHA)
    assert (1 - other_high, 1 - other_low) == pytest.approx((low, high), abs=1e-9)
    wider = intervals.share(hits, count, ALPHA / 100)
    assert wider[0] <= low
    assert high <= wider[1]


def test_published_bounds_of_a_share() -> None:
    # Of a probability, after 4 in 20, at 95 %: Clopper and Pearson (1934) read 0.06 and 0.44.
    assert intervals.share(4, 20, 0.05) == pytest.approx((0.0573, 0.4366), abs=1e-4)


@pytest.mark.parametrize("where", [0.1, 0.5, 0.6])
@pytest.mark.parametrize("count", [60, 400])
def test_a_quantile_lies_between_its_ranks(where: float, count: int) -> None:
    rng = Random(f"{where} {count}")
    first, last = intervals.ranks(count, where, ALPHA)
    held = 0
    for _ in range(RUNS):
        drawn = sorted(rng.random() for _ in range(count))
        held += drawn[first] <= where <= drawn[last]
    assert held >= ENOUGH


@given(st.integers(1, 500), st.floats(0.01, 0.99), st.sampled_from([0.2, 0.01, 1e-7]))
def test_ranks_are_places(count: int, where: float, alpha: float) -> None:
    first, last = intervals.ranks(count, where, alpha)
    assert 0 <= first <= last < count


CHAINS = [
    Bursts(p=0.01, r=0.3),
    Bursts(p=0.05, r=0.8),
    Bursts(p=0.02, r=0.2, good=0.01, bad=0.6),
    Bursts(p=0.3, r=0.3, good=0.0, bad=1.0),
]


@pytest.mark.parametrize("bursts", CHAINS)
def test_what_a_chain_loses_is_counted_exactly(bursts: Bursts) -> None:
    rng = Random(repr(bursts))
    least, most = intervals.lost_in_bursts(bursts, 0.02, 200, ALPHA)
    held = 0
    for _ in range(RUNS):
        lost = bursty(bursts, rng)
        # It runs for long before.
        for _ in range(100):
            lost()
        held += least <= sum(lost() | (rng.random() < 0.02) for _ in range(200)) <= most
    assert held >= ENOUGH


@pytest.mark.parametrize("chance", [0.0, 0.03])
@pytest.mark.parametrize("bursts", CHAINS)
def test_how_long_bursts_are_lies_in_its_interval(bursts: Bursts, chance: float) -> None:
    rng = Random(f"{bursts} {chance}")
    chain = Chain.of(bursts, chance)
    count = 600
    wide = 1.0 if chain.plain else spread_of_ends(bursts, chance, count)
    held = 0
    runs = 200
    for _ in range(runs):
        lost = bursty(bursts, rng)
        begun, ended = ends([lost() | (rng.random() < chance) for _ in range(count)])
        low, high = intervals.share(round(ended / wide), round(begun / wide), ALPHA)
        held += low <= 1 / chain.length <= high
    assert held >= 0.97 * runs


def test_runs_of_a_chain_that_shows_its_states_are_its_stays_in_the_bad_one() -> None:
    assert Chain.of(Bursts(p=0.01, r=0.25)) == Chain(pytest.approx(4.0), plain=True)
    # Losses by chance alone follow one another by chance.
    alone = Chain.of(Bursts(p=0.0, r=1.0), 0.2)
    assert alone == Chain(pytest.approx(1.25), plain=True)
    assert not Chain.of(Bursts(p=0.01, r=0.25, bad=0.5)).plain


@given(st.lists(st.booleans(), max_size=60))
def test_ends_of_runs_are_those_of_losses_that_something_followed(fates: list[bool]) -> None:
    begun, ended = ends(fates)
    text = "".join("x" if lost else "." for lost in fates)
    assert ended == text.count("x.")
    assert begun == text[:-1].count("x")
