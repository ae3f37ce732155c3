"""`make bench`: every number of docs/performance.md, in one run, beside its floor.

`python -m tests.bench [NAME...] [--write]`, as root.  Each benchmark is a
module of its own that may be run alone; `--write` puts the table and the
machine's description into docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).parents[2] / "docs" / "performance.md"
BEGIN, END = "<!-- figures: made by make bench -->", "<!-- end of figures -->"

Report = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure beside what it has to reach."""

    what: str
    measured: str
    target: str
    met: bool | None
    """None for a figure without a target."""

    def text(self) -> str:
        mark = {True: "yes", False: "**no**", None: ""}[self.met]
        return f"| {self.what} | {self.measured} | {self.target} | {mark} |"


def command(report: Report) -> Iterator[Row]:
    median, phases = report["median_s"], report["phases_s"]
    yield Row("`lab --help`", _s(median["help"]), "< 0.15 s", median["help"] < 0.15)
    yield Row("`lab up double-nat`, process peers", _s(median["up"]), "< 1 s", median["up"] < 1)
    yield Row("its network, through the rawest interface", _s(report["floor_s"]), "(floor)", None)
    yield Row("`lab down`", _s(median["down"]), "< 0.5 s", median["down"] < 0.5)
    change = phases["apply: rules"]
    yield Row("changing a router's NAT while it runs", _ms(change), "< 20 ms", change < 0.02)
    yield Row("`lab up`, 500 homes, whole command", _s(median["up 500 homes"]), "", None)
    yield Row(
        "`lab down`, 500 homes", _s(median["down 500 homes"]), "< 2 s", median["down 500 homes"] < 2
    )


def homes(report: Report) -> Iterator[Row]:
    phases, ratio = report["ours"], report["ratio"]
    up, rules = phases["up"], phases["rules"] / report["homes"]
    yield Row(f"{report['homes']} homes: network up", _s(up), "< 4 s", up < 4)
    yield Row("its floor", _s(report["floor"]["up"]), "(floor)", None)
    yield Row("ratio to the floor", f"{ratio:.2f}", "≤ 2", ratio <= 2)
    yield Row("a router's rule sets", f"{rules * 1e3:.2f} ms", "< 3 ms", rules < 0.003)
    each = report["ms_per_node"]
    yield Row(
        "per node, NAT included", f"{each:.2f} ms", "< 2.8 ms (a fifth of Mininet's 14)", each < 2.8
    )


def peers(report: Report) -> Iterator[Row]:
    ours, floor = report["ours"], report["floor"]
    started, memory = ours["started_s"], ours["pss_mb"]
    yield Row(f"{report['peers']} process peers started", _s(started), "< 3 s", started < 3)
    yield Row("bare forks of the same interpreter", _s(floor["started_s"]), "(floor)", None)
    yield Row("memory of each (PSS)", f"{memory:.1f} MB", "< 6 MB", memory < 6)


def containers(report: Report) -> Iterator[Row]:
    each, ratio = report["ms_each"], report["ratio"]
    yield Row(f"{report['containers']} container peers, each", f"{each['ours']:.0f} ms", "", None)
    yield Row("`docker run --network none`, each", f"{each['docker run']:.0f} ms", "(floor)", None)
    yield Row("ratio to the floor", f"{ratio:.2f}", "≤ 1.2", ratio <= 1.2)


def scrape(report: Report) -> Iterator[Row]:
    median = report["scrape_ms"]["median"]
    yield Row(f"a scrape of {report['nodes']} nodes", f"{median:.0f} ms", "< 50 ms", median < 50)
    yield Row("reading the same files", f"{report['floor_ms']:.1f} ms", "(floor)", None)


def links(report: Report) -> Iterator[Row]:
    single, many = report["ferry_10kpps_20ms"], report["ferry_100_links_1kpps"]
    ferry, veth = report["ferry_flood"], report["veth_flood"]
    rate, share_of_veth = ferry["kpps"], ferry["kpps"] / veth["kpps"]
    yield Row("user-space link, 1200-byte UDP", f"{rate:.0f} kpps", "≥ 200 kpps", rate >= 200)
    yield Row("a bare veth pair, sent singly", f"{veth['kpps']:.0f} kpps", "(floor)", None)
    yield Row("user-space link: share of the veth", f"{share_of_veth:.2f}", "", None)
    each = [f"{one['machine_us_per_packet']:.1f}" for one in (ferry, veth)]
    what = "processor time of the whole machine a packet, user-space link and veth"
    yield Row(what, f"{each[0]} and {each[1]} µs", "", None)
    for share, limit in (("median", 300), ("p99", 2000)):
        error = single[f"error_us_{share}"]
        what = f"delay error at 10 kpps, {share}"
        yield Row(what, f"{error:.0f} µs", f"≤ {limit} µs", error <= limit)
    error = many["error_us_p99"]
    what = "delay error of 100 links at 1 kpps each, p99"
    yield Row(what, f"{error:.0f} µs", "≤ 5000 µs", error <= 5000)
    jitter = report["ferry_flood_with_jitter"]["kpps"]
    yield Row("user-space link with jitter", f"{jitter:.0f} kpps", "", None)
    spliced = report["spliced_flood"]["kpps"]
    yield Row("the ferry in a wire that was plain before", f"{spliced:.0f} kpps", "", None)
    if tcp := report.get("ferry_tcp_100mbit_50ms"):
        # A full frame of 1514 bytes carries 1448 of TCP's.
        share = tcp["steady_mbit_s"] * 1514 / 1448 / 100
        what = "TCP over 100 Mbit/s and 50 ms, share of the rate"
        yield Row(what, f"{share:.3f}", "≥ 0.95", share >= 0.95)


def nat(report: Report) -> Iterator[Row]:
    for name in ("plain routing", "plain MASQUERADE"):
        each = report["measured"][name]
        yield Row(name, f"{each['gbit']:.1f} Gbit/s, {each['kpps']:.0f} kpps", "(floor)", None)
    for name, each in report["ratio"].items():
        if not name.startswith("plain"):
            met = min(each.values()) >= 0.8
            measured = f"{each['gbit']:.2f} (TCP), {each['kpps']:.2f} (packets)"
            yield Row(f"{name}: share of MASQUERADE", measured, "≥ 0.8", met)


BENCHMARKS: dict[str, Callable[[Report], Iterator[Row]]] = {
    "command": command,
    "homes": homes,
    "peers": peers,
    "containers": containers,
    "scrape": scrape,
    "links": links,
    "nat": nat,
}


def _s(seconds: float) -> str:
    return f"{seconds:.2f} s"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.0f} ms"


def run(name: str) -> Report:
    """Run one benchmark in a process of its own; its report."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        arguments = [sys.executable, "-m", f"tests.bench.{name}", "--json", report.name]
        subprocess.run(arguments, check=True, stdout=sys.stderr)
        answer: Report = json.loads(Path(report.name).read_text())
        return answer


def main() -> None:
    """Run what was asked for, print the table, write it if asked to."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], metavar="NAME")
    options.add_argument("--write", action="store_true", help="into docs/performance.md")
    chosen = options.parse_args()
    lines = ["| what | measured | to reach | reached |", "|---|---|---|---|"]
    for name in chosen.names or BENCHMARKS:
        print(f"{name} …", file=sys.stderr)
        lines += [row.text() for row in BENCHMARKS[name](run(name))]
    print("\n".join(lines))
    if chosen.write:
        write(lines)


def write(lines: list[str]) -> None:
    """Replace the figures in the document."""
    memory = next(
        line.split()[1]
        for line in Path("/proc/meminfo").read_text().splitlines()
        if "MemTotal" in line
    )
    machine = (
        f"Measured on {os.cpu_count()} processors, {int(memory) / 2**20:.0f} GiB, "
        f"Linux {platform.release().split('-')[0]}, Python {platform.python_version()}."
    )
    text = DOCUMENT.read_text()
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    DOCUMENT.write_text("\n".join([before + BEGIN, "", machine, "", *lines, "", END + after]))


if __name__ == "__main__":
    main()
