"""Inputs that were interesting once, their neighbours, and a short search for new ones."""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).with_name("corpus")
RUNS = 500
"""Of the guided search, for each target."""


def test_every_reader_has_inputs():
    assert {entry.name for entry in CORPUS.iterdir()} == set(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_interesting_does_no_harm(name):
    rng = random.Random(name)
    for entry in sorted((CORPUS / name).iterdir()):
        data = entry.read_bytes()
        TARGETS[name](data)
        for _ in range(20):
            TARGETS[name](_damaged(data, rng))


def _damaged(data: bytes, rng: random.Random) -> bytes:
    """`data` with some bytes changed, and cut or repeated somewhere."""
    changed = bytearray(data)
    for _ in range(rng.randint(0, 4)):
        if changed:
            changed[rng.randrange(len(changed))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, 0x30))
    at, to = sorted(rng.randint(0, len(changed)) for _ in range(2))
    match rng.randrange(4):
        case 0:
            del changed[at:to]
        case 1:
            changed[at:at] = changed[at:to]
        case 2:
            del changed[to:]
        case _:
            pass
    return bytes(changed)


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is missing")
def test_a_search_guided_by_coverage_finds_no_fault(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.fuzz.guided",
            f"--runs={RUNS}",
            "--seed=7",
            f"--found={tmp_path}",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("Done ") == len(TARGETS)
