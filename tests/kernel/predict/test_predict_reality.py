"""Predictions against real kernels: all pairs, nested NATs, a common carrier, firewalls."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from nested_lab import OPEN, nested, some_nat

from lab.topology.behaviour import (
    Dependence,
    Direction,
    Firewall,
    Hairpin,
    Nat,
    Unsolicited,
    Verdict,
)

pytestmark = pytest.mark.kernel

STRICT = Nat()
STATEFUL = Firewall(inbound=Direction(default=Verdict.DROP))
EVERY_WAY = ("direct", "udp-punch", "relay")
PEERS = {"alice": "a0", "bob": "b0"}
BOTH_WAYS = (("alice", "bob"), ("bob", "alice"))


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch) -> Path:
    folder = tmp_path / "s"
    monkeypatch.setenv("LAB_STATE_DIR", str(folder))
    return folder


# --- the command ------------------------------------------------------------


def namespaces(of: str) -> list[str]:
    return [entry.name for entry in Path("/run/netns").glob(f"{of}*")]


def test_all_81_pairs_are_as_predicted_and_nothing_is_left(state: Path):
    command = [sys.executable, "-m", "lab", "matrix", "--labs", "4", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        answer = json.load(process.stdout)
        code = process.wait()
    wrong = [cell for cell in answer["cells"] if cell["predicted"] is not cell["found"]]
    assert (code, wrong) == (0, [])
    assert (answer["pairs"], answer["possible"], answer["contradictions"]) == (81, 57, 0)
    assert [namespaces(f"matrix-{n}-{process.pid}.") for n in range(4)] == [[]] * 4
    assert list(state.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_matrix_leaves_nothing(state: Path, number: signal.Signals):
    command = [sys.executable, "-m", "lab", "matrix", "--labs", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        # Nothing is said before the end, but the second lab's first attempt leaves a record.
        records = state / f"matrix-1-{process.pid}" / "attempts.jsonl"
        while not records.exists():
            assert process.poll() is None, process.stderr.read()
            os.sched_yield()
        process.send_signal(number)
        said = process.stderr.read()
        code = process.wait()
    assert (code, said.splitlines()[-1]) == (130, "interrupted")
    assert namespaces(f"matrix-0-{process.pid}.") == namespaces(f"matrix-1-{process.pid}.") == []
    assert list(state.iterdir()) == []


# --- what no table has ------------------------------------------------------


def test_two_nats_a_side():
    rng = random.Random(5)
    routers = {"a1": "internet", "a0": "a1", "b1": "internet", "b0": "b1"}
    wrong = []
    with nested("two-deep", routers, PEERS) as lab:
        for _ in range(10):
            for local, remote in BOTH_WAYS:
                wrong += lab.check({name: some_nat(rng) for name in routers}, local, remote)
        # A callee behind the touchy chain does not hear the caller; the other way it does.
        touchy = {
            "a0": STRICT, "a1": OPEN, "b0": STRICT,
            "b1": Nat(
                mapping=Dependence.ADDRESS_DEPENDENT, filtering=Dependence.ENDPOINT_INDEPENDENT
            ),
        }  # fmt: skip
        for local, remote in BOTH_WAYS:
            wrong += lab.check(touchy, local, remote)
    assert wrong == []


def test_nats_that_accept_what_nobody_asked_for():
    greedy = Nat(unsolicited=Unsolicited.ACCEPT)
    wrong = []
    with nested("greedy", {"a0": "internet", "b0": "internet"}, PEERS) as lab:
        for a in (greedy, STRICT):
            for local, remote in BOTH_WAYS:
                wrong += lab.check({"a0": a, "b0": greedy}, local, remote)
    assert wrong == []


def test_a_common_carrier():
    rng = random.Random(6)
    routers = {"carrier": "internet", "a0": "carrier", "b0": "carrier"}
    wrong = []
    with nested("common", routers, {"alice": "a0", "bob": "b0", "carol": "a0"}) as lab:
        for hairpin in Hairpin:
            for local, remote in (*BOTH_WAYS, ("alice", "carol")):
                for _ in range(3):
                    nats = {
                        "carrier": some_nat(rng, hairpin),
                        "a0": some_nat(rng, rng.choice(tuple(Hairpin))),
                        "b0": some_nat(rng),
                    }
                    wrong += lab.check(nats, local, remote)
    assert wrong == []


def test_firewalls_before_and_behind_nats():
    rng = random.Random(7)
    routers = {"a0": "internet", "b0": "internet"}
    peers = {"alice": "a0", "bob": "b0", "carol": "internet"}
    wrong = []
    with nested("walls", routers, peers) as lab:
        for local, remote in (*BOTH_WAYS, ("alice", "carol"), ("carol", "bob")):
            for walled in ("carol", "bob", "b0"):
                changed = {"a0": some_nat(rng), walled: STATEFUL}
                wrong += lab.check(changed, local, remote, EVERY_WAY)
    assert wrong == []


def test_a_router_that_is_not_what_it_claims_is_pointed_out(state: Path):
    def lab(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "lab", *words], capture_output=True, text=True, check=False
        )

    name = f"t-claims-{os.getpid()}"
    up = lab("up", "two-homes", "--name", name, "--runtime", "process")
    try:
        assert up.returncode == 0, up.stderr
        deaf = ("iptables", "-I", "FORWARD", "-p", "udp", "-i", "wan", "-j", "DROP")
        assert lab("exec", "--lab", name, "home-b", "--", *deaf).returncode == 0
        done = lab("connect", "alice", "bob", "--lab", name, "-t", "udp-punch")
    finally:
        lab("down", name)
    assert done.returncode == 1
    assert "not as declared, udp-punch: predicted success, found timed-out" in done.stderr
