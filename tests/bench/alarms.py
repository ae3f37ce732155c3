"""How often `lab verify` calls a link different that is as declared: of links that are the model.

`python -m tests.bench.alarms [--runs 10000] [--family 1e-4] [--json FILE]`, without any privilege.

Each run verifies a lab of links that are nothing but the link model
(tests/unit/verify/simulated_links.py), with a seed of its own, by all of the
analysis that `lab verify` makes of real frames: only sockets and clocks are
left out.  `--family` sets what the intervals are made for, so that their
calibration can be told in fewer runs than the one in 10 000 takes.  Alarms are
counted before the second look, too, which is what the figure is made for.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random

from lab.topology.character import Bursts, Impairment, LossPattern
from lab.verify.links import expected, intervals, measure
from lab.verify.report import LinkFinding

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "verify"))

from simulated_links import verified

LAB = {
    "fair": Impairment(rate_bit=5_000_000, delay_us=20_000, loss=0.02),
    "wild": Impairment(delay_us=30_000, jitter_us=8_000, correlation=0.3, duplicate=0.02),
    "bursty": Impairment(delay_us=5000, bursts=Bursts(p=0.05, r=0.4), corrupt=0.02),
    "odd": Impairment(
        delay_us=15_000, reorder=0.1, pattern=LossPattern(lost=(3, 4), of=25), rate_bit=2_000_000
    ),
}


def late(rng: Random) -> int:
    """As a ferry that has the machine to itself: 0.05 ms, now and then a millisecond."""
    return int(rng.expovariate(1 / 50_000)) + (
        rng.randrange(1_000_000) if rng.random() < 0.01 else 0
    )


def _verified(seed: int, family: float) -> list[LinkFinding]:
    return verified(LAB, seed=seed, family=family, late=late, sides=("up",))


def bench(runs: int, family: float, begin: int = 0) -> dict[str, object]:
    """Counts of alarms; `family` is how often a run may raise one."""
    first: Counter[str] = Counter()
    looked = 0
    twice = measure._twice

    def watched(probe, ways):
        nonlocal looked
        calls = 0

        def counted(some):
            nonlocal calls, looked
            calls += 1
            found = [*probe(some)]
            if calls == 1:
                looked += len(found)
                first.update(str(one.dimension) for one in found if not one.ok)
            return iter(found)

        return twice(counted, ways)

    # The same for all runs, as all send at the same times after the first.
    spread = expected.spread
    known: dict[tuple[object, ...], expected.Spread] = {}

    def remembered(way: Impairment, sent_ns: Sequence[int], size: int) -> expected.Spread:
        key = way, size, *(at - sent_ns[0] for at in sent_ns)
        return known[key] if key in known else known.setdefault(key, spread(way, sent_ns, size))

    expected.spread = remembered
    intervals.lost_in_bursts = cache(intervals.lost_in_bursts)
    intervals.share = cache(intervals.share)
    measure._twice = watched  # type: ignore[assignment]
    began = time.perf_counter()
    alarmed, at_once, second = 0, 0, Counter[str]()
    for seed in range(begin, begin + runs):
        before = first.total()
        wrong = [one for one in _verified(seed, family) if not one.ok]
        at_once += first.total() > before
        alarmed += bool(wrong)
        second.update(str(one.dimension) for one in wrong)
    return {
        "runs": runs,
        "family": family,
        "findings": looked,
        "alarmed_first": at_once,
        "first": dict(first),
        "alarmed": alarmed,
        "alarms": dict(second),
        "at_most_95": intervals.share(alarmed, runs, 0.1)[1],
        "first_at_most_95": intervals.share(at_once, runs, 0.1)[1],
        "seconds": round(time.perf_counter() - began, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--begin", type=int, default=0)
    parser.add_argument("--family", type=float, default=measure.FAMILY)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    report = bench(given.runs, given.family, given.begin)
    text = json.dumps(report, indent=2)
    if given.json:
        given.json.write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
