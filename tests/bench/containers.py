"""What a gated container costs beside a bare one: create, attach, start, gate, against the floor.

`python -m tests.bench.containers [--containers 20] [--runs 3] [--json FILE]`, as
root, with an engine.

The floor is the same number of `docker run --detach --network none` of the
same image, at the concurrency that is best for them; a second floor makes the
two engine calls of a bare container without the client program.  Ours
includes waiting at the gate, the network namespace's name, and opening the
gate.  Runs alternate; the best of each counts.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import platform
import secrets
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab.fabric import netns
from lab.fabric.journal import Journal
from lab.paths import LabPaths
from lab.plan.model import Program
from lab.runtime import gate, teardown
from lab.runtime.containers import Containers
from lab.runtime.docker import Engine
from lab.topology.behaviour import Runtime

IMAGE = "bench-bare:1"
LABEL = "bench-floor"
CONCURRENCY = (2, 4, 8)


def make_image(engine: Engine) -> None:
    """One static program that sleeps."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(gate.busybox(), "busybox-program")
    changes = ['ENTRYPOINT ["/busybox-program", "sleep", "600"]']
    repository, _, tag = IMAGE.partition(":")
    engine.client.import_image_from_data(
        buffer.getvalue(), repository=repository, tag=tag, changes=changes
    )


def ours(engine: Engine, count: int) -> float:
    """Seconds until every gate is open."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        paths = LabPaths(Path(folder) / f"bench-{secrets.token_hex(3)}")
        journal = Journal.open(paths.journal)
        nodes = [f"n{i}" for i in range(count)]
        try:
            return asyncio.run(_bring_up(paths, engine, journal, nodes))
        finally:
            teardown.remove_containers(paths)
            for node in nodes:
                netns.delete(paths.netns(node))
            journal.close()


async def _bring_up(paths: LabPaths, engine: Engine, journal: Journal, nodes: list[str]) -> float:
    program = Program(runtime=Runtime.DOCKER, image=IMAGE)
    made = Containers(paths, engine, journal, lambda _exit: None)

    async def one(node: str) -> None:
        pid = await made.create_gated(node, program)
        netns.adopt(paths.netns(node), pid)
        made.open_gate(node)

    begun = time.perf_counter()
    await asyncio.gather(*(one(node) for node in nodes))
    seconds = time.perf_counter() - begun
    await made.close()
    return seconds


def floor(engine: Engine, count: int, workers: int, run: Callable[[Engine], None]) -> float:
    """Seconds for `count` bare containers, `workers` at once."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(run, [engine] * count))
    seconds = time.perf_counter() - begun
    client = engine.client
    found = [c["Id"] for c in client.containers(all=True, filters={"label": LABEL})]
    with ThreadPoolExecutor(engine.workers) as pool:
        list(pool.map(engine.remove_id, found))
    return seconds


def by_client_program(_engine: Engine) -> None:
    """`docker run`, as a person would."""
    command = ["docker", "run", "--detach", "--network", "none", "--label", LABEL, IMAGE]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def by_two_calls(engine: Engine) -> None:
    """The least that an engine can be asked for."""
    config = {"Image": IMAGE, "Labels": {LABEL: ""}, "HostConfig": {"NetworkMode": "none"}}
    engine.client.start(engine.client.create_container_from_config(config)["Id"])


def main() -> None:
    """Measure, print a table, write JSON."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--containers", type=int, default=20)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--json", type=Path)
    chosen = options.parse_args()
    count: int = chosen.containers
    best = {"ours": float("inf"), "docker run": float("inf"), "two calls": float("inf")}
    at = {"docker run": 0, "two calls": 0}
    with Engine.demand() as engine:
        make_image(engine)
        for _ in range(chosen.runs):
            best["ours"] = min(best["ours"], ours(engine, count))
            for name, run in (("docker run", by_client_program), ("two calls", by_two_calls)):
                for workers in CONCURRENCY:
                    seconds = floor(engine, count, workers, run)
                    if seconds < best[name]:
                        best[name], at[name] = seconds, workers
        engine.client.remove_image(IMAGE)
        workers = engine.workers
    report = {
        "machine": f"{os.cpu_count()} CPUs, Linux {platform.release()}",
        "containers": count,
        "ms_each": {name: seconds * 1e3 / count for name, seconds in best.items()},
        "concurrency": {"ours": workers, **at},
        "ratio": best["ours"] / best["docker run"],
        "ratio_to_two_calls": best["ours"] / best["two calls"],
    }
    if chosen.json:
        chosen.json.write_text(json.dumps(report, indent=2) + "\n", encoding="ascii")
    print(f"{count} containers on {report['machine']}")
    for name, seconds in best.items():
        print(f"  {name:11} {seconds * 1e3 / count:6.1f} ms each")
    print(f"  ratio {best['ours'] / best['docker run']:.2f} to docker run,", end=" ")
    print(f"{best['ours'] / best['two calls']:.2f} to two bare calls")


if __name__ == "__main__":
    main()
