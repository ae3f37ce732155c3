"""A search guided by coverage: `python -m tests.fuzz.guided [--seconds N | --runs N] [TARGET ...]`.

Each target has a process of its own, which libFuzzer ends.  What covers
something new is kept in `--found` (a folder for each target, used again by the
next search).  An input that is a fault is written there as `crash-<hash>`; when
the fault is mended, it goes into `corpus`.  Exit code 1 if there was one.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import atheris

READERS = (
    *("lab.peer", "lab.runtime.contract", "lab.observe.reported", "lab.observe.explain"),
    *("lab.agent.wire", "aioice.stun", "aioice.candidate"),
)
with atheris.instrument_imports(include=list(READERS)):
    from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).with_name("corpus")
LONGEST = 2048
"""Bytes of an input."""
HANG_S = 10
"""An input that takes longer is a fault."""


def search(name: str, found: Path, bound: str, seed: int) -> int:
    """Search with one target in a child process; 0 if there was no fault."""
    kept = found / name
    kept.mkdir(parents=True, exist_ok=True)
    log = found / f"{name}.log"
    child = os.fork()
    if not child:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        options = [
            f"-max_len={LONGEST}",
            f"-timeout={HANG_S}",
            f"-seed={seed}",
            f"-artifact_prefix={kept}/",
            bound,
        ]
        atheris.Setup([name, *options, str(kept), str(CORPUS / name)], TARGETS[name])
        atheris.Fuzz()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    lines = log.read_text(errors="replace").splitlines()
    done = [line for line in lines if line.startswith("Done ")]
    print(f"{name:14} {done[-1] if done else f'FAULT, see {log}'}", flush=True)
    return int(status != 0 or not done)


def main() -> int:
    """Search with all targets, or some."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=int, default=20, help="for each target (20)")
    parser.add_argument("--runs", type=int, default=0, help="so many for each, and not seconds")
    parser.add_argument("--seed", type=int, default=0, help="0 draws one (0)")
    parser.add_argument("--found", type=Path, help="folder for what is found (a temporary one)")
    asked = parser.parse_args()
    bound = f"-runs={asked.runs}" if asked.runs else f"-max_total_time={asked.seconds}"
    found = asked.found or Path(tempfile.mkdtemp(prefix="lab-fuzz-"))
    unknown = set(asked.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    return max(search(name, found, bound, asked.seed) for name in asked.targets or TARGETS)


if __name__ == "__main__":
    sys.exit(main())
