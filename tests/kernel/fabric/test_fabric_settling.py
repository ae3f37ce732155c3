"""What is configured sends: not one of the first packets is lost."""

from __future__ import annotations

import socket

import pytest
from fabric_support import host, pair, segment, wire

from lab.fabric import netns, settling

pytestmark = pytest.mark.kernel

TIMES = 25
"""Without waiting for the kernel, one in ten was lost even on an idle machine."""


def exchange(bench, net: str = "10.0.0.", family: int = socket.AF_INET) -> None:
    """A datagram each way between alice and bob, at once; the first of their lives."""
    one, other = f"{net}1", f"{net}2"
    ends = []
    for node, address in (("alice", one), ("bob", other)):
        with netns.inside(bench.paths.netns(node)):
            end = socket.socket(family, socket.SOCK_DGRAM)
        end.bind((address, 4000))
        end.settimeout(30)
        ends.append(end)
    with ends[0] as first, ends[1] as second:
        first.sendto(b"there", (other, 4000))
        assert second.recv(9) == b"there"
        second.sendto(b"back", (one, 4000))
        assert first.recv(9) == b"back"


def test_the_first_packets_on_a_wire_arrive(bench):
    for _ in range(TIMES):
        bench.apply(*pair())
        exchange(bench)
        bench.apply([])


def test_the_first_packets_from_and_to_ipv6_addresses_arrive(bench):
    nodes = [host("alice", "2001:db8::1/64"), host("bob", "2001:db8::2/64")]
    for _ in range(TIMES):
        bench.apply(nodes, [wire("alice.eth0", "bob.eth0")])
        exchange(bench, "2001:db8::", socket.AF_INET6)
        bench.apply([])


def test_the_first_packets_through_a_switch_arrive(bench):
    nodes = [host("alice", "10.0.0.1/24"), host("bob", "10.0.0.2/24"), segment("lan", "p1", "p2")]
    links = [wire("alice.eth0", "lan.p1"), wire("bob.eth0", "lan.p2")]
    for _ in range(TIMES):
        bench.apply(nodes, links)
        exchange(bench)
        bench.apply([])


def test_nobody_waits_for_an_end_without_a_carrier_or_for_one_that_is_gone(bench):
    bench.apply(*pair())
    bench.run("bob", "ip", "link", "set", "eth0", "down")
    with netns.inside(bench.paths.netns("alice")):
        settling.settle([socket.if_nametoindex("eth0"), 77], [], "alice")
    assert "NO-CARRIER" in bench.link("alice", "eth0")["flags"]
