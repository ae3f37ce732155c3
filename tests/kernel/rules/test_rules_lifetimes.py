"""How long mappings and permissions live, by the clock: every kind of NAT at once.

Lifetimes are three seconds or so, and each fact is asked at least 0.9 s from
the moment at which it changes: later, if the machine pauses.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from rules_bench import EXTERNAL, HOSTS, bench, fresh_port, ready
from rules_probes import DESTINATIONS, Services

from lab.topology.behaviour import Dependence, Lifetimes, Nat, PortPolicy, Ports, Refresh
from tests.machine import Watch, measured

pytestmark = pytest.mark.kernel

PAUSE_S = 0.2
"""A pause of the machine that, with others, can make up for the 0.9 s."""

RANDOM = Ports(policy=PortPolicy.RANDOM)
EIM = Dependence.ENDPOINT_INDEPENDENT
ADF = Dependence.ADDRESS_DEPENDENT
APDF = Dependence.ADDRESS_AND_PORT_DEPENDENT
FIRST, SECOND = DESTINATIONS[0], DESTINATIONS[-1]


class Probe:
    """An inside socket, the clock since it was made, and what it can find out."""

    def __init__(self, services: Services, stack: contextlib.ExitStack) -> None:
        self.services = services
        self.stack = stack
        self.sock = stack.enter_context(services.bench.udp("h0", HOSTS[0], fresh_port()))
        self.other = stack.enter_context(services.bench.udp("h1", HOSTS[1], fresh_port()))
        self.began = time.monotonic()
        self.port = 0

    def at(self, seconds: float) -> None:
        """Wait until `seconds` have passed since the beginning."""
        threading.Event().wait(max(self.began + seconds - time.monotonic(), 0))

    def out(self, to: tuple[str, int] = FIRST) -> int:
        """The external port of a packet that nobody answers."""
        self.sock.sendto(b"out", to)
        return self.services.udp[to].recvfrom(64)[1][1]

    def exchange(self) -> int:
        return self.services._udp_seen(self.sock, FIRST)

    def comes_in(self, port: int, sender: tuple[str, int] = FIRST) -> bool:
        """Whether a packet from outside arrives; one round trip of another host is the barrier."""
        self.services.udp[sender].sendto(b"in", (EXTERNAL, port))
        self.services._udp_seen(self.other, SECOND)
        arrived = ready(self.sock, within_s=0)
        if arrived:
            assert self.sock.recv(64) == b"in"
        return arrived


def idle(filtering: Dependence, **lifetimes: object):
    """A mapping ends at its time, neither earlier nor later, and a new port is found then."""

    def run(services: Services, stack: contextlib.ExitStack) -> None:
        early, late = Probe(services, stack), Probe(services, stack)
        early.port, late.port = early.exchange(), late.exchange()
        early.at(2)
        assert early.comes_in(early.port)
        assert early.exchange() == early.port
        late.at(4)
        assert not late.comes_in(late.port)
        assert late.exchange() != late.port

    return Nat(filtering=filtering, ports=RANDOM, lifetimes=Lifetimes(udp_s=3, **lifetimes)), run


def inbound_only(*, refreshes: bool, **nat: object):
    """Packets that only come in keep a mapping alive, or not."""

    def run(services: Services, stack: contextlib.ExitStack) -> None:
        probe = Probe(services, stack)
        port = probe.exchange()
        for half in range(1, 5):
            probe.at(half / 2)
            assert probe.comes_in(port)
        for half in range(5, 9):
            probe.at(half / 2)
            heard = probe.comes_in(port)
        assert heard is refreshes
        assert (probe.exchange() == port) is refreshes

    refresh = Refresh.BOTH if refreshes else Refresh.OUTBOUND
    return Nat(ports=RANDOM, lifetimes=Lifetimes(udp_s=3, refresh=refresh), **nat), run


def outbound_only(refresh: Refresh, **nat: object):
    """Packets that only go out keep a mapping alive, or not."""

    def run(services: Services, stack: contextlib.ExitStack) -> None:
        probe = Probe(services, stack)
        port = probe.out()
        for half in range(1, 5):
            probe.at(half / 2)
            assert probe.out() == port
        for half in range(5, 12):
            probe.at(half / 2)
            probe.sock.sendto(b"out", FIRST)
        # Those in the second after a mapping's end may be lost.
        probe.at(6)
        probe.sock.sendto(b"last", FIRST)
        now = 0
        while not now:
            data, (_, seen) = probe.services.udp[FIRST].recvfrom(64)
            now = seen if data == b"last" else 0
        assert (now == port) is (refresh is not Refresh.INBOUND)

    return Nat(ports=RANDOM, lifetimes=Lifetimes(udp_s=3, refresh=refresh), **nat), run


def permission(filtering: Dependence, **nat: object):
    """Who was sent to may answer for two seconds; the mapping lives for five."""

    def run(services: Services, stack: contextlib.ExitStack) -> None:
        probe = Probe(services, stack)
        port = probe.exchange()
        probe.at(1)
        assert probe.comes_in(port)
        probe.at(4)
        assert not probe.comes_in(port)
        assert probe.exchange() == port
        assert probe.comes_in(port)

    lifetimes = Lifetimes(udp_s=5, permission_s=2)
    return Nat(filtering=filtering, ports=RANDOM, lifetimes=lifetimes, **nat), run


def one_way(**lifetimes: object):
    """Two seconds until something came in; five from then on."""

    def run(services: Services, stack: contextlib.ExitStack) -> None:
        unanswered, answered = Probe(services, stack), Probe(services, stack)
        unanswered.port, answered.port = unanswered.out(), answered.exchange()
        answered.at(1)
        assert unanswered.out() == unanswered.port
        # Linux counts a flow as two-way when it is older than two seconds.
        assert answered.exchange() == answered.port
        answered.at(2.5)
        assert answered.exchange() == answered.port
        unanswered.at(4)
        assert unanswered.out() != unanswered.port
        answered.at(6.5)
        assert answered.comes_in(answered.port)
        assert answered.exchange() == answered.port

    return Nat(ports=RANDOM, lifetimes=Lifetimes(udp_s=5, udp_one_way_s=2, **lifetimes)), run


def tcp(*, arrives: bool, after_s: float):
    """An established connection that is idle is forgotten after three seconds."""

    def run(services: Services, stack: contextlib.ExitStack) -> None:
        probe = Probe(services, stack)
        sock = stack.enter_context(services.bench.tcp("h0", HOSTS[0], fresh_port()))
        sock.connect(FIRST)
        accepted = stack.enter_context(services.tcp[FIRST].accept()[0])
        accepted.sendall(b"x")
        assert sock.recv(1) == b"x"
        probe.at(after_s)
        accepted.sendall(b"y")
        services._udp_seen(probe.other, SECOND)
        assert ready(sock, within_s=0) is arrives
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    return Nat(lifetimes=Lifetimes(tcp_established_s=3, tcp_transitory_s=3)), run


Scenario = tuple[Nat, Callable[[Services, contextlib.ExitStack], None]]
SCENARIOS: dict[str, Scenario] = {
    "idle, EIF": idle(EIM),
    "idle, APDF": idle(APDF),
    "idle, outbound refresh, EIF": idle(EIM, refresh=Refresh.OUTBOUND),
    "idle, outbound refresh, APDF": idle(APDF, refresh=Refresh.OUTBOUND),
    "inbound refreshes": inbound_only(refreshes=True),
    "inbound does not refresh, EIF": inbound_only(refreshes=False, filtering=EIM),
    "inbound does not refresh, ADF": inbound_only(refreshes=False, filtering=ADF),
    "inbound does not refresh, APDM": inbound_only(refreshes=False, mapping=APDF),
    "outbound refreshes": outbound_only(Refresh.OUTBOUND),
    "outbound refreshes, APDM": outbound_only(Refresh.OUTBOUND, mapping=APDF),
    "outbound does not refresh": outbound_only(Refresh.INBOUND),
    "permission, ADF": permission(ADF),
    "permission, APDF": permission(APDF),
    "permission, APDM": permission(APDF, mapping=APDF),
    "one-way": one_way(),
    "one-way by the maps": one_way(refresh=Refresh.OUTBOUND),
    "tcp, in time": tcp(arrives=True, after_s=2),
    "tcp, too late": tcp(arrives=False, after_s=4),
}


def play(scenario: Scenario) -> None:
    nat, run = scenario
    with bench() as made, Services.on(made) as services, contextlib.ExitStack() as stack:
        made.use(nat)
        try:
            run(services, stack)
        except TimeoutError as error:
            raise AssertionError("a packet did not arrive") from error


Outcomes = tuple[dict[str, Future[None]], list[float]]


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    """Every scenario, each on a network of its own and all in the same seconds; and pauses."""
    with Watch(PAUSE_S) as watch, ThreadPoolExecutor(len(SCENARIOS)) as pool:
        found = {name: pool.submit(play, scenario) for name, scenario in SCENARIOS.items()}
    return found, watch.pauses_s


@pytest.mark.parametrize("name", SCENARIOS)
def test_lifetime(outcomes: Outcomes, name: str) -> None:
    found, pauses_s = outcomes
    try:
        found[name].result()
    except AssertionError:
        if not pauses_s:
            raise
        measured(lambda: play(SCENARIOS[name]), PAUSE_S, again=True)
