"""NATs behind NATs, and many subscribers behind one."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from fabric_support import Bench

from lab.fabric import netns
from lab.plan.compile import compile_topology
from lab.plan.machine import Machine
from lab.plan.model import Node
from lab.topology.behaviour import Dependence, Hairpin, Nat, PortPolicy, Ports
from lab.topology.model import INTERNET, NodeSpec, RouterSpec, Topology

pytestmark = pytest.mark.kernel

FULL_CONE = Nat(filtering=Dependence.ENDPOINT_INDEPENDENT)
PORT = 5000


@dataclass
class Compiled:
    """A compiled topology in the kernel."""

    bench: Bench
    nodes: dict[str, Node]

    @classmethod
    def make(cls, bench: Bench, *specs: RouterSpec | NodeSpec) -> Compiled:
        topology = Topology(
            name="nested",
            routers=tuple(spec for spec in specs if isinstance(spec, RouterSpec)),
            nodes=tuple(spec for spec in specs if isinstance(spec, NodeSpec)),
        )
        plan = compile_topology(topology, Machine(), lab=bench.paths.lab)
        bench.apply(plan.nodes, plan.links)
        return cls(bench, {node.name: node for node in plan.nodes})

    def address(self, node: str, interface: str = "eth0") -> str:
        ports = {port.name: port for port in self.nodes[node].interfaces}
        return ports[interface].addresses[0].partition("/")[0]

    @contextlib.contextmanager
    def udp(self, node: str, port: int = PORT) -> Iterator[socket.socket]:
        with netns.inside(self.bench.paths.netns(node)):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sock:
            sock.bind((self.address(node), port))
            sock.settimeout(30)
            yield sock


def seen(server: socket.socket, sender: socket.socket) -> tuple[str, int]:
    """The endpoint that the server sees, once its answer came back."""
    sender.sendto(b"hello", server.getsockname())
    _, external = server.recvfrom(64)
    server.sendto(b"welcome", external)
    assert sender.recvfrom(64) == (b"welcome", server.getsockname())
    return external


def test_a_home_behind_a_carrier_behind_a_carrier(bench):
    blocks = Ports(policy=PortPolicy.BLOCK, block=512)
    carrier = Nat(
        filtering=Dependence.ENDPOINT_INDEPENDENT, ports=blocks, hairpin=Hairpin.EXTERNAL_SOURCE
    )
    lab = Compiled.make(
        bench,
        RouterSpec(name="transit", via=INTERNET, nat=carrier),
        RouterSpec(name="carrier", via="transit", nat=carrier),
        RouterSpec(name="home", via="carrier", nat=FULL_CONE),
        NodeSpec(name="alice", via="home"),
        NodeSpec(name="bob", via="carrier"),
        NodeSpec(name="server", via=INTERNET),
        NodeSpec(name="stranger", via=INTERNET),
    )
    with (
        lab.udp("server") as server,
        lab.udp("stranger") as stranger,
        lab.udp("alice") as alice,
        lab.udp("bob") as bob,
    ):
        externals = [seen(server, alice), seen(server, bob)]
        # The carrier is the only subscriber of its transit: both are in its one block.
        assert {address for address, _ in externals} == {lab.address("transit", "wan")}
        assert {(port - 1024) // 512 for _, port in externals} == {0}
        # Who lets everybody in three times over is reached from anywhere.
        for external, sock in zip(externals, (alice, bob), strict=True):
            stranger.sendto(b"unasked", external)
            assert sock.recvfrom(64) == (b"unasked", stranger.getsockname())
        # From the carrier's own network to the home, out through the transit and back.
        bob.sendto(b"round", externals[0])
        assert alice.recvfrom(64) == (b"round", externals[1])


def test_a_hundred_subscribers_have_a_block_each(bench):
    count, size = 100, 64
    nat = Nat(ports=Ports(policy=PortPolicy.BLOCK, block=size))
    names = [f"sub-{i}" for i in range(count)]
    lab = Compiled.make(
        bench,
        RouterSpec(name="carrier", via=INTERNET, nat=nat),
        *(NodeSpec(name=name, via="carrier") for name in names),
        NodeSpec(name="server", via=INTERNET),
    )
    blocks: dict[int, str] = {}
    with lab.udp("server") as server:
        for name in names:
            for port in range(PORT, PORT + 3):
                with lab.udp(name, port) as sock:
                    address, external = seen(server, sock)
                assert address == lab.address("carrier", "wan")
                assert blocks.setdefault((external - 1024) // size, name) == name
    assert len(blocks) == count
