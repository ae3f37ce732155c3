"""What a NAT costs a packet: each kind beside plain routing and plain MASQUERADE, in one run.

`python -m tests.bench.nat [--rounds 5] [--json FILE]`, as root.

A host, a router, a host, on bare veth.  iperf3 measures TCP; datagrams of 64
bytes leave one socket as fast as it can, and are counted where they arrive
and dropped there, so that no reader competes for the processors.  The kinds
take turns, each with plain MASQUERADE right before and right after it, so that
whatever else the machine does slows both alike; the median of the rounds
counts.  Packets are counted by the sender's processor time, TCP by the clock.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import secrets
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.fabric import netns, rules
from lab.paths import NETNS_DIR
from lab.plan.model import Interface, Node, NodeKind
from lab.topology.behaviour import (
    Dependence,
    Hairpin,
    Lifetimes,
    Nat,
    Pooling,
    PortPolicy,
    Ports,
    Refresh,
)

EIM, ADM, APDM = Dependence
RANDOM = Ports(policy=PortPolicy.RANDOM)
EXTERNAL = ("45.0.0.2", "45.0.0.3")
DISCARD = 9
SINK = """
table ip sink {
    chain discard {
        type filter hook prerouting priority raw
        udp dport 9 drop
    }
}
"""
INSIDE, SERVER = "192.168.1.2", "45.0.0.11"

MASQUERADE = "*nat\n-A POSTROUTING -o wan -j MASQUERADE\nCOMMIT\n"
BASE = "plain MASQUERADE"
WARM_S, MEASURE_S = 0.02, 0.08
TCP_SIZE = "600M"
KINDS = {
    "home": Nat(),
    "full cone": Nat(filtering=EIM),
    "restricted cone": Nat(filtering=ADM),
    "symmetric, random": Nat(mapping=APDM, ports=RANDOM),
    "symmetric, sequential": Nat(mapping=APDM, ports=Ports(policy=PortPolicy.SEQUENTIAL)),
    "address-dependent both ways": Nat(mapping=ADM, filtering=ADM, ports=RANDOM),
    "carrier, blocks, hairpin": Nat(
        filtering=EIM,
        ports=Ports(policy=PortPolicy.BLOCK, block=512),
        hairpin=Hairpin.EXTERNAL_SOURCE,
    ),
    "overloading": Nat(ports=Ports(overload=True)),
    "pool of two": Nat(filtering=EIM, pool=2, pooling=Pooling.ARBITRARY),
    "outbound refresh, permissions": Nat(
        filtering=ADM, lifetimes=Lifetimes(permission_s=60, refresh=Refresh.OUTBOUND)
    ),
}


def rule_set(nat: Nat) -> rules.RuleSet:
    """The rules of a router with `nat`."""
    wan = tuple(f"{address}/24" for address in EXTERNAL[: nat.pool])
    return rules.render(
        Node(
            name="router",
            kind=NodeKind.ROUTER,
            interfaces=(
                Interface(name="wan", addresses=wan),
                Interface(name="lan", addresses=("192.168.1.1/24",)),
            ),
            forwarding=True,
            wan="wan",
            lan="lan",
            nat=nat,
            subscribers=(INSIDE,),
        )
    )


@dataclass(frozen=True, slots=True)
class Bed:
    """Three namespaces in a row."""

    prefix: str

    def path(self, name: str) -> Path:
        return NETNS_DIR / f"{self.prefix}.{name}"

    def run(self, name: str, *command: str, text: str = "") -> str:
        """The output of a command in a namespace."""
        with netns.inside(self.path(name)):
            done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
        return done.stdout

    def ip(self, name: str, *lines: str) -> None:
        self.run(name, "ip", "-b", "-", text="\n".join(lines))


@contextlib.contextmanager
def bed() -> Iterator[Bed]:
    """The row, gone afterwards."""
    made = Bed(f"b-nat-{secrets.token_hex(3)}")
    names = ("inside", "router", "outside")
    try:
        for name in names:
            netns.create(made.path(name))
        made.ip(
            "router",
            f"link add lan type veth peer name eth0 netns {made.path('inside').name}",
            f"link add wan type veth peer name eth0 netns {made.path('outside').name}",
            "addr add 192.168.1.1/24 dev lan",
            *(f"addr add {address}/24 dev wan" for address in EXTERNAL),
            "link set lan up",
            "link set wan up",
        )
        made.run("router", "sysctl", "-qw", "net.ipv4.ip_forward=1")
        up = ("link set eth0 up", "link set lo up")
        made.ip(
            "inside", f"addr add {INSIDE}/24 dev eth0", *up, "route add default via 192.168.1.1"
        )
        # Plain routing needs the way back.
        made.ip(
            "outside",
            f"addr add {SERVER}/24 dev eth0",
            *up,
            f"route add 192.168.1.0/24 via {EXTERNAL[0]}",
        )
        made.run("outside", "nft", "-f", "-", text=SINK)
        yield made
    finally:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                netns.delete(made.path(name))


def packet_rate(made: Bed) -> float:
    """Thousands of datagrams of one flow that arrived, per second of processor time.

    The sender's own time: routers and wires run within its call.  What other
    programs of the machine do meanwhile is not in it.
    """
    with netns.inside(made.path("inside")):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.connect((SERVER, DISCARD))
        data = bytes(64)
        for seconds in (WARM_S, MEASURE_S):
            before, began = received(made), time.thread_time()
            while time.thread_time() - began < seconds:
                for _ in range(256):
                    sock.send(data)
            took = time.thread_time() - began
    return (received(made) - before) / took / 1e3


def received(made: Bed) -> int:
    """Packets that the server's interface has received."""
    shown = json.loads(made.run("outside", "ip", "-s", "-j", "link", "show", "dev", "eth0"))
    return int(next(link for link in shown if link)["stats64"]["rx"]["packets"])


def throughput(made: Bed) -> float:
    """Gigabits per second of one TCP connection."""
    with netns.inside(made.path("outside")):
        server = subprocess.Popen(
            ["iperf3", "-s", "-1", "--forceflush"], stdout=subprocess.PIPE, text=True
        )
    assert server.stdout
    while "listening" not in server.stdout.readline():
        pass
    try:
        said = made.run("inside", "iperf3", "-J", "-n", TCP_SIZE, "-c", SERVER)
    finally:
        server.communicate(timeout=10)
    return float(json.loads(said)["end"]["sum_received"]["bits_per_second"]) / 1e9


Figures = dict[str, list[float]]


def compare(made: Bed, measure: Callable[[Bed], float], rounds: int) -> tuple[Figures, Figures]:
    """What `measure` says of each kind, and its ratio to plain MASQUERADE around it."""
    kinds = {
        "plain routing": rules.RuleSet(),
        **{name: rule_set(nat) for name, nat in KINDS.items()},
    }
    plain = rules.RuleSet(ip4=MASQUERADE)

    def with_rules(wanted: rules.RuleSet) -> float:
        with netns.inside(made.path("router")):
            rules.load(wanted)
            rules.reset(wanted)
        return measure(made)

    figures: Figures = {name: [] for name in (*kinds, BASE)}
    ratios: Figures = {name: [] for name in (*kinds, BASE)}
    for _ in range(rounds):
        before = with_rules(plain)
        for name, wanted in kinds.items():
            found, after = with_rules(wanted), with_rules(plain)
            figures[name].append(found)
            ratios[name].append(2 * found / (before + after))
            # What it says of itself is how exact the rest is.
            figures[BASE].append(after)
            ratios[BASE].append(after / before)
            before = after
    return figures, ratios


def main() -> int:
    """Measure, and print the report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--json", type=Path, help="write the report here, too")
    given = options.parse_args()
    measured: dict[str, dict[str, float]] = {}
    ratio: dict[str, dict[str, float]] = {}
    with bed() as made:
        for unit, measure, rounds in (
            ("gbit", throughput, given.rounds),
            ("kpps", packet_rate, 2 * given.rounds),
        ):
            figures, ratios = compare(made, measure, rounds)
            for name in figures:
                measured.setdefault(name, {})[unit] = statistics.median(figures[name])
                ratio.setdefault(name, {})[unit] = statistics.median(ratios[name])
    report = json.dumps({"measured": measured, "ratio": ratio}, indent=2)
    if given.json:
        given.json.write_text(report + "\n", encoding="ascii")
    print(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
