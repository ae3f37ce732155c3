"""IPv6 with real packets: two families, home firewalls, prefix translation, NAT64 and DNS64."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import shutil
import socket
import struct
from pathlib import Path

import pytest

from lab.fabric import netns
from tests.kernel.end_to_end.support import Command

pytestmark = pytest.mark.kernel

PORT = 7000
IPV6_RECVERR = 25
"""Of linux/in6.h: a socket hears of errors that may pass, too."""
SOON_S = 30.0
"""More than any packet takes, on a machine that has other things to do too."""
NEVER_S = 0.3
"""How long nothing is waited for, after a packet that took the same way and arrived."""


class Town:
    """A lab without programs, and sockets in its nodes."""

    def __init__(self, lab: Command, folder: Path) -> None:
        self.lab = lab
        self.name = lab.name()
        self._file = folder / "town.yaml"

    def up(self, text: str) -> None:
        self._file.write_text(text)
        self.lab.ok("up", str(self._file), "--name", self.name)

    def apply(self, text: str) -> None:
        self._file.write_text(text)
        self.lab.ok("apply", str(self._file), "--name", self.name)

    def addresses(self, node: str, six: bool = True) -> list[str]:
        """The addresses of its first interface, of one family."""
        nodes = self.lab.json("status", self.name)["nodes"]
        found = next(each for each in nodes if each["node"] == node)["addresses"]
        bare = [text.partition("/")[0] for text in next(iter(found.values()))]
        return [text for text in bare if (":" in text) is six]

    def inside(self, node: str) -> contextlib.AbstractContextManager[None]:
        return netns.inside(self.lab.paths(self.name).netns(node))

    def client(self, node: str, kind: int = socket.SOCK_DGRAM, six: bool = True) -> socket.socket:
        family = socket.AF_INET6 if six else socket.AF_INET
        with self.inside(node):
            made = socket.socket(family, kind)
        made.settimeout(SOON_S)
        return made

    def server(self, node: str, kind: int = socket.SOCK_DGRAM, six: bool = True) -> socket.socket:
        made = self.client(node, kind, six)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(("::" if six else "0.0.0.0", PORT))
        if kind == socket.SOCK_STREAM:
            made.listen()
        return made


@pytest.fixture
def town(lab: Command, tmp_path: Path) -> Town:
    return Town(lab, tmp_path)


def passes(sender: socket.socket, receiver: socket.socket, to: str, port: int = PORT) -> str:
    """Send a datagram and its answer; the address that the receiver saw."""
    sender.sendto(b"to", (to, port))
    data, source = receiver.recvfrom(100)
    assert data == b"to"
    receiver.sendto(b"fro", source)
    assert sender.recv(100) == b"fro"
    return str(source[0])


def connects(client: socket.socket, server: socket.socket, to: str) -> str:
    """Open a connection and send both ways; the address that the server saw."""
    client.connect((to, PORT))
    accepted, source = server.accept()
    accepted.settimeout(SOON_S)
    with accepted:
        client.sendall(b"to")
        assert accepted.recv(100) == b"to"
        accepted.sendall(b"fro")
        assert client.recv(100) == b"fro"
    return str(source[0])


def silent(receiver: socket.socket) -> bool:
    receiver.settimeout(NEVER_S)
    try:
        receiver.recv(100)
    except TimeoutError:
        return True
    finally:
        receiver.settimeout(SOON_S)
    return False


def refused(client: socket.socket, to: str) -> bool:
    """Whether the ICMP error of a closed port comes back."""
    client.connect((to, PORT + 1))
    client.send(b"x")
    try:
        client.recv(100)
    except ConnectionRefusedError:
        return True
    return False


DUAL = """
ip: dual
routers:
  carrier: {}
  home: {via: carrier, nat: home, firewall: open}
nodes:
  alice: {via: home}
  web: {via: internet}
  old: {via: internet, ip: 4}
"""


@pytest.mark.parametrize("six", [False, True])
def test_both_families_reach_from_host_to_host(town: Town, six: bool):
    town.up(DUAL)
    web = town.addresses("web", six)[0]
    with town.client("alice", six=six) as alice, town.server("web", six=six) as there:
        seen = passes(alice, there, web)
    # IPv4 is translated, IPv6 is not.
    assert (seen == town.addresses("alice", six)[0]) is six
    with (
        town.client("alice", socket.SOCK_STREAM, six) as alice,
        town.server("web", socket.SOCK_STREAM, six) as there,
    ):
        connects(alice, there, web)
    if six:
        with town.client("web") as client, town.server("alice") as server:
            passes(client, server, town.addresses("alice")[0])
        assert town.addresses("old") == []
        # What the carrier has and nobody uses is refused, not sent round in a circle.
        with town.client("web") as client:
            client.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
            client.connect(("2a02:1:0:f000::1", PORT))
            client.send(b"x")
            with pytest.raises(OSError) as caught:
                client.recv(100)
            assert caught.value.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH)


HOMES = """
ip: dual
routers:
  home: {nat: home}
  wide: {nat: home, firewall: open}
nodes:
  alice: {via: home}
  bob: {via: wide}
  web: {via: internet}
"""


def test_a_home_lets_nothing_unsolicited_in(town: Town):
    town.up(HOMES)
    alice, web = town.addresses("alice")[0], town.addresses("web")[0]
    with town.client("web") as outside, town.server("alice") as inside:
        inside.sendto(b"first", (web, PORT))
        # Nobody was there, which the firewall lets alice know.
        outside.sendto(b"x", (alice, PORT))
        assert silent(inside)
    with town.client("alice") as inside, town.server("web") as outside:
        assert passes(inside, outside, web) == alice
    with town.client("alice") as inside:
        assert refused(inside, web)
    with town.client("web", socket.SOCK_STREAM) as client, town.server("alice"):
        client.settimeout(NEVER_S)
        with pytest.raises(TimeoutError):
            client.connect((alice, PORT))
    with (
        town.client("alice", socket.SOCK_STREAM) as client,
        town.server("web", socket.SOCK_STREAM) as server,
    ):
        connects(client, server, web)
    # Said otherwise, everything comes in, and NAT or not is of no matter to it.
    with town.client("web") as outside, town.server("bob") as inside:
        passes(outside, inside, town.addresses("bob")[0])


NPTV6 = """
ip: 6
routers:
  site: {nptv6: true, firewall: open}
  shut: {nptv6: true}
  inner: {via: site}
nodes:
  alice: {via: site}
  anna: {via: site}
  adam: {via: inner}
  carol: {via: shut}
  web: {via: internet}
"""


def half(address: str, lower: bool) -> int:
    number = int(ipaddress.IPv6Address(address))
    return number & (1 << 64) - 1 if lower else number >> 64


def word_sum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_prefixes_are_translated_one_to_one(town: Town):
    town.up(NPTV6)
    web = town.addresses("web")[0]
    outside = {}
    for node in ("alice", "anna", "adam"):
        own = town.addresses(node)[0]
        with town.client(node) as client, town.server("web") as server:
            seen = outside[node] = passes(client, server, web)
        assert own.startswith("fd")
        assert seen.startswith("2a02:")
        assert half(seen, lower=True) == half(own, lower=True)
        assert word_sum(ipaddress.ip_address(seen).packed) == word_sum(
            ipaddress.ip_address(own).packed
        )
        # One to one: it can be sent to by whoever knows it.
        with town.client("web") as client, town.server(node) as server:
            assert passes(client, server, seen) == web
        with town.client(node) as client:
            assert refused(client, web), "what an error quotes is translated too"
        with town.client("web") as client:
            assert refused(client, seen), "and outward"
    assert len(set(outside.values())) == 3
    with (
        town.client("alice", socket.SOCK_STREAM) as client,
        town.server("web", socket.SOCK_STREAM) as server,
    ):
        assert connects(client, server, web) == outside["alice"]
    # Hosts inside reach each other by what outside knows them by.
    with town.client("alice") as client, town.server("anna") as server:
        assert passes(client, server, outside["anna"]) == outside["alice"]
    with town.client("adam") as client, town.server("anna") as server:
        assert passes(client, server, outside["anna"]) == outside["adam"]


def test_a_translator_of_prefixes_has_a_firewall_beside_it(town: Town):
    town.up(NPTV6)
    with town.server("carol") as carol, town.server("web") as web:
        seen = passes(carol, web, town.addresses("web")[0])
        with town.client("web") as stranger:
            stranger.sendto(b"x", (seen, PORT))
            assert silent(carol)
        passes(web, carol, seen)


def test_no_checksum_changes(town: Town):
    town.up(NPTV6)
    alice, web = town.addresses("alice")[0], town.addresses("web")[0]
    payload = b"as it left"
    pseudo = socket.inet_pton(socket.AF_INET6, alice) + socket.inet_pton(socket.AF_INET6, web)
    length = 8 + len(payload)
    udp = struct.pack("!HHHH", 5000, PORT, length, 0) + payload
    checksum = 0xFFFF ^ word_sum(pseudo + struct.pack("!IxxxB", length, 17) + udp)
    udp = udp[:6] + struct.pack("!H", checksum) + udp[8:]
    with town.inside("alice"):
        raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_UDP)
    with town.inside("web"):
        seen = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_UDP)
    with raw, seen, town.server("web") as server:
        seen.settimeout(SOON_S)
        # The kernel fills in nothing: -1 is "no checksum of yours".
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_CHECKSUM, -1)
        raw.sendto(udp, (web, 0))
        assert seen.recv(100) == udp, "the same checksum"
        assert server.recv(100) == payload, "and a right one"


NAT64 = """
ip: dual
routers:
  mobile: {ip: 6, nat64: true}
  site: {via: mobile}
nodes:
  alice: {via: mobile}
  anna: {via: site}
  web: {via: internet, ip: 4}
  both: {via: internet}
"""

with_nat64 = pytest.mark.skipif(
    not (shutil.which("tayga") and shutil.which("unbound")), reason="tayga and unbound are needed"
)


@with_nat64
def test_a_host_without_ipv4_reaches_ipv4(town: Town):
    town.up(NAT64)
    web, router = town.addresses("web", six=False)[0], town.addresses("mobile", six=False)[0]
    mapped = f"64:ff9b::{web}"
    for node in ("alice", "anna"):
        assert town.addresses(node, six=False) == []
        with town.client(node) as client, town.server("web", six=False) as server:
            assert passes(client, server, mapped) == router
        with (
            town.client(node, socket.SOCK_STREAM) as client,
            town.server("web", socket.SOCK_STREAM, six=False) as server,
        ):
            assert connects(client, server, mapped) == router
        with town.client(node) as client:
            assert refused(client, mapped), "errors are translated"
        town.lab.ok("exec", "--lab", town.name, node, "--", "ping", "-c1", "-W30", mapped)
    # Hosts share the address, and the NAT tells them apart; a mapping is one for all destinations.
    with (
        town.server("alice") as alice,
        town.server("anna") as anna,
        town.server("web", six=False) as server,
    ):
        ports = []
        for client in (alice, anna):
            client.sendto(b"to", (mapped, PORT))
            ports.append(server.recvfrom(100)[1][1])
        assert len(set(ports)) == 2
        server.sendto(b"fro", (router, ports[1]))
        assert anna.recv(100) == b"fro"
        assert silent(alice)
    # Where there is IPv6, it is not translated.
    with town.client("alice") as client, town.server("both") as server:
        assert passes(client, server, town.addresses("both")[0]) == town.addresses("alice")[0]


@with_nat64
def test_names_lead_through_the_nat64(town: Town):
    town.up(NAT64)
    web = town.addresses("web", six=False)[0]

    def asked(node: str, name: str) -> set[str]:
        script = f"getent ahostsv6 {name} || true"
        said = town.lab.ok("exec", "--lab", town.name, node, "--", "sh", "-c", script)
        return {line.split()[0] for line in said.splitlines()}

    for node in ("alice", "anna"):
        assert {ipaddress.ip_address(each) for each in asked(node, "web")} == {
            ipaddress.ip_address(f"64:ff9b::{web}")
        }
        assert asked(node, "both") == {town.addresses("both")[0]}, "it has an AAAA record"
        assert asked(node, "nobody") == set()


def test_families_come_and_go_while_the_lab_runs(town: Town):
    before, after = DUAL.replace("ip: dual", "ip: 4"), DUAL
    town.up(before)
    four = {node: town.addresses(node, six=False) for node in ("home", "alice", "web", "old")}
    assert town.addresses("alice") == []
    town.apply(after)
    assert {node: town.addresses(node, six=False) for node in four} == four
    six = town.addresses("alice")
    with town.client("alice") as client, town.server("web") as server:
        assert passes(client, server, town.addresses("web")[0]) == six[0]
    town.apply(before)
    assert {node: town.addresses(node, six=False) for node in four} == four
    assert town.addresses("alice") == []
    with town.client("alice") as client, pytest.raises(OSError) as caught:
        client.sendto(b"x", ("2a00:1::2", PORT))
    assert caught.value.errno == errno.ENETUNREACH
    with town.client("alice", six=False) as client, town.server("web", six=False) as server:
        passes(client, server, four["web"][0])
    town.apply(after)
    assert town.addresses("alice") == six
