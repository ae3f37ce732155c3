"""How fast a large network comes and goes: five hundred homes, beside their floor.

`python -m tests.bench.homes [--homes 500] [--runs 3] [--json FILE]`, as root.

A home is a NAT router and a host: its `wan` leads to the internet, its `lan`
to the host.  The plan comes from the compiler; making it is not timed here,
carrying it out is.  Runs of ours and of the floor alternate, each in a
process of its own, after the kernel has taken the last one apart; the best
of each counts, because whatever disturbs a run only ever slows it.

Both find a tmpfs at /run/netns, for themselves alone, as is usual for /run:
in a folder of a disk that has held a thousand names, making the next one costs
as much as making the namespace.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from itertools import groupby
from pathlib import Path

from lab.fabric.journal import Journal, read
from lab.fabric.network import Network
from lab.fabric.rules import render
from lab.fabric.teardown import remove_namespaces
from lab.paths import LabPaths
from lab.plan.compile import compile_topology
from lab.plan.diff import diff
from lab.plan.machine import Machine
from lab.plan.model import Plan
from lab.plan.operations import phase
from lab.topology.behaviour import Nat
from lab.topology.model import NodeSpec, RouterSpec, Topology
from tests.bench.floor import Floor, Rules

_SETTLED_S = 20.0
"""The kernel takes a thousand namespaces apart in two to four seconds."""


def homes(count: int, lab: str) -> Plan:
    """The plan of `count` homes."""
    routers = tuple(RouterSpec(name=f"home-{i}", nat=Nat()) for i in range(count))
    hosts = tuple(NodeSpec(name=f"host-{i}", via=f"home-{i}") for i in range(count))
    topology = Topology(name=lab, routers=routers, nodes=hosts)
    return compile_topology(topology, Machine())


def ours(plan: Plan) -> dict[str, float]:
    """Seconds by phase, through `Network.carry_out`."""
    seconds: dict[str, float] = {}
    operations = diff(None, plan)
    cpu = _processor_s()
    with tempfile.TemporaryDirectory() as folder:
        paths = LabPaths(Path(folder) / plan.lab)
        journal = Journal.open(paths.journal)
        try:
            start = time.perf_counter()
            network = Network(paths, journal)
            for step, group in groupby(operations, key=phase):
                begun = time.perf_counter()
                network.carry_out(list(group), lambda _operation, _seconds: None)
                seconds[step.name.lower()] = time.perf_counter() - begun
            network.close()
            seconds["up"] = time.perf_counter() - start
            seconds["processor"] = _processor_s() - cpu
        finally:
            start = time.perf_counter()
            remove_namespaces(read(paths.journal))
            seconds["down"] = time.perf_counter() - start
    return seconds


def floor(plan: Plan) -> dict[str, float]:
    """Seconds by phase, through the rawest interface."""
    rules = {}
    for node in plan.nodes:
        if node.nat or node.firewall:
            rendered = render(node)
            rules[node.name] = Rules(_lean(rendered.ip4), rendered.nft.encode())
    built = Floor(plan, rules)
    cpu = _processor_s()
    up = built.build()
    cpu = _processor_s() - cpu
    down = built.remove()
    return {**built.phases, "up": up, "processor": cpu, "down": down}


def _processor_s() -> float:
    """Processor time of this process, and of those that it started and waited for."""
    return sum(os.times()[:4])


def _lean(text: str) -> bytes:
    """Without the policies of built-in chains: they are what they are, and cost an RCU wait."""
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if not (line[0] == ":" and " ACCEPT" in line)).encode()


def settle() -> None:
    """Wait until the kernel has taken apart what earlier runs left to it."""
    deadline = time.monotonic() + _SETTLED_S
    idle = 0
    while idle < 5 and time.monotonic() < deadline:
        before = _kernel_work()
        time.sleep(0.1)  # The measuring interval: there is no event for an idle kernel.
        idle = idle + 1 if _kernel_work() - before < 2 else 0


def _kernel_work() -> int:
    """Clock ticks that processors spent in the kernel since boot, all together."""
    fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
    return int(fields[3]) + int(fields[6]) + int(fields[7])


_ALONE = 'mkdir -p /run/netns && mount -t tmpfs bench /run/netns && exec "$@"'


def _in_process(what: str, count: int) -> dict[str, float]:
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _ALONE, "sh"]
    command += [sys.executable, "-m", "tests.bench.homes", "--only", what, "--homes", str(count)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def main() -> None:
    """Measure, print a table, write JSON."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--homes", type=int, default=500)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--json", type=Path)
    options.add_argument("--only", choices=("ours", "floor"), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.only:
        plan = homes(chosen.homes, f"bench-{os.getpid()}")
        print(json.dumps((ours if chosen.only == "ours" else floor)(plan)))
        return
    best: dict[str, dict[str, float]] = {}
    for _ in range(chosen.runs):
        for what in ("ours", "floor"):  # In this order: ours prepares /run/netns.
            settle()
            result = _in_process(what, chosen.homes)
            if what not in best or result["up"] < best[what]["up"]:
                best[what] = result
    report = {
        "machine": f"{os.cpu_count()} CPUs, Linux {platform.release()}",
        "homes": chosen.homes,
        "ours": best["ours"],
        "floor": best["floor"],
        "ratio": best["ours"]["up"] / best["floor"]["up"],
        "ms_per_node": best["ours"]["up"] * 1e3 / (2 * chosen.homes),
    }
    if chosen.json:
        chosen.json.write_text(json.dumps(report, indent=2) + "\n", encoding="ascii")
    _print(report)


def _print(report: dict[str, object]) -> None:
    print(f"{report['homes']} homes on {report['machine']}")
    for what in ("floor", "ours"):
        row = report[what]
        assert isinstance(row, dict)
        print(f"  {what:6}", *(f"{name} {value:.2f} s" for name, value in row.items()), sep="  ")
    print(f"  ratio {report['ratio']:.2f}, {report['ms_per_node']:.2f} ms a node")


if __name__ == "__main__":
    main()
