"""UPnP IGD, NAT-PMP and PCP by the real daemon, asked by clients that are not ours."""

from __future__ import annotations

import asyncio
import contextlib
import re
import select
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.fabric import netns
from lab.paths import NETNS_DIR
from lab.peer.portmap.ask import CLIENTS
from lab.peer.portmap.exchange import Host
from lab.peer.portmap.keep import keep
from lab.peer.portmap.lease import UDP
from lab.peer.record import Tally
from tests.kernel.end_to_end.support import Command

pytestmark = pytest.mark.kernel

# The least obvious combination: a NAT that learns from every flow, and a firewall besides.
HOME = """
name: mapped
routers:
  home:
    nat: {preset: full-cone, unsolicited: rst, lifetimes: {udp: 60s}}
    firewall: stateful
    port-mapping: {protocols: [upnp, pcp], min-lifetime: 1s}
nodes:
  alice: {via: home, command: [sleep, infinity]}
  outside: {via: internet}
"""
NESTED = """
name: nested
routers:
  carrier: {nat: cgnat}
  home: {via: carrier, nat: home, port-mapping: true}
nodes:
  alice: {via: home}
"""
FENCE = 9999
ALICE = "192.168.1.2"
ROUTER = "192.168.1.1"
DESCRIPTION = f"http://{ROUTER}:5000/rootDesc.xml"
GROUP = ("239.255.255.250", 1900)
DEADLINE_S = 30
LATE_S = 0.2
"""By how much one packet may pass another, where two processors carry them."""


@dataclass
class World:
    """A lab with one home, and sockets in its nodes."""

    lab: Command
    name: str
    file: Path
    stack: contextlib.ExitStack

    @property
    def external(self) -> str:
        nodes = {node["node"]: node for node in self.lab.json("status", self.name)["nodes"]}
        return str(nodes["home"]["addresses"]["wan"][0].partition("/")[0])

    def client(self, *words: str) -> str:
        """What a foreign client in alice says."""
        command = ["ip", "netns", "exec", f"{self.name}.alice", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout + done.stderr

    def upnpc(self, *words: str) -> str:
        return self.client("upnpc", "-u", DESCRIPTION, *words)

    def socket(self, node: str, kind: int, port: int = 0, address: str = "") -> socket.socket:
        with netns.inside(NETNS_DIR / f"{self.name}.{node}"):
            sock = self.stack.enter_context(socket.socket(socket.AF_INET, kind))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        sock.settimeout(DEADLINE_S)
        return sock

    def apply(self, text: str) -> None:
        self.file.write_text(text)
        self.lab.ok("apply", str(self.file), "--name", self.name)


@pytest.fixture
def start(lab: Command, tmp_path: Path):
    with contextlib.ExitStack() as stack:

        def begin(text: str) -> World:
            file = tmp_path / "mapped.yaml"
            file.write_text(text)
            name = lab.name()
            lab.ok("up", str(file), "--name", name, "--runtime", "process", "--quiet")
            return World(lab, name, file, stack)

        yield begin


@pytest.fixture
def reaches(request: pytest.FixtureRequest) -> Callable[..., Callable[[int], bool]]:
    """Whether a datagram from outside to an external port comes to alice's port of that number.

    A datagram to a port that is mapped for good follows it: when that one is
    there, the first is there, or a moment later, or never comes.
    """

    def prepare(world: World) -> Callable[[int], bool]:
        fence = world.socket("alice", socket.SOCK_DGRAM, FENCE)
        outside = world.socket("outside", socket.SOCK_DGRAM)
        inside: dict[int, socket.socket] = {}
        external = world.external
        assert "is redirected to" in world.upnpc("-a", ALICE, str(FENCE), str(FENCE), "UDP")

        def reached(port: int) -> bool:
            if port not in inside:
                inside[port] = world.socket("alice", socket.SOCK_DGRAM, port)
            outside.sendto(b"question", (external, port))
            outside.sendto(b"fence", (external, FENCE))
            assert fence.recv(100) == b"fence"
            if not select.select([inside[port]], [], [], LATE_S)[0]:
                return False
            data, source = inside[port].recvfrom(100)
            assert data == b"question"
            inside[port].sendto(b"answer", source)
            answer = outside.recvfrom(100)
            assert answer == (b"answer", (external, port))
            # Another port next time: what conntrack has admitted once goes on.
            outside.close()
            return True

        def with_fresh_port(port: int) -> bool:
            nonlocal outside
            outside = world.socket("outside", socket.SOCK_DGRAM)
            return reached(port)

        return with_fresh_port

    return prepare


def until(condition: Callable[[], bool]) -> None:
    """Ask until it is so; each question takes some milliseconds."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline


def opens(ask: Callable[[], str], lease_s: float, reached: Callable[[int], bool]) -> str:
    """What a client says that leases port 8000, once the port is reached.

    Asked again only if the lease was over before anybody could look.
    """
    deadline = time.monotonic() + DEADLINE_S
    while True:
        began = time.monotonic()
        said = ask()
        if reached(8000):
            return said
        assert lease_s <= time.monotonic() - began < deadline - began, said


def connects(world: World, port: int) -> bool:
    outside = world.socket("outside", socket.SOCK_STREAM)
    try:
        outside.connect((world.external, port))
    except ConnectionRefusedError:
        return False
    return True


def test_a_lease_opens_a_port_and_ends(start, reaches):
    world = start(HOME)
    reached = reaches(world)
    assert not reached(8000)
    lease = ("-a", ALICE, "8000", "8000", "UDP", "2")
    assert "is redirected to" in opens(lambda: world.upnpc(*lease), 2, reached)
    until(lambda: not reached(8000))
    # The same by its port: mapped and given back.
    assert "is redirected to" in world.upnpc("-a", ALICE, "8001", "8001", "UDP", "600")
    assert reached(8001)
    assert "UDP  8001->192.168.1.2:8001" in world.upnpc("-l")
    assert "returned : 0" in world.upnpc("-d", "8001", "UDP")
    assert not reached(8001)


def test_tcp_is_mapped_as_well(start):
    world = start(HOME)
    listener = world.socket("alice", socket.SOCK_STREAM, 8080)
    listener.listen()
    assert not connects(world, 8080)
    assert "is redirected to" in world.upnpc("-a", ALICE, "8080", "8080", "TCP", "600")
    assert connects(world, 8080)
    world.upnpc("-d", "8080", "TCP")
    assert not connects(world, 8080)


def test_a_mapped_port_is_for_who_comes_from_outside(start, reaches):
    """However the NAT hairpins: its own mappings turn packets around, those of miniupnpd don't."""
    world = start(
        HOME.replace("preset: full-cone", "preset: full-cone, hairpin: external-source").replace(
            "  outside:", "  bob: {via: home}\n  outside:"
        )
    )
    reached = reaches(world)
    assert "is redirected to" in world.upnpc("-a", ALICE, "8000", "8000", "UDP", "600")
    inside, own = (world.socket("alice", socket.SOCK_DGRAM, port) for port in (8001, 8002))
    assert "is redirected to" in world.upnpc("-a", ALICE, "8001", "8001", "UDP", "600")
    bob = world.socket("bob", socket.SOCK_DGRAM)
    # What alice sends makes a mapping of the NAT's; what follows is behind what was asked before.
    own.sendto(b"out", ("203.0.113.9", 9))
    bob.sendto(b"in vain", (world.external, 8001))
    bob.sendto(b"around", (world.external, 8002))
    data, source = own.recvfrom(100)
    assert (data, source[0]) == (b"around", world.external)
    assert not select.select([inside], [], [], 0)[0]
    assert reached(8000)


def test_nat_pmp_and_pcp(start, reaches):
    world = start(HOME)
    reached = reaches(world)
    lease = ("natpmpc", "-g", ROUTER, "-a", "8000", "8000", "udp", "2")
    said = opens(lambda: world.client(*lease), 2, reached)
    assert f"Public IP address : {world.external}" in said
    assert "Mapped public port 8000 protocol UDP to local port 8000 liftime 2" in said
    until(lambda: not reached(8000))

    client = world.socket("alice", socket.SOCK_DGRAM, address=ALICE)
    granted = pcp_map(client, 8002, 600)
    assert granted == (0, 600, 8002, world.external)
    assert reached(8002)
    assert pcp_map(client, 8002, 0)[0] == 0
    assert not reached(8002)


def pcp_map(client: socket.socket, port: int, lifetime_s: int) -> tuple[int, int, int, str]:
    """RFC 6887, section 11: result, lifetime, external port and address."""
    mapped = b"\0" * 10 + b"\xff\xff"
    request = struct.pack("!BBHI", 2, 1, 0, lifetime_s) + mapped + socket.inet_aton(ALICE)
    request += b"lab's nonce!" + struct.pack("!BxxxHH", 17, port, port)
    request += mapped + b"\0" * 4
    client.sendto(request, (ROUTER, 5351))
    answer = client.recv(1100)
    _, operation, _, result, lifetime = struct.unpack_from("!BBBBI", answer)
    assert operation == 0x81
    (external,) = struct.unpack_from("!H", answer, 42)
    return result, lifetime, external, socket.inet_ntoa(answer[56:60])


def test_mappings_outlast_another_nat_and_end_with_a_reboot(start, reaches):
    world = start(HOME)
    reached = reaches(world)
    world.upnpc("-a", ALICE, "8000", "8000", "UDP", "600")
    assert reached(8000)
    before = daemon(world)
    world.apply(HOME.replace("full-cone", "symmetric"))
    assert reached(8000)
    assert daemon(world)["pid"] == before["pid"]
    world.lab.ok("nat", "reboot", "home", "--lab", world.name)
    assert daemon(world)["pid"] != before["pid"]
    assert "8000->" not in world.upnpc("-l")
    world.upnpc("-a", ALICE, str(FENCE), str(FENCE), "UDP")
    assert not reached(8000)


def daemon(world: World):
    nodes = {node["node"]: node for node in world.lab.json("status", world.name)["nodes"]}
    return nodes["home"]["daemons"].get("miniupnpd")


def test_ssdp_tells_of_its_coming_and_going_and_answers_searches(start):
    world = start(HOME)
    member = world.socket("alice", socket.SOCK_DGRAM, GROUP[1])
    group = socket.inet_aton(GROUP[0]) + socket.inet_aton(ALICE)
    member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
    assert f"desc: {DESCRIPTION}" in world.client("upnpc", "-s")

    world.apply(HOME.replace("port-mapping", "#"))
    told = notifications(member, "ssdp:byebye")
    assert "urn:schemas-upnp-org:device:InternetGatewayDevice:2" in told
    assert daemon(world) is None
    for port in (1900, 5351):
        client = world.socket("alice", socket.SOCK_DGRAM)
        client.connect((ROUTER, port))
        client.send(b"\0\0")
        with pytest.raises(ConnectionRefusedError):
            client.recv(100)
    tables = world.lab.ok("exec", "--lab", world.name, "home", "nft", "list", "tables")
    assert "upnp" not in tables

    world.apply(HOME)
    told = notifications(member, "ssdp:alive")
    assert "urn:schemas-upnp-org:device:InternetGatewayDevice:2" in told
    assert daemon(world)["state"] == "ready"


def notifications(member: socket.socket, kind: str) -> set[str]:
    """What the router announces with `kind`, until it is the gateway's turn."""
    told: set[str] = set()
    while not any("InternetGatewayDevice:2" in what for what in told):
        text = member.recv(2000).decode()
        if text.startswith("NOTIFY") and f"NTS: {kind}\r\n" in text:
            found = re.search(r"\r\nNT: (\S+)", text)
            assert found
            told.add(found[1])
    return told


def test_behind_a_carriers_nat_clients_are_told_that_it_is_of_no_use(start):
    world = start(NESTED)
    assert "Found a (not connected?) IGD" in world.client("upnpc", "-s")
    refused = world.upnpc("-i", "-a", ALICE, "8000", "8000", "UDP")
    assert "failed with code 501 (Action Failed)" in refused
    assert "network failure" in world.client("natpmpc", "-g", ROUTER, "-a", "8000", "8000", "udp")


@pytest.mark.parametrize("protocol", ["nat-pmp", "pcp", "upnp"])
def test_a_short_lease_is_renewed_until_it_is_given_back(start, reaches, protocol):
    world = start(HOME)
    comes = reaches(world)
    port, lifetime_s, renewals = 7000, 2, 3

    async def run() -> None:
        client = CLIENTS[protocol](Host(ALICE, ROUTER, Tally()))
        kept = await keep(client, UDP, port, lifetime_s)
        try:
            async with asyncio.timeout(DEADLINE_S):
                # Three halves of a life later the first lease is over.
                while kept.renewals < renewals:
                    await asyncio.wait((kept._task,), timeout=0.1)
                # Beside the renewing, which a machine that pauses may make late for once.
                while not await asyncio.to_thread(comes, kept.lease.external.port):
                    pass
        finally:
            await kept.release()
        assert not comes(port)

    with netns.inside(NETNS_DIR / f"{world.name}.alice"):
        asyncio.run(run())
