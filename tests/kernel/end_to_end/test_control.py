"""What runs is changed by commands and by the file's timeline: one node at a time, in order."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab.fabric import netns
from tests.kernel.end_to_end.support import Command

pytestmark = pytest.mark.kernel

NETWORK = """
name: controlled
routers:
  home-a: {nat: home}
  home-b: {nat: {mapping: apdm, ports: random}, firewall: stateful}
nodes:
  server: {via: internet}
  alice: {via: home-a}
  bob: {via: home-b}
"""
NODES = ("home-a", "home-b", "server", "alice", "bob", "internet")
DEADLINE_S = 30.0


class Lab:
    """A running lab, and sockets in its nodes."""

    def __init__(self, command: Command, name: str, stack: ExitStack) -> None:
        self.command, self.name, self._stack = command, name, stack
        self._server = self.address("server")

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.command.run(*arguments, "--lab", self.name)

    def json(self, *arguments: str) -> Any:
        return self.command.json(*arguments, "--lab", self.name)

    def address(self, node: str) -> str:
        plan = json.loads(self.command.paths(self.name).plan.read_bytes())
        interfaces = next(each for each in plan["nodes"] if each["name"] == node)["interfaces"]
        return interfaces[0]["addresses"][0].partition("/")[0]

    def socket(self, node: str, kind: socket.SocketKind, port: int = 0) -> socket.socket:
        with netns.inside(self.command.paths(self.name).netns(node)):
            sock = socket.socket(socket.AF_INET, kind)
        self._stack.enter_context(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.settimeout(DEADLINE_S)
        sock.bind(("0.0.0.0", port))
        return sock

    def udp(self, node: str, port: int = 0) -> socket.socket:
        return self.socket(node, socket.SOCK_DGRAM, port)

    def connection(self, node: str) -> tuple[socket.socket, socket.socket]:
        """A TCP connection from `node` to the server: its end, the server's end."""
        listener = self.socket("server", socket.SOCK_STREAM)
        listener.listen()
        inside = self.socket(node, socket.SOCK_STREAM)
        inside.connect((self._server, listener.getsockname()[1]))
        outside = self._stack.enter_context(listener.accept()[0])
        outside.settimeout(DEADLINE_S)
        return inside, outside

    def seen(self, inside: socket.socket, server: socket.socket) -> int:
        """The port from which the server sees what `inside` sends."""
        inside.sendto(b"x", (self._server, server.getsockname()[1]))
        return server.recvfrom(10)[1][1]

    def rules(self) -> dict[str, str]:
        """Every rule of every node, as the kernel tells them."""
        return {node: self._rules(node) for node in NODES}

    def _rules(self, node: str) -> str:
        told = ""
        with netns.inside(self.command.paths(self.name).netns(node)):
            for words in (["iptables-nft-save"], ["nft", "-s", "-t", "list", "ruleset"]):
                told += subprocess.run(words, capture_output=True, text=True, check=True).stdout
        told = re.sub(r"\[\d+:\d+\]|^#.*\n", "", told, flags=re.MULTILINE)
        # In the order of their names: the kernel has that in which they were made.
        return "".join(sorted(re.split(r"^(?=table |\*)", told, flags=re.MULTILINE)))


@contextmanager
def running(command: Command, path: Path, text: str) -> Iterator[Lab]:
    file = path / "controlled.yaml"
    file.write_text(text)
    name = command.name()
    command.ok("up", str(file), "--name", name, "--runtime", "process")
    with ExitStack() as stack:
        yield Lab(command, name, stack)


@pytest.fixture
def home(lab: Command, tmp_path: Path) -> Iterator[Lab]:
    with running(lab, tmp_path, NETWORK) as found:
        yield found


def exchange(one: socket.socket, other: socket.socket) -> None:
    for sender, receiver in ((one, other), (other, one)):
        sender.sendall(b"still here")
        assert receiver.recv(100) == b"still here"


def test_a_nat_is_set_and_no_other_node_notices(home: Lab):
    connections = [home.connection("alice"), home.connection("bob")]
    first, second = home.udp("server"), home.udp("server")
    before = home.rules()
    assert home.seen(home.udp("alice", 4000), first) == 4000

    answer = home.json("nat", "set", "home-a", "mapping=apdm", "ports=random")
    assert answer["operations"] == 1
    after = home.rules()
    assert {node for node in NODES if after[node] != before[node]} == {"home-a"}
    for inside, outside in connections:
        exchange(inside, outside)
    alice = home.udp("alice", 4001)
    assert home.seen(alice, first) != home.seen(alice, second)

    shown = home.json("nat", "show", "home-a")
    assert shown["nat"]["mapping"] == "address-and-port-dependent"
    assert shown["nat"]["preset"] == "home, changed"
    towards = {m["towards"] for m in shown["mappings"] if m["inside"].endswith(":4001")}
    assert {f"{home.address('server')}:{s.getsockname()[1]}" for s in (first, second)} == towards

    assert home("nat", "set", "home-a", "home").returncode == 0
    assert home.seen(home.udp("alice", 4002), first) == 4002
    assert home("nat", "show", "home-a", "--rules").stderr == ""


def test_mappings_are_shown_and_flushed(home: Lab):
    home.json("nat", "set", "home-a", "ports=random")
    server, alice, bob = home.udp("server"), home.udp("alice", 4000), home.udp("bob", 4000)
    kept = home.seen(bob, server)
    port = home.seen(alice, server)
    assert home.seen(alice, server) == port
    shown = home.json("nat", "show", "home-a")
    assert [(m["inside"], m["outside"]) for m in shown["mappings"]] == [
        (f"{home.address('alice')}:4000", f"{shown['outside']}:{port}")
    ]
    home.json("nat", "flush", "home-a")
    assert home.json("nat", "show", "home-a")["mappings"] == []
    assert home.seen(alice, server) != port
    assert home.seen(bob, server) == kept


def test_a_reboot_kills_flows(home: Lab):
    home.json("nat", "set", "home-a", "ports=random")
    inside, outside = home.connection("alice")
    bystander = home.connection("bob")
    exchange(inside, outside)
    before = home.rules()
    home.json("nat", "reboot", "home-a")
    assert home.rules() == before
    # It leaves from another port now, where the server knows of no connection.
    inside.sendall(b"lost")
    with pytest.raises(ConnectionResetError):
        inside.recv(10)
    exchange(*bystander)


def test_a_firewall_is_set_shown_and_taken_away(home: Lab):
    server, alice = home.udp("server"), home.udp("alice", 4000)
    connection = home.connection("alice")
    before = home.rules()
    home.json("firewall", "set", "alice", "udp-blocked")
    after = home.rules()
    assert {node for node in NODES if after[node] != before[node]} == {"alice"}
    with pytest.raises(PermissionError):
        home.seen(alice, server)
    exchange(*connection)
    assert home.json("firewall", "show", "alice")["firewall"]["preset"] == "udp-blocked"
    assert "drop udp" in home("firewall", "show", "alice").stdout
    assert "-p udp" in home("firewall", "show", "alice", "--rules").stdout
    home.json("firewall", "set", "alice", "outbound=[udp]")
    assert home.seen(alice, server) == 4000
    assert home.json("firewall", "show", "alice")["firewall"]["preset"] == "udp-blocked, changed"
    home.json("firewall", "set", "alice", "none")
    assert home.rules() == before


def test_the_rules_shown_are_those_that_are_loaded(home: Lab):
    shown = home("nat", "show", "home-a", "--rules")
    assert "nothing unsolicited in" in shown.stdout
    assert "# NAT of home-a" in shown.stdout, "with the comments of the template"
    assert shown.stderr == ""
    path = home.command.paths(home.name).netns("home-a")
    with netns.inside(path):
        subprocess.run(["iptables", "-A", "FORWARD", "-s", "192.0.2.1", "-j", "DROP"], check=True)
    changed = home("nat", "show", "home-a", "--rules")
    assert "other rules than lab gave it" in changed.stderr
    assert "192.0.2.1" in changed.stdout


def test_a_change_that_the_kernel_refuses_changes_nothing(home: Lab):
    server, alice = home.udp("server"), home.udp("alice", 4000)
    path = home.command.paths(home.name).netns("home-a")
    taken = "add map ip lab udp_by_flow { type ipv4_addr : ipv4_addr; }"
    with netns.inside(path):
        subprocess.run(["nft", taken], check=True)
    before = home.rules()
    # The tables of iptables change too, and before those of nft.
    refused = home("nat", "set", "home-a", "symmetric", "unsolicited=reject")
    assert refused.returncode == 4
    assert "nftables refused" in refused.stderr
    assert home.rules() == before
    assert home.json("nat", "show", "home-a")["nat"]["preset"] == "home"
    assert home.seen(alice, server) == 4000
    with netns.inside(path):
        subprocess.run(["nft", "delete map ip lab udp_by_flow"], check=True)
    assert home("nat", "set", "home-a", "symmetric").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nat", "set", "home-a", "symetric"), "did you mean 'symmetric'?"),
        (("nat", "set", "home-a", "ports=randum"), "unknown word 'randum'"),
        (("nat", "set", "home-a", "none"), "can't be taken away"),
        (("nat", "set", "hom-a", "symmetric"), "did you mean 'home-a'?"),
        (("nat", "set", "alice", "symmetric"), "no router 'alice'"),
        (("nat", "flush", "alice"), "no router 'alice'"),
        (("nat", "reboot", "server"), "no router 'server'"),
        (("firewall", "set", "alice", "outbound=tcp/99999"), "ports are 1 to 65535"),
        (("firewall", "set", "internet", "stateful"), "no node 'internet'"),
    ],
)
def test_what_makes_no_sense_changes_nothing(shared: Lab, arguments, said):
    plan = shared.command.paths(shared.name).plan.read_bytes()
    refused = shared(*arguments)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert shared.command.paths(shared.name).plan.read_bytes() == plan


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One lab for all tests that change nothing."""
    path = tmp_path_factory.mktemp("shared")
    command = Command(path / "state")
    with running(command, path, NETWORK) as found:
        yield found
    command.ok("down", "--all", "--quiet")


TIMELINE = """
timeline:
  - {at: 600ms, set: {router: home-a, nat: {preset: symmetric}}}
  - {at: 200ms, set: {node: alice, firewall: udp-blocked}, for: 200ms}
  - {at: 500ms, flush: home-b}
  - at: 100ms
    set: {router: home-b, nat: full-cone}
    for: 50ms
    every: 300ms
    times: 2
    jitter: 10ms
  - {at: 800ms, reboot: home-a}
"""


def follow(lab: Lab) -> Iterator[dict[str, Any]]:
    """Events as they happen, until the lab is down."""
    with lab.command.popen("events", lab.name, "--follow", "--json") as following:
        assert following.stdout is not None
        for line in following.stdout:
            yield json.loads(line)
        assert following.wait(DEADLINE_S) == 0


def test_the_timeline_happens_in_order_and_at_its_times(lab: Command, tmp_path: Path):
    with running(lab, tmp_path, NETWORK + TIMELINE) as home:
        metrics = lab.json("status", home.name)["agent"]["metrics"]
        happened = []
        for event in follow(home):
            happened.append(event)
            if event["event"] == "timeline-ended":
                with urllib.request.urlopen(metrics) as answer:  # noqa: S310 - our own
                    scraped = answer.read().decode()
                after = json.loads(lab.paths(home.name).plan.read_bytes())
                shown = lab.ok("events", home.name)
                lab.ok("down", home.name)
    moments = [event for event in happened if event["event"] == "timeline"]
    assert [(m["what"][0].split(" (")[0], m["undo"]) for m in moments] == [
        ("home-b: NAT full-cone", False),
        ("home-b: NAT APDM/APDF", True),
        ("alice: firewall udp-blocked", False),
        ("alice: no firewall", True),
        ("home-b: NAT full-cone", False),
        ("home-b: NAT APDM/APDF", True),
        ("home-b: mappings forgotten", False),
        ("home-a: NAT symmetric", False),
        ("home-a: rebooted", False),
    ]
    planned = [m["planned_s"] for m in moments]
    assert planned == sorted(planned)
    assert planned[2] == 0.2
    assert planned[6:] == [0.5, 0.6, 0.8]
    assert all(m["actual_s"] >= m["planned_s"] for m in moments)
    assert all(m["outcome"] == "done" for m in moments)
    assert [e["since_up_s"] for e in happened] == sorted(e["since_up_s"] for e in happened)
    assert happened[0]["event"] == "up"

    assert 'lab_timeline_events_total{outcome="done"} 9.0' in scraped
    assert "undone: alice: no firewall" in shown
    nodes = {node["name"]: node for node in after["nodes"]}
    assert nodes["home-a"]["nat"]["preset"] == "symmetric"
    assert "firewall" not in nodes["alice"], "it lasted for a time"
    assert "preset" not in nodes["home-b"]["nat"]


def test_an_apply_begins_the_timeline_anew(lab: Command, tmp_path: Path):
    with running(lab, tmp_path, NETWORK + "timeline:\n  - {at: 100h, reboot: home-a}\n") as home:
        other = tmp_path / "other.yaml"
        other.write_text(NETWORK + "timeline:\n  - {at: 50ms, set: {router: home-a, nat: cgnat}}\n")
        events = follow(home)
        assert next(events)["event"] == "up"
        lab.ok("apply", str(other), "--name", home.name)
        assert next(events)["by"] == "apply"
        assert next(events)["what"][0].startswith("home-a: NAT cgnat")
        assert next(events)["event"] == "timeline-ended"
        # The file as it begins, and the same again from there.
        lab.ok("apply", str(other), "--name", home.name)
        told = next(events)
        assert (told["by"], told["operations"]) == ("apply", 1)
        assert next(events)["what"][0].startswith("home-a: NAT cgnat")
        lab.ok("down", home.name)


def test_what_fails_in_the_timeline_covers_nothing(lab: Command, tmp_path: Path):
    """A node is paused that is stopped just then: it runs again when that has ended."""
    file = """
name: covered
nodes:
  server: {via: internet, command: [sleep, 1h]}
timeline:
  - {at: 100ms, stop: server, for: 300ms}
  - {at: 200ms, pause: server, for: 400ms}
"""
    with running(lab, tmp_path, file) as home:
        happened = []
        for event in follow(home):
            happened.append(event)
            if event["event"] == "timeline-ended":
                after = json.loads(lab.paths(home.name).plan.read_bytes())
                lab.ok("down", home.name)
    moments = [event for event in happened if event["event"] == "timeline"]
    assert [(m["what"], m["outcome"]) for m in moments] == [
        (["server: stopped"], "done"),
        (["server: paused"], "failed"),
        (["server: running"], "done"),
        (["server: paused"], "skipped"),
    ]
    (server,) = (node for node in after["nodes"] if node["name"] == "server")
    assert server.get("activity", "running") == "running"
