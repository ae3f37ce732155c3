"""What a scrape costs: 100 nodes (50 NAT routers and 50 hosts), veth links, shaped declarations.

    python tests/bench/scrape.py [--nodes 100] [--scrapes 30]

Prints one JSON object.  The floor is the same files read in the same
namespaces by the shortest loop that can be written.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lab.observe.exporter import Exporter
from lab.observe.health import HealthSampler
from lab.observe.state import ProgramState, Stage
from lab.paths import LabPaths
from lab.plan.model import Plan
from lab.topology.behaviour import Runtime
from tests.kernel.observe_support import build, remove
from tests.unit.observe_support import attempt, many_homes


def floor(paths: LabPaths, plan: Plan) -> float:
    """Seconds to enter every namespace once and read both files."""
    spent: list[float] = []

    def run() -> None:
        libc = ctypes.CDLL(None)
        began = time.perf_counter()
        for node in plan.nodes:
            namespace = os.open(paths.netns(node.name), os.O_RDONLY)
            libc.setns(namespace, 0x40000000)
            os.close(namespace)
            for name in (
                "/proc/thread-self/net/dev",
                *(["/proc/sys/net/netfilter/nf_conntrack_count"] if node.nat else []),
            ):
                file = os.open(name, os.O_RDONLY)
                os.read(file, 65536)
                os.close(file)
        spent.append(time.perf_counter() - began)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return spent[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--scrapes", type=int, default=30)
    parser.add_argument("--json", type=Path, help="write the report here, too")
    options = parser.parse_args()
    lab = f"b-scrape-{os.getpid()}"
    plan = many_homes(options.nodes // 2, lab)
    root = Path(tempfile.mkdtemp(prefix="lab-bench-"))
    paths = LabPaths(root / lab)
    paths.root.mkdir()
    states = {
        node.name: ProgramState(
            node=node.name, runtime=Runtime.PROCESS, state=Stage.READY, started_at=1.0
        )
        for node in plan.nodes
        if node.program
    }
    sampler = HealthSampler()
    exporter = Exporter(paths, lambda: plan, lambda: states, sampler)
    try:
        build(paths, plan)
        for technique in ("direct", "udp-punch", "relay"):
            exporter.record_attempt(attempt(technique))
        url = f"http://127.0.0.1:{exporter.start()}/metrics"
        times, floors, lines = [], [], 0
        for _ in range(options.scrapes):
            floors.append(floor(paths, plan))
            began = time.perf_counter()
            with urllib.request.urlopen(url) as answer:
                lines = answer.read().count(b"\n")
            times.append(time.perf_counter() - began)
    finally:
        exporter.close()
        sampler.close()
        remove(paths)
        shutil.rmtree(root)
    median, best = statistics.median(times), statistics.median(floors)
    report = json.dumps(
        {
            "bench": "scrape",
            "nodes": len(plan.nodes),
            "lines": lines,
            "scrape_ms": {
                "median": round(median * 1e3, 2),
                "p95": round(sorted(times)[int(len(times) * 0.95)] * 1e3, 2),
                "max": round(max(times) * 1e3, 2),
            },
            "floor_ms": round(best * 1e3, 2),
            "ratio": round(median / best, 2),
            "target_ms": 50,
            "met": median < 0.05,
        },
        indent=2,
    )
    if options.json:
        options.json.write_text(report + "\n", encoding="ascii")
    print(report)
    return 0


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("needs root: it makes network namespaces")
    sys.exit(main())
