"""What a STUN client takes the NATs before it for (RFC 3489), and how long it asks."""

from __future__ import annotations

import itertools
import random
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from msgspec.structs import replace

from lab.agent import client
from lab.cli.scratch import scratch_labs, scratch_name
from lab.fabric import netns
from lab.paths import LabPaths
from lab.peer.endpoint import Endpoint
from lab.peer.machine import Machine
from lab.peer.stun.classify import Kind, Pace, rfc3489
from lab.peer.stun.codec import Method, request
from lab.peer.stun.transaction import RFC_3489, Transaction
from lab.plan.compile import compile_topology
from lab.plan.machine import Machine as Host
from lab.plan.model import Plan, encode
from lab.predict.pairs import KINDS
from lab.topology.behaviour import (
    Direction,
    Firewall,
    Nat,
    PortPolicy,
    Ports,
    Rule,
    Verdict,
)
from lab.topology.model import NodeSpec, RouterSpec, Topology
from lab.verify.peers import servers_of
from tests.bench.reference_result import Result

PACE = Pace(interval=0.3, patience=1.0)
_DROP = Direction(default=Verdict.DROP)
_NO_UDP = Direction(rules=(Rule(verdict=Verdict.DROP, protocol="udp"),))


def nat(index: int) -> Nat:
    """One of RFC 4787's nine kinds, with ports at random."""
    kind = KINDS[index]
    ports = Ports(policy=PortPolicy.RANDOM)
    return Nat(mapping=kind.mapping, filtering=kind.filtering, ports=ports)


Router = tuple[Nat, Firewall | None]
ROUTERS: dict[Kind, Router] = {
    Kind.FULL_CONE: (nat(0), None),
    Kind.RESTRICTED_CONE: (nat(1), None),
    Kind.PORT_RESTRICTED_CONE: (nat(2), None),
    Kind.SYMMETRIC: (nat(8), None),
    Kind.BLOCKED: (nat(2), Firewall(outbound=_NO_UDP)),
}
"""From the most open to the most restrictive."""


@dataclass
class Lab:
    """A host on the internet, one behind a router, and one behind two."""

    plan: Plan
    paths: LabPaths

    def use(self, routers: dict[str, Router], firewall: Firewall | None = None) -> None:
        """Give routers these behaviours, and the host on the internet a firewall."""
        nodes = []
        for node in self.plan.nodes:
            if node.name in routers:
                its_nat, wall = routers[node.name]
                nodes.append(replace(node, nat=its_nat, firewall=wall))
            elif node.name == "carol":
                nodes.append(replace(node, firewall=firewall))
            else:
                nodes.append(node)
        self.plan = replace(self.plan, nodes=tuple(nodes))
        order = {"do": "apply", "plan": encode(self.plan).decode()}
        for _ in client.ask(self.paths, order):
            pass

    @contextmanager
    def socket(self, node: str) -> Iterator[socket.socket]:
        """A UDP socket on a fresh port of a node."""
        address = next(
            text.partition("/")[0]
            for each in self.plan.nodes
            if each.name == node
            for interface in each.interfaces
            for text in interface.addresses
        )
        with netns.inside(self.paths.netns(node)):
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with made:
            made.bind((address, 0))
            made.setblocking(False)
            yield made

    def classify(self, node: str, times: int = 1) -> list[Kind]:
        """What a client in `node` finds, so many times from one port."""
        server = servers_of(self.plan)[0].first
        found = []
        with self.socket(node) as sock:
            local = Endpoint(*sock.getsockname())
            for _ in range(times):
                machine = rfc3489(server, local, time.monotonic(), PACE)
                drive(sock, machine)
                assert machine.result is not None
                found.append(machine.result)
        return found


def drive(sock: socket.socket, machine: Machine) -> list[float]:
    """Let a machine have a socket until it wants nothing more; when it sent."""
    sent = []
    while True:
        machine.tick(time.monotonic())
        for packet in machine.take():
            sent.append(time.monotonic())
            sock.sendto(packet.payload, tuple(packet.destination)[:2])
        due = machine.deadline()
        if due is None:
            return sent
        if select.select([sock], [], [], max(0.0, due - time.monotonic()))[0]:
            data, source = sock.recvfrom(4096)
            machine.receive(data, Endpoint(*source[:2]), time.monotonic())


@contextmanager
def lab() -> Iterator[Lab]:
    """The lab, as long as the block."""
    services = ("stun", "rendezvous")
    topology = Topology(
        name="classes",
        routers=(
            RouterSpec(name="home", nat=nat(2)),
            RouterSpec(name="outer", nat=nat(2)),
            RouterSpec(name="inner", via="outer", nat=nat(2)),
        ),
        nodes=(
            *(NodeSpec(name=name, via="internet", services=(name,)) for name in services),
            NodeSpec(name="alice", via="home", peer=True),
            NodeSpec(name="carol", via="internet", peer=True),
            NodeSpec(name="dave", via="inner", peer=True),
        ),
    )
    plan = compile_topology(topology, Host(), lab=scratch_name("classes"))
    with scratch_labs([plan]) as (paths,):
        yield Lab(plan, paths)


# --- N1: the tree -----------------------------------------------------------


def labels(share: float = 1.0, rng: random.Random | None = None) -> Iterator[Result]:
    """All seven classes, a fresh port each; and on a port that Test II was made on."""
    runs = max(2, round(20 * share))
    with lab() as here:
        right: dict[Kind, int] = {}
        for kind, router in ROUTERS.items():
            here.use({"home": router})
            # Each of these takes the whole patience of the client.
            count = max(1, runs // 4) if kind is Kind.BLOCKED else runs
            right[kind] = sum(here.classify("alice") == [kind] for _ in range(count)) - count
        for kind, wall in ((Kind.OPEN, None), (Kind.FIREWALL, Firewall(inbound=_DROP))):
            here.use({}, wall)
            right[kind] = sum(here.classify("carol") == [kind] for _ in range(runs)) - runs
        here.use({"home": ROUTERS[Kind.PORT_RESTRICTED_CONE]})
        again = here.classify("alice", times=2)
    wrong = [str(kind) for kind, missing in right.items() if missing]
    yield Result(
        f"RFC 3489's tree, seven routers, {runs} runs each (UDP blocked: {max(1, runs // 4)})",
        "all named rightly",
        "all" if not wrong else f"wrong: {', '.join(wrong)}",
        not wrong and len(set(right)) == len(Kind),
        f"from the same port again (§10.1): {again[0]} is taken for {again[1]}",
    )


# --- N2: the schedule -------------------------------------------------------


def black_hole(share: float = 1.0, rng: random.Random | None = None) -> Iterator[Result]:
    """RFC 3489, section 9.3, against a router that lets no UDP out."""
    with lab() as here:
        here.use({"home": ROUTERS[Kind.BLOCKED]})
        with here.socket("alice") as sock:
            began = time.monotonic()
            transaction = asking(here)
            sent = [at - began for at in drive(sock, transaction)]
            took = time.monotonic() - began
        here.use({"home": ROUTERS[Kind.FULL_CONE]})
        with here.socket("alice") as sock:
            answered = asking(here)
            drive(sock, answered)
    off = max(abs(a - b) for a, b in itertools.zip_longest(sent, RFC_3489.sends, fillvalue=99.0))
    yield Result(
        "STUN into a black hole (RFC 3489, 9.3)",
        "9 requests, ± 20 ms; failed at 9.50 ± 0.05 s",
        f"{len(sent)} requests, at most {off * 1000:.1f} ms late; failed at {took:.3f} s",
        off < 0.02 and abs(took - 9.5) < 0.05 and transaction.failed,
        f"where UDP passes: {answered.tries} request, answered",
    )


def asking(here: Lab) -> Transaction:
    """A question to the server at the pace of RFC 3489, from now on."""
    server = servers_of(here.plan)[0].first
    return Transaction(request(Method.BINDING), server, RFC_3489, time.monotonic())


# --- N19: one behind another ------------------------------------------------


def nested(share: float = 1.0, rng: random.Random | None = None) -> Iterator[Result]:
    """All 25 pairs of an inner and an outer router."""
    order = list(ROUTERS)
    wrong = []
    with lab() as here:
        for inner, outer in itertools.product(order, order):
            here.use({"inner": ROUTERS[inner], "outer": ROUTERS[outer]})
            (found,) = here.classify("dave")
            if found is not max(inner, outer, key=order.index):
                wrong.append(f"{inner} within {outer} is {found}")
        here.use({"home": ROUTERS[Kind.FULL_CONE]})
        (alone,) = here.classify("alice")
    yield Result(
        "two routers in a row, all 25 pairs of five classes",
        "the class of the most restrictive one",
        "all 25" if not wrong else "; ".join(wrong),
        not wrong,
        f"one router: {alone}",
    )
