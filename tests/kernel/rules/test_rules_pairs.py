"""Two routers face each other: hole punching by UDP and by TCP.

The oracle is RFC 4787 logic, not a table of results: a packet of X is admitted
by Y's NAT if its filter asks nothing, or if Y's mapping towards X is the one X
was told of and Y's filter knows the endpoint that X's packet comes from.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from rules_bench import (
    DEADLINE_S,
    Bench,
    Net,
    connect_later,
    fresh_port,
    ip,
    ready,
    router_node,
)

from lab.fabric import rules
from lab.topology.behaviour import Dependence, Nat, PortPolicy, Ports, Unsolicited

pytestmark = pytest.mark.kernel

EIM, EIF = Dependence.ENDPOINT_INDEPENDENT, Dependence.ENDPOINT_INDEPENDENT
ADF = Dependence.ADDRESS_DEPENDENT
KINDS = tuple(itertools.product(Dependence, Dependence))
"""Mapping and filtering."""

STUN = ("45.0.0.11", 3478)
EXTERNAL = {"a": "45.0.0.2", "b": "45.0.0.3"}
HOST = "192.168.1.2"


def predicted(x: tuple[Dependence, Dependence], y: tuple[Dependence, Dependence]) -> bool:
    """Whether the two become direct, both directions given to either admission."""
    return admitted(x, y) or admitted(y, x)


def admitted(x: tuple[Dependence, Dependence], y: tuple[Dependence, Dependence]) -> bool:
    """Whether Y's NAT lets in what X sends to the endpoint that Y learned by STUN."""
    (x_mapping, _), (y_mapping, y_filtering) = x, y
    if y_filtering is EIF:
        return True
    if y_mapping is not EIM:
        return False
    return y_filtering is ADF or x_mapping is EIM


@dataclass
class Pair:
    """Hosts `a` and `b` behind routers of their own, and a STUN-like echo between."""

    bench: Bench
    echo: socket.socket
    loaded: dict[str, rules.RuleSet] = field(default_factory=dict)

    def use(self, side: str, nat: Nat) -> None:
        wanted = rules.render(router_node(nat, external=EXTERNAL[side]))
        with self.bench.net.inside(f"router-{side}"):
            rules.load(wanted, former=self.loaded.get(side))
        self.loaded[side] = wanted


@pytest.fixture(scope="module")
def facing() -> Iterator[Pair]:
    net = Net()
    try:
        net.add("core")
        with net.inside("core"):
            ip(
                "link add br0 type bridge",
                f"addr add {STUN[0]}/24 dev br0",
                "link set br0 up",
            )
        for side in ("a", "b"):
            router = f"router-{side}"
            net.add(router, forwarding=True)
            net.add(side)
            net.link(router, "wan", "core", f"to-{side}")
            net.link(side, "eth0", router, "lan")
            with net.inside("core"):
                ip(f"link set to-{side} master br0")
            with net.inside(router):
                ip(f"addr add {EXTERNAL[side]}/24 dev wan", "addr add 192.168.1.1/24 dev lan")
            with net.inside(side):
                ip(f"addr add {HOST}/24 dev eth0", "route add default via 192.168.1.1")
        bench = Bench(net)
        with bench.udp("core", *STUN) as echo:
            yield Pair(bench, echo)
    finally:
        net.close()


# --- UDP ------------------------------------------------------------------


@dataclass
class Puncher:
    """One side of a punch: a socket and every endpoint the other may be at."""

    pair: Pair
    sock: socket.socket
    targets: list[tuple[str, int]] = field(default_factory=list)
    heard: bool = False

    def external(self) -> tuple[str, int]:
        self.sock.sendto(b"binding", STUN)
        data, seen = self.pair.echo.recvfrom(64)
        assert data == b"binding"
        return seen

    def punch(self) -> None:
        for target in self.targets:
            self.sock.sendto(b"punch", target)

    def listen(self) -> None:
        """Take what is there; the echo's answer, sent last, marks the end."""
        self.pair.echo.sendto(b"end", self.external())
        while True:
            data, source = self.sock.recvfrom(64)
            if data == b"end":
                return
            self.heard = True
            if source not in self.targets:
                self.targets.append(source)


def punched(pair: Pair) -> bool:
    """Whether both heard each other, peer-reflexive endpoints included."""
    with (
        pair.bench.udp("a", HOST, fresh_port()) as at_a,
        pair.bench.udp("b", HOST, fresh_port()) as at_b,
    ):
        a, b = Puncher(pair, at_a), Puncher(pair, at_b)
        a.targets, b.targets = [b.external()], [a.external()]
        for _ in range(3):
            for side in (a, b):
                side.punch()
            for side in (a, b):
                side.listen()
        return a.heard and b.heard


def nat_of(kind: tuple[Dependence, Dependence]) -> Nat:
    mapping, filtering = kind
    return Nat(mapping=mapping, filtering=filtering, ports=Ports(policy=PortPolicy.RANDOM))


@pytest.mark.parametrize("x", KINDS, ids="/".join)
def test_udp_punching_is_as_predicted(facing: Pair, x) -> None:
    facing.use("a", nat_of(x))
    wrong = []
    for y in KINDS:
        facing.use("b", nat_of(y))
        if punched(facing) is not predicted(x, y):
            wrong.append(y)
    assert wrong == []


def test_the_oracle_counts_as_the_literature() -> None:
    direct = sum(predicted(x, y) for x, y in itertools.product(KINDS, KINDS))
    assert (direct, 81 - direct) == (57, 24)


# --- TCP ------------------------------------------------------------------


def external_by_tcp(pair: Pair, side: str, port: int) -> tuple[str, int]:
    """What the other side sees of a connection from `port`; the mapping stays afterwards."""
    with (
        pair.bench.tcp("core", STUN[0], 3479, listen=True) as listener,
        pair.bench.tcp(side, HOST, port) as sock,
    ):
        sock.connect((STUN[0], 3479))
        accepted, seen = listener.accept()
        accepted.close()
        return seen


@pytest.mark.parametrize("stagger_ms", [0, 50, 300])
@pytest.mark.parametrize(
    "ports", [Ports(), Ports(policy=PortPolicy.RANDOM)], ids=["kept", "random"]
)
def test_tcp_simultaneous_open_between_homes(facing: Pair, ports: Ports, stagger_ms: int) -> None:
    for side in ("a", "b"):
        facing.use(side, Nat(ports=ports))
    local = {side: fresh_port() for side in ("a", "b")}
    seen = {side: external_by_tcp(facing, side, port) for side, port in local.items()}
    with contextlib.ExitStack() as stack:
        socks = {
            side: stack.enter_context(facing.bench.tcp(side, HOST, port))
            for side, port in local.items()
        }
        connect_later(socks["a"], seen["b"])
        threading.Event().wait(stagger_ms / 1000)
        connect_later(socks["b"], seen["a"])
        for sock in socks.values():
            assert ready(sock, write=True)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            sock.settimeout(DEADLINE_S)
        socks["a"].sendall(b"through")
        assert socks["b"].recv(7) == b"through"


def test_a_reset_ends_the_first_attempt(facing: Pair) -> None:
    """Why RFC 5382 wants silence: a NAT that answers with RST refuses the one who is early."""
    for side in ("a", "b"):
        facing.use(side, Nat(unsolicited=Unsolicited.RST))
    local = {side: fresh_port() for side in ("a", "b")}
    seen = {side: external_by_tcp(facing, side, port) for side, port in local.items()}
    with facing.bench.tcp("a", HOST, local["a"]) as early:
        connect_later(early, seen["b"])
        assert ready(early, write=True)
        assert early.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 111
