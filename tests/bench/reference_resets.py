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
    """From 2 to 50 ms between the NATs, there and back; and with the published pause."""
    count = paths.repeats(10, part)
    for delay in ("0.5ms", "1ms", "2.5ms", "5ms", "12.5ms", "25ms"):
        yield _resets(delay, count, "")
    yield _resets("25ms", count, ", pauses of a second (§4.2)", retry_s=1.0)


def _resets(delay: str, count: int, how: str, **more: float) -> Result:
    """Held against the round trip and the pauses of the same attempts."""
    resetting = replace(paths.STRICT, unsolicited=Unsolicited.RST)
    options = {"late_s": SKEW_S, "window_s": 20.0, **more}
    with paths.shipped("two-homes", f"internet={delay}", *paths.NEAR) as lab:
        lab.homes(paths.STRICT, paths.STRICT)
        drop = [lab.connect("tcp-punch", **options) for _ in range(count)]
        lab.homes(resetting, resetting)
        rst = [lab.connect("tcp-punch", **options) for _ in range(count)]
    ones = sum(paths.outward(record) == ["success"] for record in drop)
    usual = statistics.mean(record["time_to_path_s"] for record in drop)
    good = sum(paths.works(record) for record in rst)
    trip, cycle = _rhythm(rst)
    # Each SYN of one crosses one of the other's that leaves its NAT within a delay of its own.
    tries = max(1.0, cycle / trip)
    # Who gave up has waited, too.
    waited = sum(_lasted(record) - usual for record in rst)
    connects = sum(len(paths.outward(record)) for record in rst) - count * SKEW_S / cycle
    low, high = _mean(waited, good)
    return Result(
        f"TCP punch, {SKEW_S} s skew, {trip * 1000:.1f} ms round trip between the NATs{how}, "
        f"{count} times each (Ford §5.2)",
        f"DROP: 1 connect; RST: {SKEW_S / cycle + tries:.0f} connects, {tries * cycle:.1f} s "
        "longer (means, computed), within the 99 % interval",
        f"DROP: 1 connect in {ones} of {count}; RST: {SKEW_S / cycle + connects / good:.0f} "
        f"connects, {waited / good:.1f} s longer ({low:.1f} to {high:.1f}), {good} of {count} "
        "in 20 s",
        ones == count and low <= tries * cycle <= high,
        "DROP is the control",
    )


def _lasted(record: paths.Record) -> float:
    """From the beginning of an attempt to its path, or to its last connect."""
    if paths.works(record):
        return float(record["time_to_path_s"])
    return float(max(one["at_s"] for one in record["tries"]))


def _rhythm(records: list[paths.Record]) -> tuple[float, float]:
    """The round trip to the other NAT, and the time from one connect to the next, in seconds."""
    trips, cycles = [], []
    for record in records:
        tries = [one for one in record["tries"] if one["remote"].startswith("45.")]
        trips += [one["took_s"] for one in tries if one["outcome"] == "refused"]
        cycles += [two["at_s"] - one["at_s"] for one, two in pairwise(tries)]
    return statistics.median(trips), statistics.mean(cycles)


def _mean(total: float, ends: int) -> tuple[float, float]:
    """The 99 % interval of a mean time, where `ends` came in `total`, by chance at any moment.

    Their number is Poisson's (Garwood 1936); chi-squared by Wilson and Hilferty 1931.
    """
    freedom = 2 * ends

    def quantile(z: float) -> float:
        return float(freedom * (1 - 2 / (9 * freedom) + z * math.sqrt(2 / (9 * freedom))) ** 3)

    return 2 * total / quantile(Z), 2 * total / quantile(-Z)
