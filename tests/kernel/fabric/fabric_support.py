"""What the tests of the fabric share: a lab without an agent, and small networks."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from itertools import groupby
from typing import Any

from lab.fabric import netns
from lab.fabric.journal import Journal
from lab.fabric.network import Network
from lab.paths import NETNS_DIR, LabPaths
from lab.plan.diff import diff
from lab.plan.model import End, Interface, Link, Node, NodeKind, Plan, Route
from lab.plan.operations import AnyOperation, phase

DEFAULT = "0.0.0.0/0"


class Bench:
    """The fabric of one lab, with what a test asks of it."""

    def __init__(self, name: str) -> None:
        self.paths = LabPaths.of(name)
        self.journal = Journal.open(self.paths.journal)
        self.network = Network(self.paths, self.journal)
        self.done: list[AnyOperation] = []
        self.plan: Plan | None = None

    def carry_out(self, *operations: AnyOperation) -> None:
        self.network.carry_out(operations, lambda operation, _: self.done.append(operation))

    def apply(self, nodes: Iterable[Node], links: Iterable[Link] = ()) -> None:
        """Bring the lab from what it is to `nodes` and `links`, as an agent does."""
        plan = Plan(lab=self.paths.lab, nodes=tuple(nodes), links=tuple(links))
        for _, group in groupby(diff(self.plan, plan), key=phase):
            self.carry_out(*group)
        self.plan = plan

    def run(self, node: str, *command: str, check: bool = True) -> str:
        """The output of a command in a node."""
        with netns.inside(self.paths.netns(node)):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def json(self, node: str, *command: str) -> Any:
        return json.loads(self.run(node, *command))

    def link(self, node: str, interface: str) -> dict[str, Any]:
        found = self.json(node, "ip", "-d", "-j", "link", "show", "dev", interface)
        return next(link for link in found if link)  # ip leaves {} for what it filtered out.

    def addresses(self, node: str, interface: str) -> list[str]:
        found = self.json(node, "ip", "-j", "addr", "show", "dev", interface)
        items = (item for link in found for item in link.get("addr_info", ()))
        return [f"{item['local']}/{item['prefixlen']}" for item in items]

    def routes(self, node: str) -> set[tuple[str, str]]:
        found = self.json(node, "ip", "-j", "route", "show", "proto", "boot")
        return {(route["dst"], route.get("gateway", "")) for route in found}

    def reaches(self, node: str, address: str, *, patience_s: int = 30) -> bool:
        """Whether a single packet is answered."""
        command = ("ping", "-c", "1", "-W", str(patience_s), address)
        with netns.inside(self.paths.netns(node)):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:  # Seen where the test fails.
            print(done.stdout, done.stderr)
            for what in ("address", "route", "neigh"):
                print(self.run(node, "ip", "-6" if ":" in address else "-4", what))
        return done.returncode == 0

    def setting(self, node: str, key: str) -> str:
        return self.run(node, "cat", f"/proc/sys/net/{key}").strip()

    def namespaces(self) -> set[str]:
        prefix = f"{self.paths.lab}."
        return {path.name[len(prefix) :] for path in NETNS_DIR.glob(f"{prefix}*")}


def host(name: str, address: str, gateway: str = "", **more: Any) -> Node:
    routes = (Route(destination=DEFAULT, gateway=gateway, interface="eth0"),) if gateway else ()
    ports = (Interface(name="eth0", addresses=(address,)),)
    return Node(name=name, kind=NodeKind.HOST, interfaces=ports, routes=routes, **more)


def router(name: str, wan: str, lan: str, gateway: str = "", **more: Any) -> Node:
    routes = (Route(destination=DEFAULT, gateway=gateway, interface="wan"),) if gateway else ()
    return Node(
        name=name,
        kind=NodeKind.ROUTER,
        forwarding=True,
        wan="wan",
        lan="lan",
        interfaces=(
            Interface(name="wan", addresses=(wan,)),
            Interface(name="lan", addresses=(lan,)),
        ),
        routes=routes,
        **more,
    )


def segment(name: str, *ports: str) -> Node:
    interfaces = tuple(Interface(name=port) for port in ports)
    return Node(name=name, kind=NodeKind.SEGMENT, interfaces=interfaces)


def wire(a: str, b: str, **more: Any) -> Link:
    """A link between "node.interface" and "node.interface", with MAC addresses from the names."""
    return Link(a=_end(a), b=_end(b), **more)


def _end(text: str) -> End:
    node, interface = text.split(".")
    number = sum(ord(letter) * 31**place for place, letter in enumerate(text)) % (1 << 40)
    mac = ":".join(f"{octet:02x}" for octet in (2, *number.to_bytes(5, "big")))
    return End(node=node, interface=interface, mac=mac)


def pair() -> tuple[list[Node], list[Link]]:
    """Two hosts on one wire."""
    nodes = [host("alice", "10.0.0.1/24"), host("bob", "10.0.0.2/24")]
    return nodes, [wire("alice.eth0", "bob.eth0")]


def small() -> tuple[list[Node], list[Link]]:
    """A host behind a router, the internet, a segment with two servers: every kind of node."""
    core = Node(
        name="internet",
        kind=NodeKind.INTERNET,
        forwarding=True,
        interfaces=(
            Interface(name="home", addresses=("45.0.0.1/30",)),
            Interface(name="servers", addresses=("46.0.0.1/24",)),
        ),
        routes=(Route(destination="192.168.1.0/24", gateway="45.0.0.2", interface="home"),),
    )
    nodes = [
        core,
        router("home", "45.0.0.2/30", "192.168.1.1/24", "45.0.0.1"),
        segment("rack", "up", "s1", "s2"),
        host("alice", "192.168.1.2/24", "192.168.1.1"),
        host("one", "46.0.0.11/24", "46.0.0.1"),
        host("two", "46.0.0.12/24", "46.0.0.1"),
    ]
    links = [
        wire("home.wan", "internet.home"),
        wire("alice.eth0", "home.lan"),
        wire("internet.servers", "rack.up"),
        wire("one.eth0", "rack.s1"),
        wire("two.eth0", "rack.s2"),
    ]
    return nodes, links
