"""Predictions about IPv6 against real kernels: every kind of home with every other."""

from __future__ import annotations

import itertools
import os
import random
import string
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lab.agent import client
from lab.paths import LabPaths
from lab.plan.model import decode
from lab.predict import contradictions, predict

pytestmark = pytest.mark.kernel

LAB = """\
name: families
ip: dual
internet: 0ms
routers:
  home-a: {nat: symmetric}
  home-b: {nat: symmetric}
  open-c: {nat: home, firewall: open}
  office: {nat: home, firewall: udp-blocked}
  site: {nat: home, nptv6: true}
  mobile: {ip: 6, nat64: true}
  four: {ip: 4, nat: home}
  servers-only: {ip: 6, firewall: {outbound: [udp/3478, tcp]}}
nodes:
  stun: {via: internet, service: stun}
  rendezvous: {via: internet, service: rendezvous}
  relay: {via: internet, service: relay}
  alice: {via: home-a, peer: true}
  bob: {via: home-b, peer: true}
  carol: {via: open-c, peer: true}
  dave: {via: office, peer: true}
  nina: {via: site, peer: true}
  phone: {via: mobile, peer: true}
  fred: {via: four, peer: true}
  ines: {via: servers-only, peer: true}
"""
FEW = """\
name: few
ip: dual
internet: 0ms
routers:
  home: {nat: symmetric}
  six: {ip: 6, firewall: stateful}
  shut: {ip: 6, firewall: udp-blocked}
  four: {ip: 4, nat: home}
nodes:
  rendezvous: {via: internet, service: rendezvous}
  relay: {via: internet, service: coturn}
  alice: {via: home, peer: true}
  sue: {via: six, peer: true}
  tom: {via: shut, peer: true}
  fred: {via: four, peer: true}
"""
PEERS = ("alice", "bob", "carol", "nina", "phone", "fred")
# Who waits for UDP in vain takes long.
WITHOUT_UDP = [("dave", "alice"), ("phone", "dave")]
# What she may not send to may send to her.
INBOUND = [("phone", "ines"), ("ines", "phone"), ("alice", "ines")]
TECHNIQUES = ("direct", "udp-punch", "relay")


class Lab:
    def __init__(self, folder: Path, text: str):
        self.name = "t-six-" + "".join(random.choices(string.ascii_lowercase, k=6))
        self.state = folder
        file = folder / "families.yaml"
        file.write_text(text)
        done = self.run("up", str(file), "--name", self.name, "--runtime", "process", "--quiet")
        assert done.returncode == 0, done.stderr
        self.paths = LabPaths(folder / self.name)
        self.plan = decode(self.paths.plan.read_bytes())

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("LAB_")}
        return subprocess.run(
            [sys.executable, "-m", "lab", *arguments],
            env=kept | {"LAB_STATE_DIR": str(self.state)},
            text=True,
            capture_output=True,
            timeout=110,
            check=False,
        )

    def connect(self, a: str, b: str, *techniques: str) -> list[dict]:
        order = {
            "do": "connect", "local": a, "remote": b, "techniques": techniques,
            "first": False,
        }  # fmt: skip
        answers = client.ask(self.paths, order)
        return [answer["record"] for answer in answers if answer.get("event") == "attempt"]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("six"), LAB)
    try:
        yield lab
    finally:
        lab.run("down", lab.name, "--quiet")


def one_way(peers: tuple[str, ...]) -> list[tuple[str, str]]:
    """Each pair in one direction, half of them the other way round."""
    pairs = itertools.combinations(peers, 2)
    return [pair[::-1] if number % 2 else pair for number, pair in enumerate(pairs)]


def test_every_pair_is_as_predicted(lab: Lab):
    pairs = [*one_way(PEERS), *WITHOUT_UDP, *INBOUND]
    with ThreadPoolExecutor(len(pairs)) as pool:
        records = list(pool.map(lambda pair: lab.connect(*pair, *TECHNIQUES), pairs))
    wrong = {
        pair: (found, [(one["outcome"], one["reason"], one["distorted"]) for one in attempts])
        for pair, attempts in zip(pairs, records, strict=True)
        if (found := contradictions(lab.plan, *pair, attempts))
    }
    assert not wrong, wrong
    # Nobody is left without any path here.
    assert all(predict(lab.plan, *pair).possible for pair in pairs)


@pytest.mark.parametrize(
    ("a", "b", "local", "remote"),
    [
        ("alice", "bob", "[2a02:", "[2a02:"),
        ("nina", "alice", "[2a02:", "[2a02:"),
        ("phone", "fred", "45.0.", "45.0."),
        ("phone", "alice", "[2a02:", "[2a02:"),
        ("fred", "carol", "45.0.", "45.0."),
    ],
)
def test_the_record_says_over_which_family(lab: Lab, a: str, b: str, local: str, remote: str):
    (record,) = lab.connect(a, b, "udp-punch")
    assert record["outcome"] == "success", record["reason"]
    assert record["local_candidate"]["endpoint"].startswith(local)
    assert record["remote_candidate"]["endpoint"].startswith(remote)


def test_a_real_coturn_relays_from_one_family_to_the_other(tmp_path: Path):
    few = Lab(tmp_path, FEW)
    try:
        pairs = one_way(("fred", "sue", "tom", "alice"))
        with ThreadPoolExecutor(len(pairs)) as pool:
            found = dict(
                zip(pairs, pool.map(lambda pair: few.connect(*pair, "relay"), pairs), strict=True)
            )
        assert {pair: record["outcome"] for pair, (record,) in found.items()} == dict.fromkeys(
            pairs, "success"
        )
        assert all(predict(few.plan, *pair).of("relay").possible for pair in pairs)
    finally:
        few.run("down", few.name, "--quiet")
