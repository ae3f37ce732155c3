"""Scrapes of a real network: true counters, and nothing changed by looking."""

import secrets
import socket
import threading
from pathlib import Path

import pytest

from lab.fabric import netns
from lab.observe import counters
from lab.observe.exporter import Exporter
from lab.paths import LabPaths
from tests.kernel.observe_support import build, remove
from tests.unit.observe_support import many_homes, samples, scrape

pytestmark = pytest.mark.kernel

HOMES = 3


@pytest.fixture
def lab(tmp_path):
    """Three homes behind NATs, and an exporter; (plan, paths, port)."""
    name = f"t-observe-{secrets.token_hex(3)}"
    plan = many_homes(HOMES, name)
    paths = LabPaths(tmp_path / name)
    exporter = Exporter(paths, lambda: plan, dict)
    try:
        build(paths, plan)
        yield plan, paths, exporter.start()
    finally:
        exporter.close()
        remove(paths)


def interfaces(text: str, field: str) -> dict[tuple[str, str], float]:
    return {
        (dict(labels)["node"], dict(labels)["interface"]): value
        for labels, value in samples(text)[f"lab_interface_{field}_total"].items()
    }


def send(paths: LabPaths, node: str, to: str, packets: int, size: int) -> None:
    with netns.inside(paths.netns(node)):
        handle = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with handle:
        for _ in range(packets):
            handle.sendto(bytes(size), (to, 9))


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_counters_are_the_kernels(lab):
    plan, paths, port = lab
    before = scrape(port)
    send(paths, "host-1", "192.168.1.1", packets=50, size=1000)
    after = scrape(port)

    def grown(field, where):
        return interfaces(after, field)[where] - interfaces(before, field)[where]

    # Address resolution may add a few; nothing else in this network speaks.
    sent = grown("transmit_packets", ("host-1", "eth0"))
    assert 50 <= sent < 60
    assert grown("transmit_bytes", ("host-1", "eth0")) >= 50 * (1000 + 8 + 20 + 14)
    assert grown("receive_packets", ("home-1", "lan")) == sent
    assert grown("transmit_packets", ("host-2", "eth0")) == 0
    expected = {(link.node, link.interface) for wire in plan.links for link in (wire.a, wire.b)}
    assert set(interfaces(after, "receive_drops")) == expected


def test_a_nat_shows_the_connections_that_it_tracks(lab):
    _, paths, port = lab
    entries = {
        dict(labels)["node"]: value
        for labels, value in samples(scrape(port))["lab_conntrack_entries"].items()
    }
    assert entries == {f"home-{i}": 0 for i in range(1, HOMES + 1)}
    send(paths, "host-2", "192.168.1.1", packets=1, size=1)
    got = samples(scrape(port))
    assert got["lab_conntrack_entries"][(("node", "home-2"),)] == 1
    assert got["lab_conntrack_entries"][(("node", "home-1"),)] == 0
    assert got["lab_conntrack_entries_max"][()] > 0
    assert got["lab_conntrack_drops_total"][(("node", "home-2"), ("reason", "drop"))] == 0


def test_a_scrape_leaves_the_network_alone(lab):
    plan, paths, port = lab

    def everything():
        return [counters.read(paths.netns(node.name), tracking=True) for node in plan.nodes]

    # The kernel may have something of its own to say in a young network, so
    # one round of scrapes without any change proves it.
    for _ in range(20):
        before = everything()
        for _ in range(10):
            scrape(port)
        if everything() == before:
            break
    else:
        pytest.fail("the counters changed in each of 20 rounds")


def test_a_scrape_leaves_no_thread_file_or_namespace_behind(lab):
    _, _, port = lab
    scrape(port)
    here = Path("/proc/self/ns/net").readlink()
    files, threads = open_files(), threading.active_count()
    for _ in range(5):
        scrape(port)
    for _ in range(1500):  # the thread of the last answer may be on its way out
        if threading.active_count() <= threads:
            break
        threading.Event().wait(0.02)
    assert threading.active_count() <= threads
    assert open_files() <= files
    for task in Path("/proc/self/task").iterdir():
        assert (task / "ns/net").readlink() == here


def test_a_node_that_vanishes_is_left_out(lab):
    _, paths, port = lab
    netns.delete(paths.netns("host-3"))
    nodes = {node for node, _ in interfaces(scrape(port), "receive_bytes")}
    assert "host-3" not in nodes
    assert "host-2" in nodes
