"""The ferry: the conformance checks, and what happens to devices and processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from lab.errors import LabError
from lab.fabric import netns
from lab.fabric.links import tap
from lab.topology.character import (
    Backend,
    Bursts,
    Discipline,
    Distribution,
    Impairment,
    LossPattern,
    Queue,
    QueueUnit,
)
from lab.topology.datafiles import find
from tests.kernel.links.conformance import (
    CHECKS,
    SLACK_S,
    A,
    Arrival,
    B,
    Wire,
    conform,
    pace,
    run,
)
from tests.machine import measured

pytestmark = pytest.mark.kernel

DEADLINE_S = 30.0
"""For what must happen."""


@pytest.fixture
def wire(tmp_path):
    with Wire(Backend.FERRY, tmp_path) as made:
        yield made


def devices(space: Path) -> set[str]:
    """Asked for without sysfs, which shows the mounting namespace."""
    with netns.inside(space):
        lines = Path("/proc/thread-self/net/dev").read_text().splitlines()[2:]
    return {line.partition(":")[0].strip() for line in lines}


def drained(wire: Wire, most: int) -> list[Arrival]:
    """What the link lets through of all that was sent from a to b, `most` at most."""
    assert wire.ferry
    wire.ferry.drain(wire.link.name)
    return wire.receive(most, patience_s=0.1)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.005)


@pytest.mark.serial
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_ferry_conforms(check):
    conform(check, Backend.FERRY)


def test_a_link_is_drained_once_what_is_on_it_has_come(wire):
    wire.shape(Impairment(delay_us=100_000), Impairment(delay_us=50_000))
    for way in (0, 1):
        for i in range(20):
            wire.send(i, way=way)
    wire.shape(Impairment())
    assert wire.ferry
    wire.ferry.drain(wire.link.name)
    (link,) = wire.ferry.stats().links
    for direction in (link.a_to_b, link.b_to_a):
        assert (direction.packets, direction.waiting) == (20, 0)
    wire.ferry.drain(wire.link.name)
    with pytest.raises(LabError, match="not carried"):
        wire.ferry.drain("another")


def test_equal_seeds_lose_the_same_packets(tmp_path):
    def received(seed: int, loss: float) -> list[int]:
        with Wire(Backend.FERRY, tmp_path, seed=seed) as wire:
            wire.shape(Impairment(loss=loss))
            for i in pace(500, 0.0002):
                wire.send(i)
            return [arrival.number for arrival in drained(wire, 500)]

    first = received(1, 0.2)
    assert first == received(1, 0.2)
    assert first != received(2, 0.2)
    assert set(received(1, 0.4)) < set(first)


def test_equal_seeds_do_the_same_to_every_packet(tmp_path):
    everything = Impairment(
        delay_us=5000,
        jitter_us=2000,
        distribution=Distribution.PARETO,
        correlation=0.5,
        loss=0.02,
        bursts=Bursts(p=0.02, r=0.3),
        duplicate=0.1,
        corrupt=0.05,
        reorder=0.1,
    )

    def fates(seed: int) -> Counter[int]:
        with Wire(Backend.FERRY, tmp_path, seed=seed) as wire:
            wire.shape(everything)
            for i in pace(500, 0.0003):
                wire.send(i, 600)
            return Counter(arrival.number for arrival in drained(wire, 1000))

    first = fates(1)
    assert first == fates(1)
    assert first != fates(2)


def test_a_pattern_loses_what_it_says(wire):
    wire.shape(Impairment(pattern=LossPattern(lost=(3, 7, 9), of=20)))
    for i in pace(60, 0.0005):
        wire.send(i + 1)
    got = {arrival.number for arrival in drained(wire, 60)}
    assert set(range(1, 61)) - got == {3, 7, 9, 23, 27, 29, 43, 47, 49}


def test_a_trace_says_when_packets_leave(tmp_path):
    # One packet each 2 ms, then none for 50.
    (tmp_path / "x.trace").write_text("\n".join(map(str, [*range(2, 52, 2), 100])))
    file, _ = find("x.trace", tmp_path)

    def check() -> None:
        with Wire(Backend.FERRY, tmp_path) as wire:
            wire.shape(Impairment(trace=file, queue=Queue(length=200, unit=QueueUnit.PACKETS)))
            for i in range(104):
                wire.send(i, 1500)
            stamps = [arrival.received for arrival in wire.receive(104)]
        assert len(stamps) == 104
        gaps = [b - a for a, b in pairwise(stamps)]
        # Each turn has one packet alone in the middle of a pause of 52 ms.
        assert 3 <= sum(gap > 0.03 for gap in gaps) <= 9
        assert stamps[-1] - stamps[0] >= 0.29

    measured(check, SLACK_S, again=True)


def test_a_trace_that_has_changed_is_refused_and_changes_nothing(wire, tmp_path):
    (tmp_path / "x.trace").write_text("2\n")
    file, _ = find("x.trace", tmp_path)
    wire.shape(Impairment(trace=file))
    (tmp_path / "x.trace").write_text("1\n")
    with pytest.raises(LabError, match="has changed"):
        wire.shape(Impairment(delay_us=1), Impairment(trace=file))
    wire.shape(Impairment(trace=file))


def test_an_active_queue_that_ends_loses_nothing(wire):
    slow = Impairment(
        rate_bit=1_000_000,
        queue=Queue(length=500, unit=QueueUnit.PACKETS),
        discipline=Discipline.FQ_CODEL,
    )
    wire.shape(slow)
    for i in range(100):
        wire.send(i, 500)
    wire.shape(Impairment(rate_bit=10_000_000, queue=slow.queue))
    for i in range(100, 130):
        wire.send(i, 500)
    assert sorted(arrival.number for arrival in wire.receive(130)) == list(range(130))


def test_tcp_data_arrive_whole(wire):
    wire.shape(Impairment(delay_us=2000, rate_bit=200_000_000), Impairment(delay_us=2000))
    sent = os.urandom(1 << 16) * 64
    with netns.inside(wire.spaces[1]):
        server = socket.create_server((B, 80))
    with netns.inside(wire.spaces[0]):
        client = socket.create_connection((B, 80), timeout=DEADLINE_S, source_address=(A, 0))
    connection, _ = server.accept()
    connection.settimeout(DEADLINE_S)

    def write() -> None:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)

    writer = threading.Thread(target=write)
    writer.start()
    received = bytearray()
    while data := connection.recv(1 << 16):
        received += data
    writer.join()
    for handle in (connection, client, server):
        handle.close()
    assert received == sent
    (link,) = wire.ferry.stats().links
    # Nothing longer than the MTU was on the wire: no segmentation was left to do.
    assert link.a_to_b.bytes / link.a_to_b.packets <= 1514


def test_an_mtu_of_its_own(tmp_path):
    with Wire(Backend.FERRY, tmp_path, mtu=1280) as wire:
        assert " 0% packet loss" in wire.ping("-c", "1", "-M", "do", "-s", str(1280 - 28))
        assert " 0% packet loss" not in wire.ping("-c", "1", "-M", "do", "-s", str(1280 - 27))


def test_statistics_tell_the_causes_apart(wire):
    wire.shape(Impairment(loss=0.5))
    for i in pace(200, 0.0005):
        wire.send(i, 100)
    delivered = len(drained(wire, 200))
    stats = wire.ferry.stats()
    (link,) = stats.links
    assert link.name == "a.eth0--b.eth0"
    assert link.alive
    assert (link.a_to_b.packets, link.a_to_b.bytes) == (delivered, delivered * 100)
    assert link.a_to_b.lost == 200 - delivered
    assert sum(stats.lateness.counts) == delivered
    assert stats.lateness.total_ns >= 0 < stats.lateness.worst_ns

    wire.shape(Impairment(rate_bit=64_000))
    for i in range(100):
        wire.send(i, 1514)
    until(lambda: wire.ferry.stats().links[0].a_to_b.overflowed > 0)
    direction = wire.ferry.stats().links[0].a_to_b
    assert direction.waiting <= 64
    assert direction.packets + direction.waiting + direction.lost + direction.overflowed <= 300


def test_detached_devices_vanish(wire):
    assert all("eth0" in devices(space) for space in wire.spaces)
    wire.ferry.detach(wire.link.name)
    assert not any("eth0" in devices(space) for space in wire.spaces)
    with pytest.raises(LabError, match="not carried"):
        wire.ferry.detach(wire.link.name)
    with pytest.raises(LabError, match="not carried"):
        wire.ferry.shape(wire.link)
    assert wire.ferry.stats().links == ()


def test_a_detached_link_can_be_attached_again(wire):
    wire.ferry.detach(wire.link.name)
    ends = []
    for space, end in zip(wire.spaces, (wire.link.a, wire.link.b), strict=True):
        with netns.inside(space):
            ends.append(tap.create(end.interface, end.mac, 1500))
    wire.ferry.attach(wire.link, *ends)
    for space, own, other, end in (
        (wire.spaces[0], A, B, wire.link.b),
        (wire.spaces[1], B, A, wire.link.a),
    ):
        run("ip", "-n", space.name, "address", "add", f"{own}/24", "dev", "eth0")
        run("ip", "-n", space.name, "neigh", "replace", other, "lladdr", end.mac, "dev", "eth0")
    carries_with_a_delay(wire)


def carries_with_a_delay(wire: Wire) -> None:
    wire.shape(Impairment(delay_us=5000))
    wire.send(1)
    (arrival,) = wire.receive(1)
    assert arrival.delay >= 0.005


def test_a_second_link_of_that_name_is_refused_and_its_devices_closed(wire):
    ends = []
    for space in wire.spaces:
        with netns.inside(space):
            ends.append(tap.create("eth1", "02:00:00:00:00:09", 1500))
    with pytest.raises(LabError, match="attached already"):
        wire.ferry.attach(wire.link, *ends)
    assert not any("eth1" in devices(space) for space in wire.spaces)
    wire.send(1)
    assert len(wire.receive(1)) == 1


def test_devices_go_with_the_ferry_and_somebody_is_told(wire):
    told: list[int] = []
    wire.ferry.on_exit(told.append)
    os.kill(wire.ferry.pid, signal.SIGKILL)
    until(lambda: told == [-signal.SIGKILL])
    assert not wire.ferry.alive()
    assert not any("eth0" in devices(space) for space in wire.spaces)
    with pytest.raises(LabError, match="gone"):
        wire.ferry.stats()


def test_closing_tells_nobody_and_may_be_repeated(wire):
    told: list[int] = []
    wire.ferry.on_exit(told.append)
    wire.ferry.close()
    wire.ferry.close()
    assert not wire.ferry.alive()
    assert told == []


def test_the_ferry_outlives_the_thread_that_started_it(tmp_path):
    made: list[Wire] = []
    starter = threading.Thread(
        target=lambda: made.append(Wire(Backend.FERRY, tmp_path).__enter__())
    )
    starter.start()
    starter.join()
    (wire,) = made
    try:
        carries_with_a_delay(wire)
    finally:
        wire.__exit__()


def test_the_ferry_dies_with_its_parent_even_if_a_child_holds_the_socket(tmp_path):
    script = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from lab.fabric.links.ferry import Ferry\n"
        "from lab.paths import LabPaths\n"
        "ferry = Ferry.start(LabPaths(Path(sys.argv[1]) / 'x'), 1)\n"
        "ferry.stats()\n"
        "child = os.fork()\n"
        "if child == 0: time.sleep(30)\n"
        "print(ferry.pid, child, flush=True)\n"
        "time.sleep(30)\n"
    )
    parent = subprocess.Popen(
        [os.sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout
    ferry, child = (int(word) for word in parent.stdout.readline().split())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    try:
        until(lambda: not running(ferry))
    finally:
        os.kill(child, signal.SIGKILL)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_many_threads_may_attach_at_once(tmp_path):
    with Wire(Backend.FERRY, tmp_path) as wire:
        errors: list[BaseException] = []

        def attach(i: int) -> None:
            try:
                for j in range(5):
                    name = f"e{i}x{j}"
                    ends = []
                    for space in wire.spaces:
                        with netns.inside(space):
                            ends.append(tap.create(name, f"02:00:00:00:{i:02x}:{j:02x}", 1500))
                    end = type(wire.link.a)
                    wire.ferry.attach(
                        type(wire.link)(
                            a=end(node="a", interface=name, mac=""),
                            b=end(node="b", interface=name, mac=""),
                        ),
                        *ends,
                    )
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=attach, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(wire.ferry.stats().links) == 21
        assert len(devices(wire.spaces[0])) == 22


def test_a_taken_name_is_refused(wire):
    with netns.inside(wire.spaces[0]), pytest.raises(LabError, match="exists already"):
        tap.create("eth0", "02:00:00:00:00:09", 1500)


def test_a_device_that_is_deleted_ends_its_link_alone(wire):
    run("ip", "-n", wire.spaces[0].name, "link", "delete", "eth0")
    until(lambda: not wire.ferry.stats().links[0].alive)
    assert "eth0" not in devices(wire.spaces[1])
    wire.ferry.shape(wire.link)
    wakeups = wire.ferry.stats().wakeups
    # It is not woken again and again by what is gone: each question is one wakeup.
    assert wire.ferry.stats().wakeups - wakeups <= 5
    wire.ferry.detach(wire.link.name)
    assert wire.ferry.stats().links == ()


def test_an_interface_that_is_down_refuses_and_recovers(wire):
    side = ("ip", "-n", wire.spaces[1].name)
    run(*side, "link", "set", "eth0", "down")
    wire.send(1)
    until(lambda: wire.ferry.stats().links[0].a_to_b.refused == 1)
    run(*side, "link", "set", "eth0", "up")
    run(*side, "neighbour", "replace", A, "lladdr", wire.link.a.mac, "dev", "eth0")
    wire.send(2)
    assert [arrival.number for arrival in wire.receive(1)] == [2]
