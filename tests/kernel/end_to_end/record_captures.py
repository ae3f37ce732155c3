"""Records the captures that the unit tests of `lab explain` look at.

    sudo .venv/bin/python -m tests.kernel.end_to_end.record_captures [NAME...]

The network of each is that of the shipped topology; then bring the golden
files up to date: LAB_UPDATE_GOLDEN=1 pytest tests/unit/observe.
"""

from __future__ import annotations

import gzip
import os
import sys
import tempfile
from pathlib import Path

import msgspec

from lab.agent import client
from lab.observe.explain.events import Capture, decode, encode
from lab.plan.model import Plan
from tests.kernel.end_to_end.support import Command
from tests.unit.observe.explain_support import CAPTURES

ATTEMPTS: dict[str, tuple[str, str, str]] = {
    "two-homes-udp-punch": ("two-homes", "udp-punch", ""),
    "two-homes-relay": ("two-homes", "relay", ""),
    "two-homes-tcp-punch": ("two-homes", "tcp-punch", ""),
    "symmetric-pair-udp-punch": ("symmetric-pair", "udp-punch", ""),
    "blocked-udp-udp-punch": ("blocked-udp", "udp-punch", ""),
    "single-nat-direct": ("single-nat", "direct", ""),
    "cgnat-udp-punch": ("cgnat", "udp-punch", ""),
    "dual-stack-udp-punch": ("dual-stack", "udp-punch", ""),
    "upnp-home-upnp": ("upnp-home", "upnp", ""),
    "http-only-relay": ("http-only", "relay", ""),
    "http-only-http": ("http-only", "http", ""),
    "corporate-relay": ("corporate", "relay", ""),
    "ipv6-only-udp-punch": ("ipv6-only", "udp-punch", ""),
    "nptv6-udp-punch": ("nptv6", "udp-punch", ""),
    "two-homes-ice": ("two-homes", "ice", ""),
    "two-homes-pcp": ("two-homes", "pcp", ""),
    "two-homes-lan": ("two-homes", "lan", ""),
    "partition-udp-punch": ("two-homes", "udp-punch", "partition alice / bob"),
    "lan-partition-direct": ("lan", "direct", "partition alice / bob"),
    "loss-udp-punch": ("two-homes", "udp-punch", "link set home-b internet loss=10%"),
    "cut-direct": ("two-homes", "direct", "link down home-b internet"),
}
"""By name: a shipped topology, a technique, and what is done to the lab before."""

SESSIONS: dict[str, tuple[str, str, str]] = {
    "session-reboot": ("two-homes", "routers.home-a.nat.ports=random", "nat reboot home-a"),
    "session-same-port": ("two-homes", "", "nat reboot home-a"),
    "session-roaming": ("mobile-handover", "timeline=[]", "move alice cell --link lte"),
}
"""By name: a shipped topology, a change of it, and what is done while a session goes on."""


def record(lab: Command, topology: str, technique: str, fault: str) -> bytes:
    """One attempt from alice to bob, as a capture."""
    name = lab.name()
    lab.ok("up", topology, "--name", name, "--runtime", "process", "--quiet")
    try:
        if fault:
            lab.ok(*fault.split(), "--lab", name)
        order = {
            "do": "explain",
            "local": "alice",
            "remote": "bob",
            "techniques": [technique],
            "first": False,
            "timeout_s": 10.0,
        }
        capture = decode(client.result(lab.paths(name), order)["capture"].encode())
    finally:
        lab.ok("down", name, "--quiet")
    return stored(capture, topology)


def record_session(lab: Command, topology: str, change: str, during: str) -> bytes:
    """One session of alice and bob, as a capture."""
    name = lab.name()
    lab.ok("up", topology, "--name", name, "--runtime", "process", "--quiet",
           *(("--set", change) if change else ()))  # fmt: skip
    try:
        order = {
            "do": "explain",
            "session": True,
            "local": "alice",
            "remote": "bob",
            "techniques": [],
            "timeout_s": 10.0,
            "keepalive_s": 15.0,
            "rate": 10.0,
        }
        answer = {}
        for answer in client.ask(lab.paths(name), order):
            if answer.get("event") == "ready":
                lab.ok(*during.split(), "--lab", name)
        capture = decode(answer["result"]["capture"].encode())
    finally:
        lab.ok("down", name, "--quiet")
    return stored(capture, topology)


def stored(capture: Capture, topology: str) -> bytes:
    """The capture as it is kept."""

    # What it was compiled from is neither needed nor anybody's business.
    def bare(plan: Plan) -> Plan:
        return msgspec.structs.replace(plan, topology=None, source="", lab=topology, timeline=())

    happened = tuple(
        msgspec.structs.replace(one, plan=bare(one.plan)) if one.plan else one
        for one in capture.happened
    )
    return encode(msgspec.structs.replace(capture, plan=bare(capture.plan), happened=happened))


def main(wanted: list[str]) -> None:
    """Record those that are named, or all."""
    with tempfile.TemporaryDirectory() as state:
        os.environ["LAB_STATE_DIR"] = state
        for name in wanted or (*ATTEMPTS, *SESSIONS):
            lab = Command(Path(state))
            if name in SESSIONS:
                found = record_session(lab, *SESSIONS[name])
            else:
                found = record(lab, *ATTEMPTS[name])
            data = gzip.compress(found, 9, mtime=0)
            (CAPTURES / f"{name}.json.gz").write_bytes(data)
            print(f"{name}: {len(data)} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
