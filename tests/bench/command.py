"""How long the commands take that a person types, from Enter to the prompt.

`python -m tests.bench.command [--runs 7] [--json FILE]`, as root.

`lab up double-nat` with process peers, a change of one router's NAT in the
running lab, `lab down`, and `lab --help`.  The floor of `up` is the same
network through the rawest interface (`tests.bench.floor`) plus five bare forks:
no command line, no checks, no agent, no peers that get ready.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lab.plan.compile import compile_topology
from lab.plan.machine import Machine
from lab.topology.loader import load
from tests.bench.homes import floor, settle

HOMES = """
name: homes
routers: {home: {count: 500, nat: home}}
nodes: {host: {count: 500, via: home}}
"""

TOPOLOGY = "double-nat"
ROUTER = "home-a"


def timed(*arguments: str, env: dict[str, str]) -> tuple[float, str]:
    """Seconds that the command took, and what it printed."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "lab", *arguments],
        env=env,
        check=True,
        capture_output=True,
        text=True,
    )
    return time.perf_counter() - began, done.stdout


def main() -> None:
    """Measure, print a table, write JSON."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=7)
    options.add_argument("--json", type=Path)
    chosen = options.parse_args()
    lab = f"bench-{secrets.token_hex(3)}"
    seconds: dict[str, list[float]] = {}
    phases: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(dir="/dev/shm") as state:
        env = os.environ | {"LAB_STATE_DIR": state}
        for run in range(chosen.runs + 1):
            steps: dict[str, tuple[float, str]] = {
                "help": timed("--help", env=env),
                "up": timed(
                    *("up", TOPOLOGY, "--name", lab, "--runtime", "process", "--json"), env=env
                ),
            }
            change = ("--set", f"routers.{ROUTER}.nat=symmetric")
            steps["apply"] = timed("apply", TOPOLOGY, "--name", lab, *change, "--json", env=env)
            steps["down"] = timed("down", lab, env=env)
            if run == 0:
                continue  # the first one warms the caches
            for name, (taken, _) in steps.items():
                seconds.setdefault(name, []).append(taken)
            for name in ("up", "apply"):
                answer: dict[str, Any] = json.loads(steps[name][1])
                for phase, taken in answer["phases"].items():
                    phases.setdefault(f"{name}: {phase}", []).append(taken)
        seconds |= many_homes(env, Path(state), lab, 3)
    report = {
        "machine": f"{os.cpu_count()} CPUs, Linux {platform.release()}",
        "runs": chosen.runs,
        "median_s": {name: statistics.median(values) for name, values in seconds.items()},
        "worst_s": {name: max(values) for name, values in seconds.items()},
        "phases_s": {name: statistics.median(values) for name, values in phases.items()},
        "floor_s": the_floor(),
    }
    if chosen.json:
        chosen.json.write_text(json.dumps(report, indent=2) + "\n", encoding="ascii")
    for name, values in seconds.items():
        print(
            f"  lab {name:14} median {statistics.median(values):.3f} s, worst {max(values):.3f} s"
        )
    for name, values in phases.items():
        print(f"    {name:18} {statistics.median(values) * 1e3:7.1f} ms")
    print(f"  floor of the network {report['floor_s'] * 1e3:.1f} ms")


def many_homes(env: dict[str, str], state: Path, lab: str, runs: int) -> dict[str, list[float]]:
    """The whole command for 500 homes without programs, up and down."""
    file = state / "homes.yaml"
    file.write_text(HOMES)
    taken: dict[str, list[float]] = {"up 500 homes": [], "down 500 homes": []}
    for _ in range(runs):
        settle()
        taken["up 500 homes"].append(timed("up", str(file), "--name", lab, env=env)[0])
        taken["down 500 homes"].append(timed("down", lab, env=env)[0])
    return taken


def the_floor() -> float:
    """Seconds for the same network with plain links, best of five."""
    plan = compile_topology(load(TOPOLOGY), Machine(), lab=f"bench-{secrets.token_hex(3)}")
    return min(floor(plan)["up"] for _ in range(5))


if __name__ == "__main__":
    main()
