"""Packets that the machine lost of a lab: seen, counted, and said to distort it."""

import contextlib
import os
import secrets
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

import pytest

from lab.fabric import netns
from lab.fabric.links import tap
from lab.fabric.links.dropped import TapDrops
from lab.fabric.links.ferry import Ferry
from lab.observe import counters
from lab.observe.health import HealthSampler
from lab.paths import NETNS_DIR, LabPaths
from lab.plan.model import End, Link
from lab.topology.character import Backend
from tests.kernel.end_to_end.support import Command

pytestmark = pytest.mark.kernel

FLOOD = 3 * tap.RING_PACKETS
# UDP from 192.0.2.1 to 192.0.2.2, port 9: a flow, which is what packets are spread by.
FRAME = (
    bytes.fromhex("ffffffffffff 020000000001 0800 45000032 00000000 4011 0000 c0000201 c0000202")
    + bytes.fromhex("0009 0009 001e 0000")
    + bytes(22)
)
DEADLINE_S = 30.0
_SO_SNDBUFFORCE = 32
_RTMGRP_LINK = 1
_RTM_DELLINK = 17


@contextlib.contextmanager
def spaces(count: int):
    """Network namespaces of the test's own."""
    name = f"t-drops-{secrets.token_hex(3)}"
    made = [NETNS_DIR / f"{name}.{letter}" for letter in "abc"[:count]]
    try:
        for path in made:
            netns.create(path)
            with netns.inside(path):
                Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
        yield made
    finally:
        for path in made:
            netns.delete(path)


def flood(namespace: Path, interface: str, count: int) -> None:
    """Send `count` frames to nobody there, as fast as it goes."""
    with netns.inside(namespace):
        handle = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with handle:
        # A frame counts as the sender's until it is received: more than the backlog holds.
        handle.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, 1 << 26)
        handle.bind((interface, 0))
        for _ in range(count):
            # The sender may be told of a loss.
            with contextlib.suppress(OSError):
                handle.send(FRAME)


@contextlib.contextmanager
def stopped(pid: int):
    """The process gets no processor within the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def dropped_at(namespace: Path, interface: str) -> int:
    """What the kernel says itself."""
    with netns.inside(namespace):
        text = Path("/proc/thread-self/net/dev").read_text()
    return {one.name: one.transmit_drops for one in counters.parse_devices(text)}[interface]


def test_what_a_stopped_ferry_leaves_lying_distorts(tmp_path):
    link = Link(
        a=End(node="a", interface="eth0", mac="02:00:00:00:00:01"),
        # Another name: what counts is what the ferry holds.
        b=End(node="b", interface="wan7", mac="02:00:00:00:00:02"),
        mtu=1500,
        backend=Backend.FERRY,
    )
    with spaces(2) as (a, b), Ferry.start(LabPaths(tmp_path / "l"), 1) as ferry:
        files = []
        for path, end in ((a, link.a), (b, link.b)):
            with netns.inside(path):
                files.append(tap.create(end.interface, end.mac, link.mtu))
        ferry.attach(link, *files)
        sampler = HealthSampler(ferry.stats, tap_drops=ferry.unfetched)
        try:
            mark = sampler.mark()
            flood(b, "wan7", 100)
            assert sampler.since(mark).tap_drops == 0
            with stopped(ferry.pid):
                flood(b, "wan7", FLOOD)
                assert ferry.unfetched() == dropped_at(b, "wan7") > 0
            dropped = dropped_at(b, "wan7")
            sample = sampler.since(mark)
            assert sample.tap_drops == dropped
            assert sample.distorted
            words = f"user-space links left {dropped} packets lying until the kernel lost them"
            assert words in sample.reasons
            assert sampler.current().tap_drops == dropped
            ferry.detach(link.name)
            assert ferry.unfetched() == dropped, "what a link dropped stays counted when it goes"
        finally:
            sampler.close()


def test_watching_devices_keeps_no_namespace_alive_and_outlives_them():
    drops = TapDrops()
    with spaces(2) as (path, other):
        ip("link", "add", "v0", "netns", path.name, "type", "veth",
           "peer", "name", "v0", "netns", other.name)  # fmt: skip
        with netns.inside(path):
            file = tap.create("eth0", "02:00:00:00:00:01", 1500)
        drops.watch("l", [file])
        flood(path, "eth0", FLOOD)
        lost = drops.total()
        assert lost == dropped_at(path, "eth0") > 0
        with netns.inside(other):
            news = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        with news:
            news.bind((0, _RTMGRP_LINK))
            news.settimeout(DEADLINE_S)
            os.close(file)
            netns.delete(path)
            # The namespace takes its end of the pair with it, and so the other.
            while struct.unpack_from("=IH", news.recv(1 << 16))[1] != _RTM_DELLINK:
                pass
        assert drops.total() == lost
    drops.close()


def test_status_says_that_the_links_of_a_lab_could_not_keep_up(tmp_path):
    lab = Command(tmp_path)
    name = lab.name()
    topology = tmp_path / "t.yaml"
    topology.write_text(
        f"name: {name}\nnodes:\n  alice: {{via: internet, link: {{delay: 2ms, backend: ferry}}}}\n"
    )
    lab.ok("up", str(topology))
    try:
        assert lab.json("status", name)["health"]["tap_drops"] == 0
        path = lab.paths(name).netns("alice")
        with stopped(ferry_of(lab.paths(name))):
            flood(path, "eth0", FLOOD)
        health = lab.json("status", name)["health"]
        assert health["tap_drops"] == dropped_at(path, "eth0") > 0
        assert health["distorted"]
        assert any("left" in reason for reason in health["reasons"])
    finally:
        lab.ok("down", name)


def ferry_of(paths: LabPaths) -> int:
    """The process that carries the links of a lab."""
    marker = f"LAB_STATE={paths.root}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes().split(b"\0")
            if b"lab.fabric.links.ferry" in command and marker in (
                process / "environ"
            ).read_bytes().split(b"\0"):
                return int(process.name)
    pytest.fail("no ferry")


@pytest.mark.serial  # What is lost here may be a neighbour's too: the backlog is the processor's.
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
def test_what_a_full_backlog_lost_is_told_apart_by_whose_it_was():
    sender, receiver = sorted(os.sched_getaffinity(0))[:2]
    with spaces(3) as (a, b, other), contextlib.ExitStack() as stack:
        ip("link", "add", "eth0", "netns", a.name, "type", "veth",
           "peer", "name", "eth0", "netns", b.name)  # fmt: skip
        for path in (a, b):
            ip("-n", path.name, "link", "set", "eth0", "up")
        # What arrives is handed to another processor, and is a lot of work there.
        steer = f"echo {1 << receiver:x} > /sys/class/net/eth0/queues/rx-0/rps_cpus"
        ip("netns", "exec", b.name, "sh", "-c", steer)
        rules = "ip ttl 1 counter\n" * 4000
        chain = f"chain c {{ type filter hook ingress device eth0 priority 0;\n{rules}}}"
        ip("netns", "exec", b.name, "nft", "-f", "-", said=f"table netdev t {{\n{chain}\n}}\n")
        mine = HealthSampler(receive_drops=lambda: counters.receive_drops((a, b)))
        stack.callback(mine.close)
        others = HealthSampler(receive_drops=lambda: counters.receive_drops((other,)))
        stack.callback(others.close)
        marks = mine.mark(), others.mark()
        pinned = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {sender})
        stack.callback(os.sched_setaffinity, 0, pinned)
        deadline = time.monotonic() + DEADLINE_S
        while not counters.receive_drops((b,)) and time.monotonic() < deadline:
            flood(a, "eth0", 4000)
        sample, elsewhere = mine.since(marks[0]), others.since(marks[1])
        assert sample.softirq_drops_here == counters.receive_drops((b,)) > 0
        lost = f"lost {sample.softirq_drops_here} packet"
        assert any(lost in reason and "of this lab" in reason for reason in sample.reasons)
        assert elsewhere.softirq_drops >= sample.softirq_drops_here
        assert elsewhere.softirq_drops_here == 0
        assert not any("backlog" in reason for reason in elsewhere.reasons)


def ip(*arguments: str, said: str = "") -> None:
    subprocess.run(("ip", *arguments), check=True, input=said, text=True)
