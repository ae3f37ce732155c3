"""Whether and how fast two peers connect: punching, guessing, hairpins, relays."""

from __future__ import annotations

import math
import random
import select
import socket
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from msgspec.structs import replace

from lab.agent import client
from lab.cli.planning import load_file
from lab.cli.scratch import scratch_labs, scratch_name
from lab.fabric import netns, rules
from lab.paths import LabPaths
from lab.peer.endpoint import parse_list
from lab.plan.compile import compile_topology
from lab.plan.machine import Machine
from lab.plan.model import Plan, encode
from lab.study.matrix import two_homes
from lab.topology.behaviour import Hairpin, Nat, PortPolicy, Ports, Unsolicited
from tests.bench.reference_classes import nat
from tests.bench.reference_result import Result, share, wilson

FULL, RESTRICTED, STRICT, SYMMETRIC = (nat(index) for index in (0, 1, 2, 8))
COUNTING = replace(SYMMETRIC, ports=Ports(policy=PortPolicy.SEQUENTIAL))
NEAR = ("routers.home-a.link=", "routers.home-b.link=", "nodes.alice.link=", "nodes.bob.link=")
"""Of two-homes: no lines but the internet's."""
Record = dict[str, Any]


class Lab:
    """A running lab of alice and bob, whose routers change."""

    def __init__(self, plan: Plan, paths: LabPaths) -> None:
        self.plan = plan
        self.paths = paths
        self.ask = partial(client.ask, paths)

    def use(self, nats: Mapping[str, Nat]) -> None:
        """Give routers these NATs."""
        nodes = (replace(n, nat=nats[n.name]) if n.name in nats else n for n in self.plan.nodes)
        self.plan = replace(self.plan, nodes=tuple(nodes))
        for _ in self.ask({"do": "apply", "plan": encode(self.plan).decode()}):
            pass

    def homes(self, caller: Nat, callee: Nat) -> None:
        """Give alice's and bob's homes these NATs."""
        self.use({"home-a": caller, "home-b": callee})

    def connect(
        self, technique: str, ends: tuple[str, str] = ("alice", "bob"), **options: float
    ) -> Record:
        """One attempt."""
        order = {
            "do": "connect", "local": ends[0], "remote": ends[1], "techniques": [technique],
            "first": False, "timeout_s": 20.0, "goodput_s": 0.0, "options": options,
        }  # fmt: skip
        (found,) = (a["record"] for a in self.ask(order) if a.get("event") == "attempt")
        return dict(found)


@contextmanager
def near() -> Iterator[Lab]:
    """Two homes without delay."""
    plan = two_homes(scratch_name("reference"))
    with scratch_labs([plan]) as (paths,):
        yield Lab(plan, paths)


@contextmanager
def shipped(name: str, *overrides: str) -> Iterator[Lab]:
    """A topology that ships, with changes."""
    topology = load_file(name, overrides)
    plan = compile_topology(topology, Machine(netem=False), lab=scratch_name("reference"))
    with scratch_labs([plan]) as (paths,):
        yield Lab(plan, paths)


def works(record: Record) -> bool:
    """Whether it connected them."""
    return record["outcome"] in ("success", "reversed")


def outward(record: Record) -> list[str]:
    """How the tries towards the other's external address ended."""
    return [one["outcome"] for one in record["tries"] if one["remote"].startswith("45.")]


def repeats(usual: int, part: float) -> int:
    return max(2, round(usual * part))


# --- N4: a hole that is there when the second probe comes --------------------


def late_hole(part: float, rng: random.Random) -> Iterator[Result]:
    """Address-restricted against symmetric."""
    count = repeats(30, part)
    took = {}
    with near() as lab:
        for name, other in (("symmetric", SYMMETRIC), ("restricted", RESTRICTED)):
            lab.homes(RESTRICTED, other)
            records = [lab.connect("udp-punch") for _ in range(count)]
            assert all(works(record) for record in records)
            took[name] = statistics.median(record["time_to_path_s"] for record in records)
    more = (took["symmetric"] - took["restricted"]) * 1000
    yield Result(
        f"UDP punch, restricted with symmetric, {count} times, median of what it takes longer "
        "than restricted with restricted",
        "one retransmission: 51 ± 15 ms",
        f"{more:.0f} ms",
        abs(more - 51) <= 15,
        f"restricted with restricted: {took['restricted'] * 1000:.0f} ms in all",
    )


# --- N7: what comes early ------------------------------------------------


def race(part: float, rng: random.Random) -> Iterator[Result]:
    """UDP punching past routers that take early packets for their own."""
    count = repeats(10, part)
    greedy = replace(STRICT, unsolicited=Unsolicited.ACCEPT)
    good = {}
    with near() as lab:
        for one in (greedy, STRICT):
            lab.homes(one, one)
            records = [lab.connect("udp-punch", late_s=0.5, window_s=1.5) for _ in range(count)]
            good[one.unsolicited] = sum(works(record) for record in records)
    yield Result(
        f"UDP punch, 0.5 s skew, routers that accept what comes early, {count} times",
        "0 %",
        share(good[Unsolicited.ACCEPT], count),
        good[Unsolicited.ACCEPT] == 0 and good[Unsolicited.DROP] == count,
        f"DROP: {share(good[Unsolicited.DROP], count)}",
    )


# --- N8, N10: guessing -------------------------------------------------------


def prediction(part: float, rng: random.Random) -> Iterator[Result]:
    """A counting NAT that nobody else uses; beside others: tests.bench.guessing."""
    count = repeats(20, part)
    good = dict.fromkeys(("udp-predict", "tcp-predict", "udp-punch"), 0)
    with near() as lab:
        lab.homes(COUNTING, STRICT)
        for technique in good:
            for _ in range(count if technique != "udp-punch" else 3):
                good[technique] += works(lab.connect(technique, window_s=1.0))
    yield Result(
        f"prediction, counting with port-restricted, no other flows, {count} times each",
        "100 %",
        f"UDP {share(good['udp-predict'], count)}, TCP {share(good['tcp-predict'], count)}",
        good["udp-predict"] == good["tcp-predict"] == count and not good["udp-punch"],
        f"punching without prediction: {good['udp-punch']} of 3",
    )


def both_hard(part: float, rng: random.Random) -> Iterator[Result]:
    """Two symmetric NATs with few ports: every packet of one side at every hole of the other."""
    ports, packets, count = 1024, 724, repeats(80, part)
    narrow = replace(SYMMETRIC, ports=Ports(policy=PortPolicy.RANDOM, first=40000, last=41023))
    first = narrow.ports.first
    span = range(first, first + ports)
    with near() as lab:
        lab.homes(narrow, narrow)
        met = sum(_meet(lab, span, packets, packets, rng) for _ in range(count))
        blind = sum(_meet(lab, span, packets, 0, rng) for _ in range(count // 8))
    computed = 1 - math.exp(-packets * packets / ports**2)
    low, high = wilson(met, count)
    yield Result(
        f"two symmetric NATs of {ports} ports each, {packets} packets from either side, "
        f"{count} times",
        f"1 - exp(-nm/R²) = {computed:.1%}, within the 99 % interval",
        share(met, count),
        low <= computed <= high and blind == 0,
        f"one side sends nothing: {blind} of {count // 8}",
    )


def _meet(lab: Lab, span: range, n: int, m: int, rng: random.Random) -> bool:
    """Whether a packet of the two sides comes through, on NATs that know nothing before."""
    for node in lab.plan.nodes:
        if node.nat:
            with netns.inside(lab.paths.netns(node.name)):
                rules.reset(rules.render(node))
    made = []
    for name in ("alice", "bob"):
        with netns.inside(lab.paths.netns(name)):
            made.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    alice, bob = made
    with alice, bob:
        sides = (
            (alice, "45.0.0.6", rng.sample(span, n)),
            (bob, "45.0.0.2", rng.sample(span, m)),
        )
        # What comes through needs the hole of the other side's packet, so one side sends again.
        for sock, other, ports in (*sides, sides[0]):
            for port in ports:
                sock.sendto(b"anybody?", (other, port))
        return bool(select.select(made, [], [], 0.05)[0])


# --- N13: at the first try ---------------------------------------------------


def first_try(part: float, rng: random.Random) -> Iterator[Result]:
    """Punching started half a round trip after the answer, and not."""
    count = repeats(20, part)
    resetting = replace(STRICT, unsolicited=Unsolicited.RST)
    first: dict[tuple[str, int], int] = {}
    connects: dict[int, float] = {}
    with shipped("two-homes") as lab:
        lab.homes(STRICT, STRICT)
        for technique in ("udp-punch", "tcp-punch"):
            for synchronised in (1, 0):
                records = [lab.connect(technique, synchronised=synchronised) for _ in range(count)]
                first[technique, synchronised] = sum(works(record) for record in records)
        lab.homes(resetting, resetting)
        for synchronised in (1, 0):
            records = [
                lab.connect("tcp-punch", synchronised=synchronised, window_s=15.0)
                for _ in range(count)
            ]
            first["rst", synchronised] = sum(outward(r) == ["success"] for r in records)
            connects[synchronised] = statistics.mean(len(outward(r)) for r in records)
    yield Result(
        f"punch between two homes with real lines and jitter, {count} times each, synchronised",
        "≥ 97 % at the first try",
        f"UDP {share(first['udp-punch', 1], count)}, TCP {share(first['tcp-punch', 1], count)}",
        min(first["udp-punch", 1], first["tcp-punch", 1]) >= 0.97 * count,
        f"not synchronised: UDP {first['udp-punch', 0]}, TCP {first['tcp-punch', 0]} of {count}",
    )
    yield Result(
        "the same by TCP past NATs that reset: the first connect is the last",
        "synchronised more often than not",
        f"{share(first['rst', 1], count)}, {connects[1]:.1f} connects on average",
        first["rst", 1] > first["rst", 0],
        f"not synchronised: {share(first['rst', 0], count)}, {connects[0]:.1f} connects",
    )


# --- N18, N20 ----------------------------------------------------------------


def hairpin(part: float, rng: random.Random) -> Iterator[Result]:
    """Two homes behind one carrier, and two hosts in one home."""
    found = {}
    with shipped("cgnat") as lab:
        carrier = next(node for node in lab.plan.nodes if node.name == "carrier")
        assert carrier.nat is not None
        for way in Hairpin:
            lab.use({carrier.name: replace(carrier.nat, hairpin=way)})
            found[way] = works(lab.connect("udp-punch", window_s=1.0))
    with shipped("cgnat", "nodes.bob.via=home-a") as lab:
        lab.use({"home-a": STRICT, "carrier": STRICT})
        private = works(lab.connect("udp-punch", window_s=1.0))
    yield Result(
        "UDP punch, two peers behind one carrier, homes that filter by port",
        "iff the carrier turns packets around and shows their external source "
        "(RFC 4787, REQ-9a), or there is a private candidate",
        f"external source: {_yes(found[Hairpin.EXTERNAL_SOURCE])}, in one home without any "
        f"hairpin: {_yes(private)}",
        found[Hairpin.EXTERNAL_SOURCE] and private and not found[Hairpin.OFF],
        f"off: {_yes(found[Hairpin.OFF])}, internal source: {_yes(found[Hairpin.INTERNAL_SOURCE])}",
    )


def costs(part: float, rng: random.Random) -> Iterator[Result]:
    """What a relay and a tunnel cost."""
    with shipped("blocked-udp") as lab:
        relay, http, punch = (lab.connect(t) for t in ("relay", "http", "udp-punch"))
        legs = {name: _leg(lab, name) * 1000 for name in ("alice", "bob")}
        reversal = lab.connect("reversal", window_s=1.0)
    trip, total = relay["rtt_after_s"] * 1000, sum(legs.values())
    yield Result(
        "RTT by a relay; the legs by TCP connects to it",
        f"the sum of the legs, {legs['alice']:.1f} + {legs['bob']:.1f} ms, ± 10 %",
        f"{trip:.1f} ms",
        abs(trip - total) <= 0.1 * total,
        f"without it: udp-punch {punch['outcome']}, reversal {reversal['outcome']}",
    )
    yield Result(
        "HTTP tunnel where UDP is blocked",
        "connects; cost reported",
        f"RTT {http['rtt_after_s'] * 1000:.1f} ms; {http['overhead']['packets']} packets and "
        f"{http['overhead']['bytes']} bytes to set up (relay: {relay['overhead']['packets']} and "
        f"{relay['overhead']['bytes']})",
        works(http),
    )


def _leg(lab: Lab, name: str) -> float:
    """The least of ten round trips of a SYN between a peer and the relay, in seconds."""
    node = next(node for node in lab.plan.nodes if node.name == name)
    assert node.program is not None
    server = parse_list(dict(node.program.env)["LAB_RELAY"])[0]
    took = []
    for _ in range(10):
        with netns.inside(lab.paths.netns(name)):
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        with sock:
            began = time.monotonic()
            sock.connect((server.address, server.port))
            took.append(time.monotonic() - began)
    return min(took)


def _yes(good: bool) -> str:
    return "yes" if good else "no"
