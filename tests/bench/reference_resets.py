"""N6: TCP punching past NATs that reset, whose end is a matter of chance and of the round trip.

A connect that meets a reset is made again after a pause.  It goes through when
its SYN and one of the other peer's are under way between the NATs at one time:
each then finds the hole of the other.  With a delay d between the NATs and a
connect every c seconds (the pause, and the round trip that it takes for the
reset to come), a connect meets one of the other's with the chance 2d/c: c/2d
connects on average after the later peer has begun, which take c²/2d.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterator
from itertools import pairwise

from msgspec.structs import replace

from lab.topology.behaviour import Unsolicited
from tests.bench import reference_paths as paths
from tests.bench.reference_result import Result, Z

SKEW_S = 0.6


def resets(part: float, rng: random.Random) -> Iterator[Result]:
    """From 2 to 50 ms between the NATs, there and back."""
    count = paths.repeats(10, part)
    resetting = replace(paths.STRICT, unsolicited=Unsolicited.RST)
    for delay in ("0.5ms", "1ms", "2.5ms", "5ms", "12.5ms", "25ms"):
        with paths.shipped("two-homes", f"internet={delay}", *paths.NEAR) as lab:
            found = {}
            for name, one in (("drop", paths.STRICT), ("rst", resetting)):
                lab.homes(one, one)
                options = {"late_s": SKEW_S, "window_s": 20.0}
                found[name] = [lab.connect("tcp-punch", **options) for _ in range(count)]
        yield _resets(found["drop"], found["rst"])


def _resets(drop: list[paths.Record], rst: list[paths.Record]) -> Result:
    """Held against the round trip and the pauses of the same attempts."""
    count = len(drop)
    ones = sum(paths.outward(record) == ["success"] for record in drop)
    good = [record for record in rst if paths.works(record)]
    usual = statistics.mean(record["time_to_path_s"] for record in drop)
    connects = [len(paths.outward(record)) for record in good]
    more = [record["time_to_path_s"] - usual for record in good]
    trip, cycle = _rhythm(rst)
    # Each SYN of one crosses one of the other's that leaves its NAT within a delay of its own.
    tries = max(1.0, cycle / trip)
    low, high = _mean(more)
    return Result(
        f"TCP punch, {SKEW_S} s skew, {trip * 1000:.1f} ms round trip between the NATs, {count} "
        "times each (Ford §5.2)",
        f"DROP: 1 connect; RST: {SKEW_S / cycle + tries:.0f} connects, {tries * cycle:.1f} s "
        "longer (means, computed), within the 99 % interval",
        f"DROP: 1 connect in {ones} of {count}; RST: {statistics.mean(connects):.0f} connects, "
        f"{statistics.mean(more):.1f} s longer ({low:.1f} to {high:.1f}), {len(good)} of {count}",
        ones == count and low <= tries * cycle <= high and min(connects) > 1,
        "DROP is the control",
    )


def _rhythm(records: list[paths.Record]) -> tuple[float, float]:
    """The round trip to the other NAT, and the time from one connect to the next, in seconds."""
    trips, cycles = [], []
    for record in records:
        tries = [one for one in record["tries"] if one["remote"].startswith("45.")]
        trips += [one["took_s"] for one in tries if one["outcome"] == "refused"]
        cycles += [two["at_s"] - one["at_s"] for one, two in pairwise(tries)]
    return statistics.median(trips), statistics.mean(cycles)


def _mean(found: list[float]) -> tuple[float, float]:
    """The 99 % interval of a mean of times that end by chance, as likely now as later.

    Their number of halves is Poisson's (Garwood 1936); chi-squared by Wilson
    and Hilferty 1931.
    """
    freedom = 2 * len(found)

    def quantile(z: float) -> float:
        return float(freedom * (1 - 2 / (9 * freedom) + z * math.sqrt(2 / (9 * freedom))) ** 3)

    total = 2 * sum(found)
    return total / quantile(Z), total / quantile(-Z)
