"""Records the captures that the unit tests of `lab explain` look at.

    sudo .venv/bin/python -m tests.kernel.end_to_end.record_captures

The network of each is that of the shipped topology; then bring the golden
files up to date: LAB_UPDATE_GOLDEN=1 pytest tests/unit/observe.
"""

from __future__ import annotations

import gzip
import os
import tempfile
from pathlib import Path

import msgspec

from lab.agent import client
from lab.observe.explain.events import decode, encode
from tests.kernel.end_to_end.support import Command
from tests.unit.observe.explain_support import CAPTURES

ATTEMPTS = (
    ("two-homes", "udp-punch"),
    ("two-homes", "relay"),
    ("two-homes", "tcp-punch"),
    ("symmetric-pair", "udp-punch"),
    ("blocked-udp", "udp-punch"),
    ("single-nat", "direct"),
    ("cgnat", "udp-punch"),
    ("dual-stack", "udp-punch"),
    ("upnp-home", "upnp"),
    ("http-only", "relay"),
)


def record(lab: Command, topology: str, technique: str) -> bytes:
    """One attempt from alice to bob, as a capture."""
    lab.ok("up", topology, "--runtime", "process", "--quiet")
    try:
        order = {
            "do": "explain",
            "local": "alice",
            "remote": "bob",
            "techniques": [technique],
            "first": False,
            "timeout_s": 10.0,
        }
        capture = decode(client.result(lab.paths(topology), order)["capture"].encode())
    finally:
        lab.ok("down", topology, "--quiet")
    # What it was compiled from is neither needed nor anybody's business.
    plan = msgspec.structs.replace(capture.plan, topology=None, source="")
    return encode(msgspec.structs.replace(capture, plan=plan))


def main() -> None:
    """Record them all."""
    with tempfile.TemporaryDirectory() as state:
        os.environ["LAB_STATE_DIR"] = state
        for topology, technique in ATTEMPTS:
            data = gzip.compress(record(Command(Path(state)), topology, technique), 9, mtime=0)
            (CAPTURES / f"{topology}-{technique}.json.gz").write_bytes(data)
            print(f"{topology}-{technique}: {len(data)} bytes")


if __name__ == "__main__":
    main()
