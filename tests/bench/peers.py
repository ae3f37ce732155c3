"""How much five hundred process peers cost: time to start, memory each, beside their floor.

`python -m tests.bench.peers [--peers 500] [--runs 3] [--json FILE]`, as root.

Each peer is the built-in program in a namespace of its own; the namespaces are
made before the clock starts.  `started` is the time until the last one is in
its node, `ready` until the last one has said so.  The floor forks the same
frozen interpreter as often and has each child say one byte and wait: no node,
no environment, no sockets.  Memory is the proportional set size (PSS).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from lab.fabric import netns
from lab.fabric.journal import Journal
from lab.paths import LabPaths
from lab.plan.model import Program
from lab.runtime import group, teardown
from lab.runtime.contract import Tail
from lab.runtime.process import Zygote
from lab.topology.behaviour import Runtime

PEER = Program(
    runtime=Runtime.PROCESS,
    roles=("peer",),
    env=(("LAB_ADDRESSES", "127.0.0.1"), ("LAB_ROLE", "peer"), ("LAB_SEED", "1")),
    ready_signal=True,
)


def pss_mb(pids: Iterable[int]) -> float:
    """Mean proportional set size, in MB (10^6 bytes)."""
    sizes = []
    for pid in pids:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        (kb,) = (line.split()[1] for line in rollup.splitlines() if line.startswith("Pss:"))
        sizes.append(int(kb) * 1024 / 1e6)
    return statistics.mean(sizes)


def ours(count: int) -> dict[str, float]:
    """Through the prefork server, in nodes."""
    # State lives in memory, as /run does on most machines.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        paths = LabPaths(Path(folder) / f"bench-{secrets.token_hex(3)}")
        journal = Journal.open(paths.journal)
        nodes = [f"n{i}" for i in range(count)]
        try:
            for node in nodes:
                journal.note("netns", paths.netns(node).name)
                netns.create(paths.netns(node))
            figures = asyncio.run(_start(paths, group.create(paths, journal), nodes))
            begun = time.perf_counter()
            assert teardown.kill_processes(paths) == count
            figures["killed_s"] = time.perf_counter() - begun
        finally:
            teardown.kill_processes(paths)
            for node in nodes:
                netns.delete(paths.netns(node))
            journal.close()
    return figures


async def _start(paths: LabPaths, into: Path | None, nodes: list[str]) -> dict[str, float]:
    tail = Tail(paths, lambda _node, _event: None)
    begun = time.perf_counter()
    zygote = await Zygote.start(paths, into, lambda _exit: None)
    for node in nodes:
        tail.watch(node)
    pids = await asyncio.gather(*(zygote.spawn(node, PEER) for node in nodes))
    started = time.perf_counter() - begun
    late = await tail.wait_ready(nodes, 60)
    assert not late, late[:3]
    ready = time.perf_counter() - begun
    figures = {"started_s": started, "ready_s": ready, "pss_mb": pss_mb(pids)}
    tail.close()
    await zygote.close()
    return figures


def floor(count: int) -> dict[str, float]:
    """Bare forks of the frozen interpreter."""
    from lab.peer import preload  # noqa: PLC0415 - as the prefork server does, after its start

    preload()
    gc.collect()
    gc.freeze()
    reading, writing = os.pipe()
    pids = []
    begun = time.perf_counter()
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            os.write(writing, b".")
            while True:
                signal.pause()
        pids.append(pid)
    said = 0
    while said < count:
        said += len(os.read(reading, 4096))
    started = time.perf_counter() - begun
    figures = {"started_s": started, "pss_mb": pss_mb(pids)}
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        os.waitpid(pid, 0)
    return figures


def _in_process(what: str, count: int) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.peers", "--only", what, "--peers", str(count)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def main() -> None:
    """Measure, print a table, write JSON."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--peers", type=int, default=500)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--json", type=Path)
    options.add_argument("--only", choices=("ours", "floor"), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.only:
        print(json.dumps((ours if chosen.only == "ours" else floor)(chosen.peers)))
        return
    best: dict[str, dict[str, float]] = {}
    for _ in range(chosen.runs):
        for what in ("ours", "floor"):
            result = _in_process(what, chosen.peers)
            if what not in best or result["started_s"] < best[what]["started_s"]:
                best[what] = result
    report = {
        "machine": f"{os.cpu_count()} CPUs, Linux {platform.release()}",
        "peers": chosen.peers,
        "ours": best["ours"],
        "floor": best["floor"],
        "ratio": best["ours"]["started_s"] / best["floor"]["started_s"],
    }
    if chosen.json:
        chosen.json.write_text(json.dumps(report, indent=2) + "\n", encoding="ascii")
    print(f"{chosen.peers} process peers on {report['machine']}")
    for what in ("floor", "ours"):
        print(
            f"  {what:6}", *(f"{name} {value:.2f}" for name, value in best[what].items()), sep="  "
        )
    print(f"  ratio {report['ratio']:.2f}")


if __name__ == "__main__":
    main()
