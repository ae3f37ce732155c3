"""Published results of NAT traversal, measured anew: docs/reference.md.

`python -m tests.bench.reference [N1 N6 ...] [--share 1] [--seed 1] [--write]`, as root.

Each target is an experiment on real kernels with an expected value, a
tolerance, a source, and a control: the same experiment without that on which
the result depends.  `--share` is the part of the repetitions that is wanted.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench import reference_classes as classes
from tests.bench import reference_ice as ice
from tests.bench import reference_paths as paths
from tests.bench import reference_resets as resets
from tests.bench.reference_result import Result

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference.md"
BEGIN, END = "<!-- made by python -m tests.bench.reference --write -->", "<!-- end -->"
HEAD = ["| | experiment | expected | measured | met | control |", "|---|---|---|---|---|---|"]

Experiment = Callable[[float, random.Random], Iterator[Result]]
TARGETS: dict[str, Experiment] = {
    "N1": classes.labels,
    "N2": classes.black_hole,
    "N4": paths.late_hole,
    "N6": resets.resets,
    "N7": paths.race,
    "N8": paths.prediction,
    "N10": paths.both_hard,
    "N13": paths.first_try,
    "N18": paths.hairpin,
    "N19": classes.nested,
    "N20": paths.costs,
    "N22": ice.pairs,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="TARGET", choices=[*TARGETS, []])
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="into docs/reference.md")
    given = parser.parse_args()
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LAB_STATE_DIR"] = folder
        for name in given.names or TARGETS:
            began = time.monotonic()
            found = list(TARGETS[name](given.share, random.Random(given.seed)))
            lines = [result.text(name) for result in found]
            print("\n".join(lines), flush=True)
            print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
            if given.write:
                write(name, lines)
            results += found
    return 0 if all(result.met for result in results) else 1


def write(name: str, lines: list[str]) -> None:
    """Replace the lines of one target in the document."""
    text = DOCUMENT.read_text()
    before, _, rest = text.partition(BEGIN)
    old, _, after = rest.partition(END)
    kept = [line for line in old.splitlines() if line.startswith("| N")]
    kept = [line for line in kept if not line.startswith(f"| {name} ")]
    rows = sorted(kept + lines, key=lambda line: int(line.split()[1][1:]))
    DOCUMENT.write_text("\n".join([before + BEGIN, "", *HEAD, *rows, "", END + after]))


if __name__ == "__main__":
    raise SystemExit(main())
