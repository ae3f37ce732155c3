"""What a link must do, whatever carries it: one set of checks for all backends.

`CHECKS` are functions of a `Wire`; each raises AssertionError.  The ferry's
tests call them here; netem's run in a VM with a kernel that has it:
`python -m tests.kernel.links.conformance kernel [CHECK ...]` prints one JSON line
for each.

Delays are the kernel's receive stamps (SO_TIMESTAMPNS) minus the sender's
clock; the median has to lie between what the model says and `SLACK_S` more,
the slack being the machine's and not the link's.  Where that pauses for
longer, a check that is about time (`TIMED`) says nothing and is made again
(`conform`).  The others hold on a machine that stands still now and then: a
queue that no traffic of the check's can fill, however late it is carried.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import secrets
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

from lab.fabric import netns
from lab.fabric.links import kernel, tap
from lab.fabric.links.ferry import Ferry
from lab.fabric.links.model import queue_packets
from lab.paths import NETNS_DIR, LabPaths
from lab.plan.model import End, Link
from lab.topology.character import (
    Backend,
    Bursts,
    Discipline,
    Distribution,
    Impairment,
    Order,
    Queue,
    QueueUnit,
)
from tests.machine import Watch, measured

SLACK_S = float(os.environ.get("LINK_SLACK_S", "0.004"))
DEADLINE_S = 5.0
PARTS = 10
"""How many times in a row nothing has to come, to be all."""
MOST_SPOILT = 20
"""Parts of a measurement to make again."""
NONE = Impairment()
HEADERS = 14 + 20 + 8
ROOMY = Queue(length=10_000, unit=QueueUnit.PACKETS)
"""A queue that holds all that a check sends.

One of a bandwidth-delay product does not: a machine that paused sends what it
missed in one burst, and the kernel hands all that is due on its delay line to
the queue at once.
"""
A, B = "10.9.0.1", "10.9.0.2"
PORT = 4000

_SO_RCVBUFFORCE = 33
_SO_TIMESTAMPNS = 35
_SO_SNDBUFFORCE = 32


@dataclass
class Arrival:
    number: int
    sent: float
    received: float
    """Unix time, seconds: the kernel's stamp."""

    @property
    def delay(self) -> float:
        return self.received - self.sent


class Wire:
    """A link between two namespaces, and a UDP socket at each end."""

    def __init__(self, backend: Backend, folder: Path, *, mtu: int = 1500, seed: int = 1) -> None:
        name = f"t-links-{secrets.token_hex(3)}"
        self.backend = backend
        self.paths = LabPaths(folder / name)
        self.spaces = (NETNS_DIR / f"{name}.a", NETNS_DIR / f"{name}.b")
        self.link = Link(
            a=End(node="a", interface="eth0", mac="02:00:00:00:00:01"),
            b=End(node="b", interface="eth0", mac="02:00:00:00:00:02"),
            mtu=mtu,
            backend=backend,
        )
        self.seed = seed
        self.ferry: Ferry | None = None
        self.sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        try:
            for path in self.spaces:
                netns.create(path)
                with netns.inside(path):
                    # Only what a check sends is on the wire.
                    Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
            self._connect()
            for path, own, other, end in (
                (self.spaces[0], A, B, self.link.b),
                (self.spaces[1], B, A, self.link.a),
            ):
                ip = ("ip", "-n", path.name)
                run(*ip, "address", "add", f"{own}/24", "dev", "eth0")
                run(*ip, "neighbour", "replace", other, "lladdr", end.mac, "dev", "eth0")
                with netns.inside(path):
                    handle = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                self.sockets.append(handle)
                handle.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 26)
                handle.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, 1 << 26)
                handle.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
                handle.bind((own, PORT))
                handle.connect((other, PORT))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self.sockets:
            handle.close()
        if self.ferry:
            self.ferry.close()
        for path in self.spaces:
            with contextlib.suppress(Exception):
                netns.delete(path)

    def _connect(self) -> None:
        a, b = self.link.a, self.link.b
        mtu = self.link.mtu
        if self.backend is Backend.FERRY:
            self.ferry = Ferry.start(self.paths, self.seed)
            descriptors = []
            for path, end in zip(self.spaces, (a, b), strict=True):
                with netns.inside(path):
                    descriptors.append(tap.create(end.interface, end.mac, mtu))
            self.ferry.attach(self.link, *descriptors)
            return
        run(*f"ip -n {self.spaces[0].name} link add eth0 address {a.mac} mtu {mtu} type veth peer "
            f"name eth0 address {b.mac} mtu {mtu} netns {self.spaces[1].name}".split())  # fmt: skip
        for path in self.spaces:
            run("ip", "-n", path.name, "link", "set", "eth0", "up")
            # What leaves a queue in order comes in order only if one processor takes it: two of
            # them take a packet each, and one may pause.  That is no matter of the link's.
            rps = "echo 1 >/sys/class/net/eth0/queues/rx-0/rps_cpus"
            run("ip", "netns", "exec", path.name, "sh", "-c", rps)

    def shape(self, a_to_b: Impairment = NONE, b_to_a: Impairment = NONE) -> None:
        if self.ferry:
            ends = {"a": self.link.a, "b": self.link.b, "mtu": self.link.mtu}
            self.ferry.shape(Link(**ends, a_to_b=a_to_b, b_to_a=b_to_a))
            return
        for path, impairment in zip(self.spaces, (a_to_b, b_to_a), strict=True):
            with netns.inside(path):
                kernel.shape("eth0", impairment, self.seed)

    def send(self, number: int, size: int = 100, *, way: int = 0) -> None:
        """One datagram in a frame of `size` bytes; way 0 is from a to b."""
        head = struct.pack("IQ", number, time.time_ns())
        self.sockets[way].send(head + bytes(size - HEADERS - len(head)))

    def receive(self, count: int, *, way: int = 0, patience_s: float = DEADLINE_S) -> list[Arrival]:
        """Up to `count` datagrams, fewer if none comes for `patience_s`."""
        return arrivals_at(self.sockets[1 - way], count, patience_s)

    @contextlib.contextmanager
    def flow(self) -> Iterator[tuple[socket.socket, socket.socket]]:
        """Sender and receiver of another flow from a to b."""
        with contextlib.ExitStack() as stack:
            ends = []
            for path, own in zip(self.spaces, (A, B), strict=True):
                with netns.inside(path):
                    handle = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                stack.enter_context(handle)
                handle.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
                handle.bind((own, PORT + 1))
                ends.append(handle)
            ends[0].connect((B, PORT + 1))
            yield ends[0], ends[1]

    def ping(self, *options: str) -> str:
        command = ("ip", "netns", "exec", self.spaces[0].name, "ping", "-n", *options, B)
        return subprocess.run(command, check=False, capture_output=True, text=True).stdout


def arrivals_at(handle: socket.socket, count: int, patience_s: float) -> list[Arrival]:
    """Up to `count` datagrams, fewer if none comes for `patience_s`.

    A machine that paused finds the patience over and the datagrams not yet there:
    so it is a number of short ones, each from when the machine goes on.
    """
    handle.settimeout(patience_s / PARTS)
    found: list[Arrival] = []
    waited = 0
    while len(found) < count and waited < PARTS:
        try:
            data, ancillary, _, _ = handle.recvmsg(64, 64)
        except TimeoutError:
            waited += 1
            continue
        waited = 0
        number, sent = struct.unpack_from("IQ", data)
        seconds, nanoseconds = struct.unpack_from("qq", ancillary[0][2])
        found.append(Arrival(number, sent / 1e9, seconds + nanoseconds / 1e9))
    return found


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def pace(count: int, period_s: float) -> Iterator[int]:
    """0 to `count` - 1, one each period; late ones catch up."""
    start = time.monotonic()
    for i in range(count):
        if (wait := start + i * period_s - time.monotonic()) > 0:
            time.sleep(wait)
        yield i


def all_came(
    arrivals: Sequence[Arrival],
    count: int,
    *,
    ordered: bool = True,
    spared: Collection[int] = (),
) -> None:
    """Assert that each of `count` but the `spared` came once, and in this order.

    What did not is said.
    """
    numbers = [arrival.number for arrival in arrivals]
    counts = Counter(numbers)
    wrong = []
    if lost := [n for n in range(count) if n not in counts and n not in spared]:
        wrong.append(f"{len(lost)} of {count} lost: {spans(lost)}")
    if doubled := [n for n, times in counts.items() if times > 1]:
        wrong.append(f"{len(doubled)} came twice: {spans(sorted(doubled))}")
    overtaken = [
        f"{a.number} (sent {b.sent - a.sent:+.4f} s before, came {a.received - b.received:+.4f} s "
        f"after) by {b.number}"
        for b, a in pairwise(arrivals)
        if ordered and b.number > a.number
    ]
    if overtaken:
        wrong.append(f"overtaken {len(overtaken)} times: {', '.join(overtaken[:8])}")
    if wrong and arrivals:
        gap, at = max((b.received - a.received, b.number) for a, b in pairwise(arrivals))
        wrong.append(f"nothing came for {gap:.3f} s before {at}")
    assert not wrong, "; ".join(wrong)


def delays_of(wire: Wire, count: int) -> list[float]:
    """Of `count` packets, in parts; seconds.

    A part during which the machine paused is sent again, if it does not always.
    """
    part, spoilt, found = 250, 0, list[float]()
    while len(found) < count:
        with Watch(SLACK_S) as watch:
            for i in pace(part, 0.001):
                wire.send(i)
            arrivals = wire.receive(part)
        all_came(arrivals, part, ordered=False)
        if watch.pauses_s and spoilt < MOST_SPOILT:
            spoilt += 1
        else:
            found += [arrival.delay for arrival in arrivals]
    return found


def spans(numbers: Sequence[int]) -> str:
    """Ascending numbers, what follows one another as one: "3, 7-9"."""
    found: list[list[int]] = []
    for n in numbers:
        if found and found[-1][1] == n - 1:
            found[-1][1] = n
        else:
            found.append([n, n])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in found)


def came_at(arrivals: Sequence[Arrival], rate: int) -> None:
    """Assert that full frames that all waited came at that rate, bit/s."""
    stamps = [arrival.received for arrival in arrivals]
    late = [stamp - i * 1514 * 8 / rate for i, stamp in enumerate(stamps)]
    # From the most punctual of the first to the most punctual of the last.
    third = len(stamps) // 3
    first = min(range(third), key=late.__getitem__)
    last = min(range(len(stamps) - third, len(stamps)), key=late.__getitem__)
    found = (last - first) * 1514 * 8 / (stamps[last] - stamps[first])
    assert abs(found / rate - 1) <= 0.05, f"{found:.0f} bit/s instead of {rate}"


# --- the checks -----------------------------------------------------------


def plain_wire_passes_all(wire: Wire) -> None:
    for i in pace(200, 0.0005):
        wire.send(i, 1514)
    all_came(wire.receive(200), 200)


def each_direction_has_its_delay(wire: Wire) -> None:
    wire.shape(Impairment(delay_us=30_000), Impairment(delay_us=10_000))
    for way, delay in ((0, 0.030), (1, 0.010)):
        for i in pace(40, 0.005):
            wire.send(i, way=way)
        delays = [arrival.delay for arrival in wire.receive(40, way=way)]
        assert len(delays) == 40
        assert min(delays) >= delay
        assert statistics.median(delays) <= delay + SLACK_S, delays


def ping_shows_the_whole_delay(wire: Wire) -> None:
    wire.shape(Impairment(delay_us=20_000), Impairment(delay_us=20_000))
    # With -w it hears out what is late; else it gives up two round trips after the last.
    output = wire.ping("-c", "15", "-i", "0.02", "-w", "10")
    found = re.findall(r"icmp_seq=(\d+) .*time=([0-9.]+) ms", output)
    assert {int(number) for number, _ in found} >= {*range(1, 16)}, output
    times = [float(time_ms) for _, time_ms in found]
    # ping rounds down to what it prints.
    assert min(times) >= 39.9, output
    assert statistics.median(times) <= 40 + 2000 * SLACK_S, output


def loss_has_its_share(wire: Wire) -> None:
    count, loss = 3000, 0.1
    wire.shape(Impairment(loss=loss, delay_us=2000))
    for i in pace(count, 0.0002):
        wire.send(i)
    got = len(wire.receive(count, patience_s=0.5))
    # Five standard deviations: one false alarm in two million.
    margin = 5 * math.sqrt(count * loss * (1 - loss))
    assert abs(count - got - count * loss) <= margin, f"{count - got} of {count} lost"
    for i in pace(300, 0.0002):
        wire.send(i, way=1)
    assert len(wire.receive(300, way=1)) == 300


def the_same_seed_loses_the_same_packets(wire: Wire) -> None:
    if wire.backend is Backend.KERNEL and not kernel.seeded():
        return
    count, came = 400, []
    for seed in (7, 7, 8):
        with (
            tempfile.TemporaryDirectory() as folder,
            Wire(wire.backend, Path(folder), seed=seed) as one,
        ):
            one.shape(Impairment(loss=0.2, delay_us=2000))
            for i in pace(count, 0.0005):
                one.send(i)
            came.append([arrival.number for arrival in one.receive(count, patience_s=0.5)])
    assert 0 < len(came[0]) < count
    other = spans(sorted(set(came[0]) ^ set(came[1])))
    assert came[0] == came[1], f"once only came {other or 'the same in another order'}"
    assert came[0] != came[2]


def everything_can_be_lost(wire: Wire) -> None:
    wire.shape(Impairment(loss=1.0))
    for i in range(200):
        wire.send(i)
    assert wire.receive(1, patience_s=0.2) == []
    wire.shape()
    wire.send(7)
    assert [arrival.number for arrival in wire.receive(1)] == [7]


def rate_is_kept(wire: Wire) -> None:
    for rate in (2_000_000, 20_000_000):
        # Half a second's worth, so that the machine may stop for a moment.
        burst = rate // (2 * 8 * 1514)
        queue = Queue(length=burst, unit=QueueUnit.PACKETS)
        wire.shape(Impairment(rate_bit=rate, delay_us=3000, queue=queue))
        for i in range(burst):
            wire.send(i, 1514)
        arrivals = wire.receive(burst)
        all_came(arrivals, burst)
        came_at(arrivals, rate)


def a_lone_packet_takes_its_time(wire: Wire) -> None:
    rate, size = 1_000_000, 1250
    wire.shape(Impairment(rate_bit=rate, delay_us=5000))
    expected = size * 8 / rate + 0.005
    delays = []
    for i in range(10):
        wire.send(i, size)
        delays += [arrival.delay for arrival in wire.receive(1)]
    assert min(delays) >= expected - 1e-6
    assert statistics.median(delays) <= expected + SLACK_S, delays


def the_queue_drops_its_tail(wire: Wire) -> None:
    slow = Impairment(rate_bit=1_000_000)
    wire.shape(slow)
    start = time.monotonic()
    for i in range(400):
        wire.send(i, 1514)
    took = time.monotonic() - start
    arrivals = wire.receive(400, patience_s=1.0)
    limit = queue_packets(slow)
    left_meanwhile = took * slow.rate_bit / 8 / 1514
    held = f"{len(arrivals)} came through a queue of {limit}, filled in {took:.3f} s"
    assert limit <= len(arrivals) <= limit + left_meanwhile + 2, held
    all_came(arrivals[:limit], limit)


def full_frames_pass_and_longer_ones_do_not(wire: Wire) -> None:
    wire.shape(Impairment(delay_us=1000), Impairment(delay_us=1000))
    most = wire.link.mtu - 28
    assert " 0% packet loss" in wire.ping("-c", "1", "-M", "do", "-s", str(most))
    assert " 0% packet loss" not in wire.ping("-c", "1", "-W", "1", "-M", "do", "-s", str(most + 1))


def change_under_traffic_loses_and_overtakes_nothing(wire: Wire) -> None:
    stages = (
        Impairment(delay_us=40_000),
        Impairment(delay_us=1000),
        Impairment(delay_us=20_000, rate_bit=20_000_000, queue=ROOMY),
        Impairment(delay_us=5000, rate_bit=100_000_000, queue=ROOMY),
        Impairment(delay_us=5000),
        Impairment(),
        Impairment(rate_bit=10_000_000, queue=ROOMY),
        Impairment(delay_us=10_000),
    )
    wire.shape(stages[0])
    count = 1600
    for i in pace(count, 0.001):
        if i % 200 == 100:
            wire.shape(stages[i // 200])
        wire.send(i)
    all_came(wire.receive(count), count)


def a_wire_that_was_plain_loses_nothing_when_it_is_changed(wire: Wire) -> None:
    rated = Impairment(rate_bit=20_000_000, queue=ROOMY)
    stages = (Impairment(delay_us=20_000), rated, Impairment())
    count = 800
    for i in pace(count, 0.001):
        if i and i % 200 == 0:
            wire.shape(stages[i // 200 - 1], stages[i // 200 - 1])
        for way in (0, 1):
            wire.send(i, way=way)
    for way in (0, 1):
        all_came(wire.receive(count, way=way), count)


def jitter_is_distributed_as_it_says(wire: Wire) -> None:
    delay, jitter, count = 0.060, 0.015, 1000
    for distribution, deviation in (
        (Distribution.UNIFORM, 1 / math.sqrt(3)),
        (Distribution.NORMAL, 1.0),
        (Distribution.PARETO, 0.75),
    ):
        wire.shape(
            Impairment(
                delay_us=int(delay * 1e6),
                jitter_us=int(jitter * 1e6),
                distribution=distribution,
                order=Order.FREE,
            )
        )
        strays = sorted((found - delay) / jitter for found in delays_of(wire, count))
        # What the machine adds is no jitter of the link, but shifts all.
        shift = SLACK_S / jitter
        assert -0.2 <= statistics.mean(strays) <= 0.2 + shift, distribution
        measured = statistics.stdev(strays)
        assert abs(measured / deviation - 1) <= 0.15 + shift / 2, f"{distribution}: {measured}"
        if distribution is Distribution.UNIFORM:
            assert strays[0] >= -1.01
            assert abs(strays[count // 4] + 0.5) <= 0.15 + shift
        if distribution is Distribution.PARETO:
            # Most packets are early and a few very late.
            assert strays[count // 2] < statistics.mean(strays)
            assert strays[-1] > 2.5


def jitter_keeps_the_order(wire: Wire) -> None:
    wire.shape(Impairment(delay_us=40_000, jitter_us=30_000))
    for i in pace(300, 0.001):
        wire.send(i)
    arrivals = wire.receive(300)
    all_came(arrivals, 300)
    assert statistics.stdev(arrival.delay for arrival in arrivals) > 0.001


def bursts_have_their_share_and_length(wire: Wire) -> None:
    count = 4000
    bursts = Bursts(p=0.02, r=0.25)
    wire.shape(Impairment(bursts=bursts, delay_us=2000))
    for i in pace(count, 0.0002):
        wire.send(i)
    got = {arrival.number for arrival in wire.receive(count, patience_s=0.5)}
    fates = [i not in got for i in range(count)]
    ends = sum(a and not b for a, b in pairwise(fates))
    assert ends > 20
    length = sum(fates) / ends
    # Five standard deviations of the mean of that many geometric lengths.
    mean = 1 / bursts.r
    assert abs(length - mean) <= 5 * mean / math.sqrt(ends), f"bursts of {length:.2f} packets"
    # Losses come in clusters, so their number varies as that of the bursts does.
    margin = 5 * mean * math.sqrt(2 * count * bursts.share / mean)
    assert abs(sum(fates) - count * bursts.share) <= margin, f"{sum(fates)} of {count} lost"


def some_overtake(wire: Wire) -> None:
    count, share, delay = 800, 0.2, 0.100
    wire.shape(Impairment(delay_us=int(delay * 1e6), reorder=share))
    for i in pace(count, 0.001):
        wire.send(i)
    arrivals = wire.receive(count)
    all_came(arrivals, count, ordered=False)
    early = {arrival.number for arrival in arrivals if arrival.delay < delay / 2}
    margin = 5 * math.sqrt(count * share * (1 - share))
    assert abs(len(early) - count * share) <= margin, f"{len(early)} of {count} were early"
    assert all(arrival.delay >= delay - 1e-4 for arrival in arrivals if arrival.number not in early)
    rest = [arrival.number for arrival in arrivals if arrival.number not in early]
    # With several processors the kernel may hand two packets that are due
    # together to one each.
    overtaken = sum(a > b for a, b in pairwise(rest))
    assert overtaken <= count * 0.01, f"{overtaken} overtaken that were not early"


def some_arrive_twice(wire: Wire) -> None:
    count, share = 1000, 0.2
    wire.shape(Impairment(duplicate=share, delay_us=5000))
    for i in pace(count, 0.0003):
        wire.send(i)
    found = Counter(arrival.number for arrival in wire.receive(2 * count, patience_s=0.5))
    assert set(found) == set(range(count)), f"lost: {spans(sorted(set(range(count)) - set(found)))}"
    assert max(found.values()) == 2
    twice = sum(found.values()) - count
    margin = 5 * math.sqrt(count * share * (1 - share))
    assert abs(twice - count * share) <= margin, f"{twice} of {count} came twice"


def some_are_damaged(wire: Wire) -> None:
    count, share = 1000, 0.2
    wire.shape(Impairment(corrupt=share, delay_us=5000))
    for i in pace(count, 0.0003):
        wire.send(i, 1400)
    # Checksums find one inverted bit, wherever it is but in the sender's MAC address.
    lost = count - len(wire.receive(count, patience_s=0.5))
    margin = 5 * math.sqrt(count * share * (1 - share)) + 3
    assert abs(lost - count * share) <= margin, f"{lost} of {count} lost"


def queues_have_their_length(wire: Wire) -> None:
    rate = 1_000_000
    for queue, held in (
        (Queue(length=20, unit=QueueUnit.PACKETS), 20),
        (Queue(length=45_420, unit=QueueUnit.BYTES), 30),
    ):
        wire.shape(Impairment(rate_bit=rate, queue=queue))
        start = time.monotonic()
        for i in range(200):
            wire.send(i, 1514)
        took = time.monotonic() - start
        got = len(wire.receive(200, patience_s=0.7))
        most = held + took * rate / 8 / 1514 + 2
        assert held <= got <= most, f"{got} came through {queue}, filled in {took:.3f} s"


def codel_drops_before_the_queue_is_full(wire: Wire) -> None:
    rate, size, count = 2_000_000, 1250, 1000
    long = Queue(length=2000, unit=QueueUnit.PACKETS)
    wire.shape(Impairment(rate_bit=rate, queue=long, discipline=Discipline.CODEL))
    # A fifth more than passes, for five seconds: drop-tail would be 0.83 s behind at the end.
    for i in pace(count, size * 8 / rate / 1.2):
        wire.send(i, size)
    arrivals = wire.receive(count, patience_s=1.0)
    assert count - len(arrivals) > 50, f"{count - len(arrivals)} dropped"
    last = statistics.median(one.delay for one in arrivals[-100:])
    assert last < 0.4, f"a delay of {last:.3f} s in the end"


def fq_codel_lets_the_sparse_pass(wire: Wire) -> None:
    # Slower, and the kernel's drops the sparse, too: see `lab.plan.backends`.
    rate = 8_000_000
    long = Queue(length=2000, unit=QueueUnit.PACKETS)
    wire.shape(Impairment(rate_bit=rate, queue=long, discipline=Discipline.FQ_CODEL))
    delays = []
    with wire.flow() as (sender, receiver):
        for i in pace(1200, 0.001):
            wire.send(i, 1500)
            if i % 120 == 119:
                sender.send(struct.pack("IQ", i, time.time_ns()))
                delays += [one.delay for one in arrivals_at(receiver, 1, DEADLINE_S)]
    assert len(delays) == 10
    # The bulk alone waits for half a second by now.
    assert statistics.median(delays[5:]) < 0.05 + SLACK_S, delays
    # Which it does not starve.
    bulk = len(wire.receive(1200, patience_s=1.0))
    assert bulk > 400, f"{bulk} of the bulk came"


def high_rates_pass(wire: Wire) -> None:
    wire.shape(Impairment(rate_bit=100_000_000_000, delay_us=1000))
    for i in pace(200, 0.0005):
        wire.send(i, 1514)
    all_came(wire.receive(200), 200)


def a_change_of_anything_loses_nothing(wire: Wire) -> None:
    stages = (
        Impairment(delay_us=20_000, jitter_us=10_000),
        Impairment(delay_us=30_000, jitter_us=10_000, distribution=Distribution.NORMAL),
        Impairment(delay_us=10_000, reorder=0.1),
        Impairment(delay_us=20_000, jitter_us=15_000, order=Order.FREE),
        Impairment(delay_us=5000, rate_bit=50_000_000, queue=ROOMY),
        Impairment(delay_us=5000, jitter_us=5000, rate_bit=50_000_000, queue=ROOMY),
        Impairment(),
        Impairment(delay_us=1000),
    )
    wire.shape(stages[0])
    count = 1600
    for i in pace(count, 0.001):
        if i % 200 == 100:
            wire.shape(stages[i // 200])
        wire.send(i)
    all_came(wire.receive(count), count, ordered=False)


def another_kind_of_queue_keeps_what_waits(wire: Wire) -> None:
    rate = 10_000_000
    in_bytes = Queue(length=15_140_000, unit=QueueUnit.BYTES)
    kinds = (
        Impairment(rate_bit=rate, queue=ROOMY),
        Impairment(rate_bit=rate, queue=in_bytes),
        Impairment(rate_bit=rate, queue=ROOMY, discipline=Discipline.CODEL),
        Impairment(rate_bit=2 * rate, queue=in_bytes, discipline=Discipline.FQ_CODEL),
        Impairment(rate_bit=rate, queue=ROOMY, discipline=Discipline.FQ_CODEL),
        Impairment(rate_bit=rate, queue=in_bytes),
        Impairment(delay_us=5000, rate_bit=rate, queue=ROOMY),
        Impairment(rate_bit=rate, queue=ROOMY, discipline=Discipline.CODEL),
        Impairment(),
        Impairment(rate_bit=rate, queue=ROOMY),
    )
    # 36 ms' worth: CoDel drops none of it, and some if the machine pauses.  Who empties a
    # queue loses most of it.
    each, few = 30, 8
    for turn, kind in enumerate(kinds):
        wire.shape(kind)
        for i in range(each):
            wire.send(turn * each + i, 1514)
    count = each * len(kinds)
    arrivals = wire.receive(count)
    missing = set(range(count)) - {arrival.number for arrival in arrivals}
    dropped: set[int] = set()
    for turn, kind in enumerate(kinds):
        here = missing.intersection(range(turn * each, (turn + 1) * each))
        if kind.discipline is not Discipline.DROP_TAIL and len(here) <= few:
            dropped |= here
    all_came(arrivals, count, spared=dropped)


def packets_are_doubled_where_a_rate_was(wire: Wire) -> None:
    wire.shape(Impairment(rate_bit=10_000_000, queue=ROOMY))
    for i in range(30):
        wire.send(i, 1514)
    wire.shape(Impairment(duplicate=1.0, delay_us=1000))
    for i in range(30, 40):
        wire.send(i, 1514)
    numbers = [arrival.number for arrival in wire.receive(50)]
    assert sorted(numbers) == sorted([*range(40), *range(30, 40)]), numbers


CHECKS: tuple[Callable[[Wire], None], ...] = (
    plain_wire_passes_all,
    each_direction_has_its_delay,
    ping_shows_the_whole_delay,
    loss_has_its_share,
    the_same_seed_loses_the_same_packets,
    everything_can_be_lost,
    rate_is_kept,
    a_lone_packet_takes_its_time,
    the_queue_drops_its_tail,
    full_frames_pass_and_longer_ones_do_not,
    change_under_traffic_loses_and_overtakes_nothing,
    a_wire_that_was_plain_loses_nothing_when_it_is_changed,
    jitter_is_distributed_as_it_says,
    jitter_keeps_the_order,
    bursts_have_their_share_and_length,
    some_overtake,
    some_arrive_twice,
    some_are_damaged,
    queues_have_their_length,
    codel_drops_before_the_queue_is_full,
    fq_codel_lets_the_sparse_pass,
    high_rates_pass,
    a_change_of_anything_loses_nothing,
    another_kind_of_queue_keeps_what_waits,
    packets_are_doubled_where_a_rate_was,
)


TIMED: frozenset[Callable[[Wire], None]] = frozenset(
    {
        each_direction_has_its_delay,
        ping_shows_the_whole_delay,
        rate_is_kept,
        a_lone_packet_takes_its_time,
        the_queue_drops_its_tail,
        full_frames_pass_and_longer_ones_do_not,
        jitter_is_distributed_as_it_says,
        some_overtake,
        queues_have_their_length,
        codel_drops_before_the_queue_is_full,
        fq_codel_lets_the_sparse_pass,
    }
)
"""Those that a machine that pauses makes fail: they are made again, a few times."""


def conform(check: Callable[[Wire], None], backend: Backend) -> None:
    """Make a check on a wire of its own; raises AssertionError, with what the machine did."""

    def once() -> None:
        with tempfile.TemporaryDirectory() as folder, Wire(backend, Path(folder)) as wire:
            check(wire)

    measured(once, SLACK_S, again=check in TIMED)


def main(backend: Backend, *names: str) -> int:
    """Run all checks on `backend`, or those of `names`; a JSON line for each; 1 if one failed."""
    failed = 0
    if backend is Backend.KERNEL:
        error = "" if kernel.supported() else "kernel.supported() does not find netem"
        facts = {"kernel": os.uname().release, "seeded": kernel.seeded()}
        print(json.dumps({"check": "probe", "error": error, **facts}), flush=True)
    for check in CHECKS:
        if names and check.__name__ not in names:
            continue
        start = time.monotonic()
        error = ""
        try:
            conform(check, backend)
        except Exception:
            error = traceback.format_exc()
            failed += 1
        took = round(time.monotonic() - start, 2)
        print(json.dumps({"check": check.__name__, "error": error, "seconds": took}), flush=True)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(Backend(sys.argv[1]), *sys.argv[2:]))
