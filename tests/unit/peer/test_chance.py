"""The arithmetic of guessing ports, held against published figures and against counting."""

from __future__ import annotations

import math
import random

import pytest

from lab.peer.chance import PORTS, both_hard, crossing, hit, probes_for, undisturbed


@pytest.mark.parametrize(
    ("probes", "published", "exact"),
    [(174, 0.50, 0.4998), (256, 0.64, 0.6394), (1024, 0.98, 0.9835), (2048, 0.999, 0.9997)],
)
def test_the_published_table(probes, published, exact):
    """D. Anderson, "How NAT traversal works", and the exact values behind it."""
    assert hit(256, probes) == pytest.approx(exact, abs=5e-5)
    assert hit(256, probes) == pytest.approx(published, abs=0.005)


def test_it_is_the_exact_formula():
    for sockets, probes in ((1, 1), (3, 5), (20, 30)):
        missed = math.comb(100 - sockets, probes) / math.comb(100, probes)
        assert hit(sockets, probes, 100) == pytest.approx(1 - missed, rel=1e-9)


def test_edges():
    assert hit(0, 1000) == hit(256, 0) == 0.0
    assert hit(60, 50, 100) == 1.0
    assert probes_for(0.5, 256) == 175
    assert hit(256, 174) < 0.5 <= hit(256, 175)


def test_both_hard_is_hopeless():
    assert both_hard(256 * 2048) == pytest.approx(0.000126, rel=0.01)
    assert both_hard(0.7 * PORTS**2) == pytest.approx(0.503, abs=0.01)


@pytest.mark.parametrize("window", [1, 2, 4])
def test_other_flows_come_as_a_poisson_process(window):
    rng = random.Random(1)
    rate, seconds, trials = 3.0, 0.5, 4000
    fine = 0
    for _ in range(trials):
        clock, others = rng.expovariate(rate), 0
        while clock < seconds:
            clock, others = clock + rng.expovariate(rate), others + 1
        fine += others < window
    assert fine / trials == pytest.approx(undisturbed(rate, seconds, window), abs=0.03)


def test_without_other_flows_a_step_is_certain():
    assert undisturbed(0, 1) == undisturbed(5, 0) == 1.0
    assert undisturbed(2.0, 0.5) == pytest.approx(math.exp(-1))


@pytest.mark.parametrize("delay_s", [0.001, 0.004, 0.01])
def test_syns_that_are_refused_cross_after_a_while(delay_s):
    """Two peers that each send, are refused, wait at random and send again."""
    rng = random.Random(2)

    def sent(offset):
        times = [offset]
        while times[-1] < 1:
            times.append(times[-1] + 2 * delay_s + rng.uniform(0.05, 0.1))
        return times

    met = 0
    for _ in range(1500):
        one, other = sent(0.0), sent(rng.uniform(0, 0.1))
        met += any(abs(a - b) < delay_s for a in one for b in other)
    assert met / 1500 == pytest.approx(crossing(delay_s, 0.075, 1), abs=0.08)


def test_without_delay_syns_never_cross():
    assert crossing(0, 0.075, 60) == crossing(0.02, 0.075, 0) == 0
    assert crossing(10, 0.075, 60) > 0.99
