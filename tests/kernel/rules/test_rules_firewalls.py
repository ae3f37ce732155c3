"""Firewalls of routers and hosts, by IPv4 and IPv6, with real packets in both directions.

What a program sees is what is asserted: a connection or an answer ("passes"),
the name of the error that it gets, or nothing at all ("silence").
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from rules_bench import DEADLINE_S, Net, connect_later, fresh_port, ip, ready

from lab.fabric import rules
from lab.plan.model import Interface, Node, NodeKind
from lab.topology.behaviour import Firewall
from lab.topology.loader import loads

pytestmark = pytest.mark.kernel

OUTSIDE = {4: "45.0.0.11", 6: "2001:db8:f::11"}
INSIDE = {4: "192.168.1.2", 6: "2001:db8:1::2"}
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
TCP_PORTS = (80, 443, 9000)
UDP_PORTS = (53, 3478, 9000)
BARRIER = 3478
"""By UDP from inside; every firewall here admits it, and so its answers."""

ROUTER = Node(
    name="router",
    kind=NodeKind.ROUTER,
    interfaces=(
        Interface(name="wan", addresses=("45.0.0.2/24",)),
        Interface(name="lan", addresses=("192.168.1.1/24",)),
    ),
    forwarding=True,
    wan="wan",
    lan="lan",
)
HOST = Node(
    name="inside",
    kind=NodeKind.HOST,
    interfaces=(Interface(name="eth0", addresses=("192.168.1.2/24",)),),
)


def firewall(text: str) -> Firewall:
    """The firewall that a file's text means."""
    found = loads(f"routers: {{r: {{firewall: {text}}}}}", "test.yaml").routers[0].firewall
    assert found is not None
    return found


@dataclass
class Yard:
    """A host inside, a router that only routes, a host outside; both hosts serve."""

    net: Net
    tcp: dict[tuple[str, int, int], socket.socket] = field(default_factory=dict)
    udp: dict[tuple[str, int, int], socket.socket] = field(default_factory=dict)

    def use(self, node: Node, wanted: Firewall | None) -> None:
        """Give the router or the inside host this firewall, and the other one none."""
        for one in (ROUTER, HOST):
            filtered = Node(
                **{key: getattr(one, key) for key in one.__struct_fields__ if key != "firewall"},
                firewall=wanted if one is node else None,
            )
            with self.net.inside(one.name):
                rules.load(rules.render(filtered))

    def socket(self, name: str, version: int, kind: int, protocol: int = 0) -> socket.socket:
        with self.net.inside(name):
            made = socket.socket(FAMILY[version], kind, protocol)
        made.settimeout(DEADLINE_S)
        return made

    def listen(self) -> None:
        for name, addresses in (("outside", OUTSIDE), ("inside", INSIDE)):
            for version, address in addresses.items():
                for port in TCP_PORTS:
                    made = self.socket(name, version, socket.SOCK_STREAM)
                    self.tcp[name, version, port] = made
                    made.bind((address, port))
                    made.listen(64)
                for port in UDP_PORTS:
                    made = self.socket(name, version, socket.SOCK_DGRAM)
                    self.udp[name, version, port] = made
                    made.bind((address, port))

    def close(self) -> None:
        for made in (*self.tcp.values(), *self.udp.values()):
            made.close()
        self.net.close()

    # --- probes -----------------------------------------------------------

    def barrier(self, version: int) -> None:
        """Two exchanges begun inside: what was sent before has arrived, and what it caused."""
        for _ in range(2):
            assert self.send("inside", "udp", version, BARRIER, "passes") == "passes"

    def flow(self, source: str, protocol: str, version: int, port: int, expected: str) -> str:
        """What becomes of a new flow; one that is expected to go somewhere is given time."""
        if protocol == "tcp":
            return self.connect(source, version, port, expected)
        if protocol == "icmp":
            return self.ping(source, version, expected)
        return self.send(source, "udp", version, port, expected)

    def connect(self, source: str, version: int, port: int, expected: str) -> str:
        target, at = _other(source, version)
        with self.socket(source, version, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connect_later(sock, (at, port))
            if expected == "silence":
                self.barrier(version)
                if not ready(sock, write=True, within_s=0):
                    return "silence"
            assert ready(sock, write=True)
            if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                return errno.errorcode[code]
            sock.settimeout(DEADLINE_S)
            accepted, _ = self.tcp[target, version, port].accept()
            with accepted:
                accepted.sendall(b"answer")
                assert sock.recv(6) == b"answer"
            return "passes"

    def send(self, source: str, protocol: str, version: int, port: int, expected: str) -> str:
        target, at = _other(source, version)
        server = self.udp[target, version, port]
        with self.socket(source, version, socket.SOCK_DGRAM) as sock:
            sock.connect((at, port))
            word = str(fresh_port()).encode()
            try:
                sock.send(word)
                if expected == "silence":
                    self.barrier(version)
                    return "passes" if ready(server, within_s=0) else "silence"
                if expected == "passes":
                    data, back = server.recvfrom(64)
                    assert data == word
                    server.sendto(b"answer", back)
                assert sock.recv(64) == b"answer"
            except OSError as error:
                return errno.errorcode[error.errno or 0]
            return "passes"

    def ping(self, source: str, version: int, expected: str) -> str:
        _, at = _other(source, version)
        protocol, request = (
            (socket.IPPROTO_ICMP, 8) if version == 4 else (socket.IPPROTO_ICMPV6, 128)
        )
        with self.socket(source, version, socket.SOCK_RAW, protocol) as sock:
            sock.connect((at, 0))
            number = fresh_port()
            message = struct.pack("!BBHHH", request, 0, 0, number, 1)
            if version == 4:
                message = message[:2] + struct.pack("!H", _checksum(message)) + message[4:]
            try:
                sock.send(message)
                if expected == "silence":
                    self.barrier(version)
                while expected != "silence" or ready(sock, within_s=0):
                    answer = sock.recv(256)
                    answer = answer[20:] if version == 4 else answer
                    if answer[0] in (0, 129) and answer[4:6] == struct.pack("!H", number):
                        return "passes"
            except OSError as error:
                return errno.errorcode[error.errno or 0]
            return "silence"


def _other(source: str, version: int) -> tuple[str, str]:
    return ("outside", OUTSIDE[version]) if source == "inside" else ("inside", INSIDE[version])


def _checksum(message: bytes) -> int:
    total = sum(struct.unpack(f"!{len(message) // 2}H", message))
    return ~(total + (total >> 16)) & 0xFFFF


@pytest.fixture(scope="module")
def yard() -> Iterator[Yard]:
    net = Net()
    made = Yard(net)
    try:
        for name in ("outside", "inside"):
            net.add(name)
        net.add("router", forwarding=True)
        net.link("outside", "eth0", "router", "wan")
        net.link("inside", "eth0", "router", "lan")
        with net.inside("router"):
            Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
            ip(
                "addr add 45.0.0.2/24 dev wan",
                "addr add 192.168.1.1/24 dev lan",
                "addr add 2001:db8:f::2/64 dev wan nodad",
                "addr add 2001:db8:1::1/64 dev lan nodad",
            )
        with net.inside("outside"):
            ip(
                "addr add 45.0.0.11/24 dev eth0",
                "addr add 2001:db8:f::11/64 dev eth0 nodad",
                "route add 192.168.1.0/24 via 45.0.0.2",
                "route add 2001:db8:1::/64 via 2001:db8:f::2",
            )
        with net.inside("inside"):
            ip(
                "addr add 192.168.1.2/24 dev eth0",
                "addr add 2001:db8:1::2/64 dev eth0 nodad",
                "route add default via 192.168.1.1",
                "route add default via 2001:db8:1::1",
            )
        made.listen()
        yield made
    finally:
        made.close()


PROHIBITED = {4: "EHOSTUNREACH", 6: "EACCES"}
"""What Linux tells a program of an ICMP "administratively prohibited"."""
OURS = "udp/3478"

# Firewall, flows of the inside, flows of the outside: (protocol, port, what becomes of it).
# "prohibited" stands for the error above.
CASES = {
    "open": (
        "open",
        [("tcp", 9000, "passes"), ("udp", 9000, "passes"), ("icmp", 0, "passes")],
        [("tcp", 9000, "passes"), ("udp", 9000, "passes"), ("icmp", 0, "passes")],
    ),
    "stateful": (
        "stateful",
        [("tcp", 9000, "passes"), ("udp", 9000, "passes"), ("icmp", 0, "passes")],
        [("tcp", 9000, "silence"), ("udp", 9000, "silence"), ("icmp", 0, "silence")],
    ),
    "reject in": (
        "{inbound: {default: reject}}",
        [("tcp", 9000, "passes"), ("udp", 9000, "passes")],
        [("tcp", 9000, "ECONNREFUSED"), ("udp", 9000, "prohibited"), ("icmp", 0, "prohibited")],
    ),
    "openings in": (
        '{inbound: ["tcp/80,443", udp/9000, icmp]}',
        [("tcp", 9000, "passes")],
        [
            ("tcp", 80, "passes"),
            ("tcp", 443, "passes"),
            ("tcp", 9000, "silence"),
            ("udp", 53, "silence"),
            ("udp", 9000, "passes"),
            ("icmp", 0, "passes"),
        ],
    ),
    "reject out": (
        f'{{outbound: {{default: reject, rules: ["tcp/80,8000-8999", {OURS}]}}, inbound: []}}',
        [
            ("tcp", 80, "passes"),
            ("tcp", 443, "ECONNREFUSED"),
            ("udp", 9000, "prohibited"),
            ("icmp", 0, "prohibited"),
        ],
        [("tcp", 9000, "silence"), ("udp", 3478, "silence")],
    ),
    "established": (
        f"{{outbound: [{OURS}], inbound: [established]}}",
        [],
        [("tcp", 9000, "silence"), ("udp", 9000, "silence")],
    ),
    "one refused": (
        "{outbound: [reject tcp/443], inbound: [drop udp/53]}",
        [("tcp", 443, "ECONNREFUSED"), ("tcp", 80, "passes"), ("udp", 53, "passes")],
        [("udp", 53, "silence"), ("udp", 9000, "passes"), ("tcp", 443, "passes")],
    ),
}


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("node", [ROUTER, HOST], ids=lambda node: node.name)
def test_what_passes(yard, node, name, version):
    text, outbound, inbound = CASES[name]
    yard.use(node, firewall(text))
    for source, flows in (("inside", outbound), ("outside", inbound)):
        for protocol, port, word in flows:
            expected = PROHIBITED[version] if word == "prohibited" else word
            if node is HOST and source == "inside" and word != "passes":
                continue  # What a host's own firewall says to its programs is below.
            got = yard.flow(source, protocol, version, port, expected)
            assert got == expected, (source, protocol, port)


@pytest.mark.parametrize("version", [4, 6])
def test_rules_by_address(yard, version):
    text = f"[{OURS}, tcp/80 to 45.0.0.0/8, 'tcp/443 to 2001:db8:f::11']"
    yard.use(ROUTER, firewall(f"{{outbound: {text}}}"))
    passes = {4: 80, 6: 443}[version]
    for port in (80, 443):
        expected = "passes" if port == passes else "silence"
        assert yard.connect("inside", version, port, expected) == expected


@pytest.mark.parametrize("version", [4, 6])
def test_a_router_that_drops_leaves_programs_waiting(yard, version):
    yard.use(ROUTER, firewall(f"{{outbound: [{OURS}]}}"))
    for protocol in ("tcp", "udp", "icmp"):
        assert yard.flow("inside", protocol, version, 9000, "silence") == "silence"


@pytest.mark.parametrize("version", [4, 6])
def test_a_host_that_rejects_tells_its_programs(yard, version):
    yard.use(HOST, firewall(f"{{outbound: {{default: reject, rules: [{OURS}]}}}}"))
    assert yard.connect("inside", version, 443, "error") == "ECONNREFUSED"
    # A packet that its own host refuses fails where it is sent.
    assert yard.send("inside", "udp", version, 9000, "error") == "EPERM"
    assert yard.ping("inside", version, "error") == "EPERM"


@pytest.mark.parametrize("version", [4, 6])
def test_a_host_that_drops_keeps_connections_waiting(yard, version):
    yard.use(HOST, firewall(f"{{outbound: [{OURS}], inbound: []}}"))
    assert yard.connect("inside", version, 443, "silence") == "silence"
    assert yard.send("inside", "udp", version, 9000, "error") == "EPERM"


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("node", [ROUTER, HOST], ids=lambda node: node.name)
def test_what_was_admitted_outlasts_a_stricter_firewall(yard, node, version):
    yard.use(node, firewall("open"))
    with contextlib.ExitStack() as stack:
        pairs = []
        for source, target, at in (
            ("inside", "outside", OUTSIDE[version]),
            ("outside", "inside", INSIDE[version]),
        ):
            sock = stack.enter_context(yard.socket(source, version, socket.SOCK_STREAM))
            sock.connect((at, 9000))
            accepted, _ = yard.tcp[target, version, 9000].accept()
            pairs.append((sock, stack.enter_context(accepted)))
        yard.use(node, firewall("{outbound: [established], inbound: [established]}"))
        for sock, accepted in pairs:
            for sender, receiver in ((sock, accepted), (accepted, sock)):
                sender.sendall(b"still here")
                assert receiver.recv(10) == b"still here"
        late = stack.enter_context(yard.socket("outside", version, socket.SOCK_STREAM))
        connect_later(late, (INSIDE[version], 9000))
        pairs[0][1].sendall(b"barrier")
        assert pairs[0][0].recv(7) == b"barrier"
        assert not ready(late, write=True, within_s=0)


@pytest.mark.parametrize("version", [4, 6])
def test_a_routers_firewall_is_also_its_own(yard, version):
    """Nothing unsolicited in: not to the router itself either, but that it answers ping."""
    at = {4: "45.0.0.2", 6: "2001:db8:f::2"}[version]
    with (
        yard.socket("router", version, socket.SOCK_STREAM) as listener,
        yard.socket("outside", version, socket.SOCK_STREAM) as outside,
        yard.socket("inside", version, socket.SOCK_STREAM) as inside,
    ):
        listener.bind((("0.0.0.0", "::")[version == 6], 8080))
        listener.listen()
        yard.use(ROUTER, firewall("stateful"))
        connect_later(outside, (at, 8080))
        yard.barrier(version)
        assert not ready(outside, write=True, within_s=0)
        inside.connect(({4: "192.168.1.1", 6: "2001:db8:1::1"}[version], 8080))
