"""How often guessed ports are right: birthday probing and prediction beside other flows.

`python -m tests.bench.guessing [--trials 60] [--rates 5,20,60] [--json FILE]`, as root.

One lab of two homes without delays, whose NATs are replaced in between.  A
trial of birthday probing goes on until it hits; which probe it was says at once
for every number of probes whether so many would have been enough.  A trial of
prediction has somebody else behind the caller's NAT who begins flows at random
times.  It is held against what of these is Poisson's in the time that the very
trial took from the question that made the last known port to its first packet,
at the rate at which flows did begin: so it holds on a slow machine, too.  Each
rate comes with its 99 % interval (Wilson 1927), and counts as met if what is
computed lies within.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import re
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from lab.agent import client
from lab.cli.scratch import scratch_labs, scratch_name
from lab.fabric import netns
from lab.peer.chance import hit, undisturbed
from lab.plan.model import encode
from lab.study.matrix import CALLEE, CALLER, classic, facing, two_homes

PROBES = (174, 256, 1024, 2048)
Z = 2.576
Try = Callable[[str, str, str, dict[str, float]], dict[str, Any]]


def wilson(good: int, trials: int) -> tuple[float, float]:
    """The 99 % interval of a share."""
    share, square = good / trials, Z * Z / trials
    middle = (share + square / 2) / (1 + square)
    half = Z / (1 + square) * math.sqrt(share * (1 - share) / trials + square / (4 * trials))
    return max(0.0, middle - half), min(1.0, middle + half)


class Neighbour:
    """Somebody behind the caller's NAT who begins `rate` flows a second, at random times.

    Who is woken late makes good for it: the times are those of a Poisson
    process, and none waits for the one before.
    """

    def __init__(self, paths: Any, rate: float, rng: random.Random) -> None:
        self._paths, self._rate, self._rng = paths, rate, rng
        self._stop = threading.Event()
        self._began = time.monotonic()
        self._flows = 0

    @property
    def rate(self) -> float:
        """How many flows a second began so far."""
        return self._flows / (time.monotonic() - self._began)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """It begins flows within the block."""
        worker = threading.Thread(target=self._work)
        worker.start()
        try:
            yield
        finally:
            self._stop.set()
            worker.join()

    def _work(self) -> None:
        if not self._rate:
            return
        due = self._began
        with netns.inside(self._paths.netns(CALLER)):
            while True:
                due += self._rng.expovariate(self._rate)
                if self._stop.wait(max(0.0, due - time.monotonic())):
                    return
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
                    made.sendto(b"hello", ("45.0.0.1", 9))
                self._flows += 1


def birthday(attempt: Try, trials: int) -> list[dict[str, Any]]:
    """The share of trials that hit within so many probes."""
    needed = []
    for _ in range(trials):
        record = attempt("port-r", "sym-random", "birthday", {"probes": 4096, "pace": 1000})
        found = re.search(r"with probe (\d+)", record["reason"])
        needed.append(int(found.group(1)) if found else math.inf)
    return [
        _row("birthday", f"{probes} probes", sum(n <= probes for n in needed), trials,
             hit(256, probes))
        for probes in PROBES
    ]  # fmt: skip


def prediction(
    attempt: Try, paths: Any, trials: int, rates: list[float]
) -> Iterator[dict[str, Any]]:
    """The share of trials that found the one port they expected, beside other flows."""
    rng = random.Random(1)
    for rate in (0.0, *rates):
        good, ahead = 0, []
        neighbour = Neighbour(paths, rate, rng)
        with neighbour.at_work():
            for _ in range(trials):
                options = {"window": 1, "window_s": 1.0}
                record = attempt("sym-seq", "port-r", "udp-predict", options)
                good += record["outcome"] == "success"
                if took := re.search(r"foretold (\d+) ms ahead", record["reason"]):
                    ahead.append(int(took.group(1)) / 1000)
            began = neighbour.rate
        # A trial that could not even foretell has no chance.
        expected = sum(undisturbed(began, seconds) for seconds in ahead) / trials
        words = f"{rate:g} flows/s, {statistics.median(ahead) * 1000:.0f} ms"
        yield _row("udp-predict", words, good, trials, expected)


def _row(what: str, how: str, good: int, trials: int, expected: float) -> dict[str, Any]:
    low, high = wilson(good, trials)
    return {
        "technique": what, "with": how, "trials": trials, "found": good / trials, "low": low,
        "high": high, "computed": expected,
        # An interval that ends at 1 does so but for rounding.
        "met": low - 1e-9 <= expected <= high + 1e-9,
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--rates", default="5,20,60")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rates = [float(rate) for rate in given.rates.split(",")]
    homes = {home.name: home for home in classic()}
    plan = two_homes(scratch_name("guessing"))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LAB_STATE_DIR"] = folder
        with scratch_labs([plan]) as (paths,):
            ask = partial(client.ask, paths)
            faced: list[tuple[str, str]] = []

            def attempt(
                caller: str, callee: str, technique: str, options: dict[str, float]
            ) -> dict[str, Any]:
                if faced[-1:] != [(caller, callee)]:
                    wanted = facing(plan, homes[caller], homes[callee])
                    for _ in ask({"do": "apply", "plan": encode(wanted).decode()}):
                        pass
                    faced.append((caller, callee))
                order = {
                    "do": "connect", "local": CALLER, "remote": CALLEE, "first": False,
                    "techniques": [technique], "timeout_s": 20, "options": options,
                }  # fmt: skip
                records = [a["record"] for a in ask(order) if a.get("event") == "attempt"]
                return dict(records[0])

            rows = birthday(attempt, given.trials)
            rows += prediction(attempt, paths, given.trials, rates)
    for row in rows:
        print(
            f"{row['technique']:12} {row['with']:>20} {row['trials']:4} trials: "
            f"{row['found']:6.1%} ({row['low']:.1%} to {row['high']:.1%}), "
            f"computed {row['computed']:.2%}{'' if row['met'] else '  NOT MET'}"
        )
    if given.json:
        given.json.write_text(json.dumps(rows, indent=2))
    return 0 if all(row["met"] for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
