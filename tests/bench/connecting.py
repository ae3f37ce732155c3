"""How long `lab connect` takes with all techniques, and how soon a peer can be called again.

`python -m tests.bench.connecting [TOPOLOGY...] [--reboots 8] [--json FILE]`, as root.

Of each topology the whole command, and what of it was waiting for techniques that found
nothing.  Then, in two-homes, the NAT before the callee is rebooted, which kills its
connection to the rendezvous service, and the other peer calls it at once: how long until
there is a path, of which 0.3 s is the punch itself.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

TOPOLOGIES = ("double-nat", "two-homes", "upnp-home", "blocked-udp", "corporate", "http-only")


class Lab:
    """A shipped topology that is up."""

    def __init__(self, topology: str, state: str) -> None:
        self.name = f"bench-{secrets.token_hex(3)}"
        self._env = os.environ | {"LAB_STATE_DIR": state}
        self.do("up", topology, "--name", self.name, "--runtime", "process")

    def do(self, *arguments: str) -> str:
        """What the command printed."""
        done = subprocess.run(
            [sys.executable, "-m", "lab", *arguments],
            env=self._env,
            check=False,
            capture_output=True,
            text=True,
        )
        return done.stdout

    def connect(self, *options: str) -> dict[str, Any]:
        """The answer to `lab connect alice bob`."""
        told = self.do("connect", "alice", "bob", "--lab", self.name, "--json", *options)
        answer: dict[str, Any] = json.loads(told)
        return answer


@contextmanager
def running(topology: str) -> Iterator[Lab]:
    """A lab for as long as the block takes."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as state:
        lab = Lab(topology, state)
        try:
            yield lab
        finally:
            lab.do("down", lab.name)


def techniques(topology: str) -> dict[str, Any]:
    """One order with all techniques: seconds, and what was found."""
    with running(topology) as lab:
        began = time.perf_counter()
        answer = lab.connect()
        taken = time.perf_counter() - began
    records = answer["attempts"]
    in_vain = sum(
        after["started_at"] - record["started_at"]
        for record, after in pairwise(records)
        if record["path"] is None
    )
    return {
        "seconds": taken,
        "in vain": in_vain,
        "paths": sum(record["path"] is not None for record in records),
        "measured": sum(
            record["goodput_bps"] is not None and record["goodput_by"] is None for record in records
        ),
        "unexpected": answer["unexpected"] + answer["contradicted"],
        "distorted": bool(answer["distorted"]),
    }


def calls_after_reboot(count: int) -> dict[str, Any]:
    """Seconds to a path when the callee's NAT has just forgotten everything; outcomes."""
    outcomes, seconds = [], []
    with running("two-homes") as lab:
        for _ in range(count):
            lab.do("nat", "reboot", "home-b", "--lab", lab.name)
            (record,) = lab.connect("-t", "udp-punch", "--goodput", "0")["attempts"]
            outcomes.append(record["outcome"])
            if record["time_to_path_s"] is not None:
                seconds.append(record["time_to_path_s"])
    return {"outcomes": outcomes, "seconds": seconds}


def main() -> None:
    """Measure, print, write JSON."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("topologies", nargs="*", default=TOPOLOGIES)
    options.add_argument("--reboots", type=int, default=8)
    options.add_argument("--json", type=Path)
    chosen = options.parse_args()
    report: dict[str, Any] = {}
    for topology in chosen.topologies:
        found = report[topology] = techniques(topology)
        print(
            f"{topology:<12} {found['seconds']:5.1f} s, {found['in vain']:4.1f} s in vain,"
            f" {found['paths']} paths, {found['measured']} measured"
            f"{', distorted' if found['distorted'] else ''} {found['unexpected'] or ''}",
            flush=True,
        )
    if chosen.reboots:
        calls = report["calls after a reboot"] = calls_after_reboot(chosen.reboots)
        worked = len(calls["seconds"])
        print(f"after a reboot {worked} of {chosen.reboots} calls worked", end="")
        if worked:
            print(
                f", in {statistics.median(calls['seconds']):.1f} s,"
                f" {max(calls['seconds']):.1f} s at most"
            )
    if chosen.json:
        chosen.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
