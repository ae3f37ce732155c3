"""Captures of real attempts, stored by tests/kernel/end_to_end/record_captures.py."""

from __future__ import annotations

import gzip
import os
from functools import cache
from pathlib import Path

from lab.observe.explain.events import Capture, decode
from lab.observe.explain.story import Story, story

HERE = Path(__file__).parent
CAPTURES = HERE / "captures"
GOLDEN = HERE.parent / "golden" / "observe"
NAMES = sorted(path.name.removesuffix(".json.gz") for path in CAPTURES.glob("*.json.gz"))


@cache
def capture(name: str) -> Capture:
    return decode(gzip.decompress((CAPTURES / f"{name}.json.gz").read_bytes()))


@cache
def told(name: str) -> Story:
    return story(capture(name))


def golden(name: str, text: str) -> None:
    """`text` is what tests/unit/golden/observe/<name> holds; LAB_UPDATE_GOLDEN=1 writes it."""
    path = GOLDEN / name
    if os.environ.get("LAB_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
