"""Published results, each as docs/reference.md has it, with few repetitions.

What is exact is held here; rates and times with their intervals are the
business of `tests.bench.reference`.
"""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from msgspec.structs import replace

from lab.agent import client
from lab.cli.scratch import scratch_labs, scratch_name
from lab.paths import LabPaths
from lab.plan.model import Plan
from lab.study.matrix import Cell, classic, pairs, run, two_homes
from lab.topology.behaviour import Unsolicited
from tests.bench import reference_classes as classes
from tests.bench import reference_paths as paths
from tests.machine import measured

pytestmark = pytest.mark.kernel

LABS = 4
"""At once, where most pairs are waited for in vain."""
PAUSE_S = 0.05
"""Who waits for a second or less at most may be misled by longer pauses of the machine."""
CROSSING_S = 0.01
"""The same of two packets that are to meet on a line of tens of milliseconds."""


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_STATE_DIR", str(tmp_path / "s"))


def found(experiment, share, pause_s=PAUSE_S):
    """What it comes to; anew if it comes to something else and the machine paused meanwhile."""
    results = []

    def check():
        results[:] = experiment(share, random.Random(1))
        assert results
        for result in results:
            assert result.met, result

    measured(check, pause_s, again=True)
    return results


def test_seven_situations_have_their_names():
    """N1; and on a port that was used before, a strict NAT passes for an open one."""
    (result,) = found(classes.labels, 0.1)
    assert result.control.endswith("port restricted cone is taken for full cone")


def test_nine_requests_into_a_black_hole():
    """N2; when they leave is measured by the benchmark."""
    with classes.lab() as here:
        here.use({"home": classes.ROUTERS[classes.Kind.BLOCKED]})

        def check():
            with here.socket("alice") as sock:
                transaction = classes.asking(here)
                # Two that are due by the time that somebody looks leave as one.
                assert len(classes.drive(sock, transaction)) == 9
            assert transaction.failed
            assert transaction.response is None

        measured(check, PAUSE_S, again=True)


def test_of_two_routers_the_most_restrictive_counts():
    """N19, all 25 pairs."""
    found(classes.nested, 1)


def test_punching_and_predicting_between_the_classic_kinds():
    """N3 and N5, the 21 cells as they stand in the table; all ordered ones by `lab matrix`."""
    techniques = ("udp-punch", "udp-predict")
    homes = classic()
    once = iter([(x, y) for x, y in pairs(homes) if homes.index(x) <= homes.index(y)])
    plans = [two_homes(scratch_name(f"classic-{number}")) for number in range(LABS)]

    def work(plan: Plan, where: LabPaths) -> list[Cell]:
        return list(run(plan, partial(client.ask, where), once, techniques))

    with ThreadPoolExecutor(LABS) as pool, scratch_labs(plans) as running:
        cells = [cell for some in pool.map(work, plans, running) for cell in some]
    assert [cell for cell in cells if cell.found is not cell.predicted] == []
    found = {name: {(c.caller, c.callee) for c in cells if c.technique == name and c.found}
             for name in techniques}  # fmt: skip
    udp = {
        ("full", "full"), ("full", "restr"), ("full", "port-r"), ("full", "sym-random"),
        ("full", "sym-seq"), ("restr", "restr"), ("restr", "port-r"), ("restr", "sym-random"),
        ("restr", "sym-seq"), ("port-r", "port-r"),
    }  # fmt: skip
    assert found["udp-punch"] == udp
    assert found["udp-predict"] == udp | {("port-r", "sym-seq"), ("sym-seq", "sym-seq")}


def test_a_hole_that_is_late_is_found_by_the_second_probe():
    """N4: the first round finds no hole, the second one does."""
    with paths.near() as lab:

        def check():
            lab.homes(paths.RESTRICTED, paths.SYMMETRIC)
            late = lab.connect("udp-punch")
            lab.homes(paths.RESTRICTED, paths.RESTRICTED)
            early = lab.connect("udp-punch")
            assert paths.works(late), late["reason"]
            assert paths.works(early), early["reason"]
            assert late["packets"]["punch"] > early["packets"]["punch"]

        measured(check, PAUSE_S, again=True)


@pytest.mark.parametrize(
    ("experiment", "share"),
    [
        pytest.param(paths.race, 0.2, id="N7"),
        pytest.param(paths.prediction, 0.1, id="N8"),
        pytest.param(paths.hairpin, 1, id="N18"),
    ],
)
def test_what_is_exact(experiment, share):
    found(experiment, share)


def test_syns_that_start_together_cross_at_once():
    """N13: past NATs that reset, half a round trip after the answer is the moment."""
    found(paths.first_try, 0.1, CROSSING_S)


def test_who_asks_for_long_pauses_connects_seldom():
    """N6: the pause after a reset is the caller's choice, for both."""
    resetting = replace(paths.STRICT, unsolicited=Unsolicited.RST)
    with paths.near() as lab:
        lab.homes(resetting, resetting)
        record = lab.connect("tcp-punch", window_s=2.5, late_s=0.6, retry_s=1.0)
        # A half of the pause at least: no more than six fit.
        assert 1 <= len(paths.outward(record)) <= 6, record["tries"]
        wrong = lab.connect("tcp-punch", retry_s=0.0)
    assert (wrong["outcome"], wrong["reason"]) == ("failed", "option retry_s is from 0.01 to 5")
