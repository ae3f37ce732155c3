"""Wires that are changed while they carry packets: each arrives, once, whatever carries it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Self

import pytest
from msgspec.structs import replace

from lab.fabric import netns
from lab.fabric.links import bpf
from lab.fabric.links.bpf import Hook
from lab.fabric.links.ferry import Ferry
from lab.fabric.netlink import index_of
from lab.plan.model import Link, Node, NodeKind
from lab.plan.names import SPLICED
from lab.topology.character import Backend, Impairment
from tests.kernel.fabric.fabric_support import Bench, host, pair, segment, wire
from tests.machine import measured

pytestmark = pytest.mark.kernel

A, B = "10.0.0.1", "10.0.0.2"
PORT = 4000
COUNT = 2000
PERIOD_S = 0.001
DEADLINE_S = 30.0
AFTER_S = 1.0
"""How long a datagram is waited for that must not come."""
PAUSE_S = 0.005
SO_RCVBUFFORCE = 33
SO_MAX_PACING_RATE = 47
PACING_BYTES_S = 1 << 20
ETH_P_IP, ETH_P_ALL = 0x0800, 3


@pytest.fixture
def live(bench: Bench) -> Iterator[Bench]:
    """A lab with a ferry."""
    ferry = Ferry.start(bench.paths, 1)
    bench.network.use_ferry(ferry)
    try:
        yield bench
    finally:
        ferry.close()


class Stream:
    """Numbered datagrams both ways, one each millisecond, from a thread of its own."""

    def __init__(self, bench: Bench) -> None:
        self.sent = 0
        self._moved = threading.Condition()
        self._ends = []
        for node, own, other in (("alice", A, B), ("bob", B, A)):
            with netns.inside(bench.paths.netns(node)):
                end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            end.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 26)
            end.bind((own, PORT))
            end.connect((other, PORT))
            self._ends.append(end)
        self._thread = threading.Thread(target=self._send, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(DEADLINE_S)
        for end in self._ends:
            end.close()

    def wait(self, share: float) -> None:
        """Until so much of everything is on its way."""
        with self._moved:
            assert self._moved.wait_for(lambda: self.sent >= share * COUNT, DEADLINE_S)

    def received(self) -> list[list[int]]:
        """The numbers that came to each end, after all were sent."""
        self._thread.join(DEADLINE_S)
        return [self._read(end) for end in self._ends]

    def _send(self) -> None:
        due = time.monotonic()
        for number in range(COUNT):
            if (ahead := due - time.monotonic()) > 0:
                time.sleep(ahead)
            # Who was held up makes up for it little by little: no queue has to hold a second.
            due = max(due + PERIOD_S, time.monotonic() + PERIOD_S / 4)
            for end in self._ends:
                end.send(number.to_bytes(4))
            with self._moved:
                self.sent = number + 1
                self._moved.notify_all()

    @staticmethod
    def _read(end: socket.socket) -> list[int]:
        end.settimeout(DEADLINE_S)
        found: list[int] = []
        with contextlib.suppress(TimeoutError):
            while True:
                found.append(int.from_bytes(end.recv(16)))
                if len(found) >= COUNT:
                    end.settimeout(AFTER_S)
        return found


class Transfer:
    """A TCP connection over which a thread sends as fast as it goes, until it is told to end."""

    def __init__(self, bench: Bench) -> None:
        ends = []
        with netns.inside(bench.paths.netns("bob")):
            server = socket.create_server((B, PORT))
        with server:
            with netns.inside(bench.paths.netns("alice")):
                ends.append(socket.create_connection((B, PORT), DEADLINE_S))
            ends.append(server.accept()[0])
        self._from, self._to = ends
        # Faster than the ferry carries, it would fill the kernel's ring before it.
        self._from.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, PACING_BYTES_S)
        self._to.settimeout(DEADLINE_S)
        self._end = threading.Event()
        self._sent, self._got = hashlib.blake2b(), hashlib.blake2b()
        self.size = 0
        self._threads = [
            threading.Thread(target=each, daemon=True) for each in (self._push, self._pull)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(DEADLINE_S)
        self._from.close()
        self._to.close()

    @property
    def intact(self) -> bool:
        """Whether all that was sent has come; ask after the end."""
        return self.size > 0 and self._sent.digest() == self._got.digest()

    def _push(self) -> None:
        block = bytes(range(256)) * 256
        while not self._end.is_set():
            self._from.sendall(block)
            self._sent.update(block)
        self._from.shutdown(socket.SHUT_WR)

    def _pull(self) -> None:
        while data := self._to.recv(1 << 16):
            self._got.update(data)
            self.size += len(data)


def joined(**more: Any) -> Link:
    (link,) = pair()[1]
    both = more.pop("both", Impairment())
    return wire(f"{link.a.node}.eth0", f"{link.b.node}.eth0", a_to_b=both, b_to_a=both, **more)


def ferried(delay_ms: float, *, spliced: bool = True, **more: Any) -> Link:
    both = Impairment(delay_us=round(delay_ms * 1000), **more)
    return joined(both=both, backend=Backend.FERRY, spliced=spliced)


PLAIN = joined()
RATED = joined(both=Impairment(rate_bit=20_000_000), backend=Backend.KERNEL)


def taps(bench: Bench, node: str) -> list[str]:
    return [
        each["ifname"]
        for each in bench.json(node, "ip", "-j", "link")
        if each["ifname"].startswith(SPLICED)
    ]


def round_trip_ms(bench: Bench) -> float:
    out = bench.run("alice", "ping", "-c", "3", "-i", "0.1", B)
    found = re.search(r"rtt min/avg/max/mdev = ([0-9.]+)/", out)
    assert found, out
    return float(found[1])


def gets_below(bench: Bench, most_ms: float) -> bool:
    """Whether a round trip takes less than that, once the machine has the time for it."""
    deadline = time.monotonic() + DEADLINE_S
    while round_trip_ms(bench) >= most_ms:
        if time.monotonic() > deadline:
            return False
    return True


def test_this_kernel_can():
    assert bpf.supported()


@pytest.mark.parametrize(
    "stages",
    [
        pytest.param((PLAIN, ferried(20), ferried(5), PLAIN), id="plain"),
        pytest.param(
            (PLAIN, ferried(20, jitter_us=5000), ferried(30, rate_bit=20_000_000), PLAIN),
            id="plain-to-all-of-the-model",
        ),
        pytest.param((PLAIN, RATED, ferried(10), RATED, PLAIN), id="by-the-kernel"),
        pytest.param(
            (
                ferried(20, spliced=False),
                ferried(5, spliced=False),
                ferried(0, spliced=False),
                ferried(10, spliced=False),
            ),
            id="impaired-from-the-start",
        ),
    ],
)
def test_a_change_under_load_loses_nothing_and_doubles_nothing(live: Bench, stages):
    nodes, _ = pair()
    live.apply(nodes, [stages[0]])
    assert live.reaches("alice", B)
    with Stream(live) as stream, Transfer(live) as transfer:
        for place, link in enumerate(stages[1:]):
            stream.wait((place + 1) / (len(stages) + 1))
            live.apply(nodes, [link])
        stream.wait(1)
        both = stream.received()
    for numbers in both:
        assert sorted(numbers) == list(range(COUNT))
    assert transfer.intact
    assert not taps(live, "alice")


def test_what_is_sent_later_waits_for_what_was_sent_before(live: Bench):
    nodes, _ = pair()
    live.apply(nodes, [PLAIN])
    assert live.reaches("alice", B)
    came: list[list[int]] = []

    def in_order() -> None:
        with Stream(live) as stream:
            for place, link in enumerate((ferried(200), PLAIN, ferried(100), ferried(1), PLAIN)):
                stream.wait((place + 1) / 7)
                live.apply(nodes, [link])
            both = stream.received()
        came.extend(both)
        # At the moment of the change itself, two processors may bring two packets by two
        # ways: how many more pass one that stands still depends on how long it does.
        for numbers in both:
            late = [n for n, after in pairwise(numbers) if n > after]
            assert len(late) <= 5 * 5
            assert all(abs(n - at) < 20 for at, n in enumerate(numbers))

    measured(in_order, PAUSE_S, again=True)
    for numbers in came:
        assert sorted(numbers) == list(range(COUNT))


def test_what_waits_in_a_queue_of_the_kernels_is_not_overtaken_by_the_ferrys(live: Bench):
    nodes, _ = pair()
    slow = joined(both=Impairment(rate_bit=400_000), backend=Backend.KERNEL)
    live.apply(nodes, [slow])
    ends = []
    for node, own, other in (("alice", A, B), ("bob", B, A)):
        with netns.inside(live.paths.netns(node)):
            ends.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        ends[-1].bind((own, PORT))
        ends[-1].connect((other, PORT))
        ends[-1].settimeout(DEADLINE_S)
    with ends[0], ends[1]:
        # More than a second's worth, in the queue.
        for number in range(40):
            ends[0].send(number.to_bytes(4) + bytes(1400))
        live.apply(nodes, [ferried(1)])
        for number in range(40, 50):
            ends[0].send(number.to_bytes(4))
        assert [int.from_bytes(ends[1].recv(4)) for _ in range(50)] == list(range(50))
    assert gets_below(live, 100)


def test_both_ends_have_the_whole_delay_and_are_seen_as_ever(live: Bench):
    nodes, _ = pair()
    live.apply(nodes, [PLAIN])
    live.apply(nodes, [ferried(20)])
    assert round_trip_ms(live) >= 40
    with contextlib.ExitStack() as stack:
        looks = []
        for node in ("alice", "bob"):
            with netns.inside(live.paths.netns(node)):
                look = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
                look.bind(("eth0", ETH_P_ALL))
            looks.append(look)
        live.run("alice", "ping", "-c", "1", B)
        for look in looks:
            look.settimeout(0.3)
            kinds = []
            with contextlib.suppress(TimeoutError):
                while True:
                    _, (_, protocol, kind, *_) = look.recvfrom(200)
                    if protocol == ETH_P_IP:  # Not how the ends ask for each other's address.
                        kinds.append(kind)
            assert sorted(kinds) == [socket.PACKET_HOST, socket.PACKET_OUTGOING]
    live.apply(nodes, [PLAIN])
    assert gets_below(live, 40)
    assert not any(taps(live, node) for node in ("alice", "bob"))
    assert "xdp" not in live.link("alice", "eth0")
    assert live.run("alice", "tc", "qdisc", "show", "dev", "eth0").count("clsact") == 0


def test_a_wire_with_an_xdp_program_of_somebodys_is_spliced_and_seen_less_of(live: Bench):
    nodes, _ = pair()
    live.apply(nodes, [PLAIN])
    with netns.inside(live.paths.netns("bob")):
        theirs = bpf.attach(passing(), index_of("eth0", "bob"), Hook.DRIVER)
    try:
        live.apply(nodes, [ferried(20)])
        assert round_trip_ms(live) >= 40
        assert not sees_what_it_sends(live, "alice")
        live.apply(nodes, [PLAIN])
        assert gets_below(live, 40)
        assert sees_what_it_sends(live, "alice")
        assert "xdp" in live.link("bob", "eth0")
        assert "xdp" not in live.link("alice", "eth0")
    finally:
        os.close(theirs)


def passing() -> int:
    """An XDP program that lets everything pass."""
    # r0 = XDP_PASS; exit
    lines = (struct.pack("=BBhi", *line) for line in ((0xB7, 0, 0, 2), (0x95, 0, 0, 0)))
    return bpf._load(6, *lines)


def sees_what_it_sends(bench: Bench, node: str) -> bool:
    """Whether who looks at eth0 sees one of the next packets go."""
    with netns.inside(bench.paths.netns(node)):
        look = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    with look:
        look.bind(("eth0", ETH_P_ALL))
        look.settimeout(DEADLINE_S)
        bench.run(node, "ping", "-c", "1", B)
        look.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                if look.recvfrom(200)[1][2] == socket.PACKET_OUTGOING:
                    return True
    return False


def test_a_port_of_a_bridge_is_spliced(live: Bench):
    nodes = [
        host("alice", f"{A}/24"),
        host("bob", f"{B}/24"),
        segment("lan", "alice", "bob"),
    ]
    other = wire("bob.eth0", "lan.bob")
    live.apply(nodes, [wire("alice.eth0", "lan.alice"), other])
    slow = Impairment(delay_us=10_000)
    carried = wire(
        "alice.eth0", "lan.alice", a_to_b=slow, b_to_a=slow, backend=Backend.FERRY, spliced=True
    )
    live.apply(nodes, [carried, other])
    assert round_trip_ms(live) >= 20
    assert "noprefixroute" not in live.run("alice", "ip", "addr")
    live.apply(nodes, [wire("alice.eth0", "lan.alice"), other])
    assert gets_below(live, 20)


def test_a_wire_that_is_cut_stays_cut_whatever_carries_it(live: Bench):
    nodes, _ = pair()
    live.apply(nodes, [PLAIN])
    for backend, spliced in ((Backend.PLAIN, False), (Backend.FERRY, True), (Backend.PLAIN, False)):
        live.apply(nodes, [joined(backend=backend, spliced=spliced, down=True)])
        with netns.inside(live.paths.netns("alice")):
            assert not _answers(live)
    live.apply(nodes, [PLAIN])
    assert live.reaches("alice", B)


def _answers(bench: Bench) -> bool:
    return " 0% packet loss" in bench.run("alice", "ping", "-c", "1", "-W", "1", B, check=False)


@pytest.mark.parametrize(
    "at", [PLAIN, ferried(1, spliced=False), ferried(1)], ids=["plain", "taps", "spliced"]
)
def test_an_mtu_changes_on_the_wire_that_there_is(live: Bench, at: Link):
    nodes, _ = pair()
    live.apply(nodes, [PLAIN if at.spliced else at])
    live.apply(nodes, [at])
    index = live.link("alice", "eth0")["ifindex"]
    # IPv6, and it alone, ends below 1280.
    for mtu in (1200, 2000):
        live.apply(nodes, [replace(at, mtu=mtu)])
        assert {live.link(node, "eth0")["mtu"] for node in ("alice", "bob")} == {mtu}
        assert live.link("alice", "eth0")["ifindex"] == index
        ping = ("ping", "-c", "1", "-M", "do", "-s", str(mtu - 28), B)
        assert " 0% packet loss" in live.run("alice", *ping)


def test_a_spliced_wire_goes_as_a_whole(live: Bench):
    nodes, _ = pair()
    live.apply(nodes, [PLAIN])
    live.apply(nodes, [ferried(1)])
    bare = [Node(name=node.name, kind=NodeKind.HOST) for node in nodes]
    live.apply(bare, [])
    for node in ("alice", "bob"):
        assert {each["ifname"] for each in live.json(node, "ip", "-j", "link")} == {"lo"}
    live.apply(nodes, [ferried(1)])
    assert live.reaches("alice", B)
