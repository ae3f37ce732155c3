"""Sessions in real networks: each loses its path in another way, and none is lost."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab.fabric import netns
from lab.fabric.rules.flows import Flow, flows
from tests.kernel.end_to_end.support import Command

pytestmark = pytest.mark.kernel

WAIT_S = 60.0

HOMES = """
name: homes
internet: 10ms
routers:
  home: {nat: {preset: home, ports: random}}
  cell: {nat: {preset: home, ports: random}}
  office: {nat: home}
nodes:
  stun: {via: internet, service: [stun, rendezvous]}
  relay: {via: internet, service: relay}
  alice: {via: home, peer: true, link: {delay: 1ms}}
  bob: {via: office, peer: true, link: {delay: 1ms}}
"""

FORGETFUL = """
name: forgetful
routers:
  home: {nat: {preset: home, lifetimes: {udp: 5s, udp-one-way: 5s}}}
  office: {nat: home}
nodes:
  stun: {via: internet, service: [stun, rendezvous]}
  alice: {via: home, peer: true}
  bob: {via: office, peer: true}
"""


class Held:
    """`lab session --json` under way."""

    def __init__(self, process: Any) -> None:
        self.process = process
        self.seen: list[dict[str, Any]] = []
        self._rest = b""

    def line(self) -> dict[str, Any]:
        """The next line; AssertionError if there is none in time."""
        stream = self.process.stdout.fileno()
        until = time.monotonic() + WAIT_S
        while b"\n" not in self._rest:
            readable, _, _ = select.select([stream], [], [], max(0.0, until - time.monotonic()))
            data = os.read(stream, 65536) if readable else b""
            assert data, (self.seen, self.process.poll())
            self._rest += data
        text, _, self._rest = self._rest.partition(b"\n")
        found: dict[str, Any] = json.loads(text)
        self.seen.append(found)
        return found

    def until(self, *what: str) -> dict[str, Any]:
        """The next event that is one of these."""
        while True:
            event = self.line()
            if event.get("what") in what:
                return event
            assert event.get("what") != "ended", self.seen

    def end(self) -> dict[str, Any]:
        """Press Ctrl-C; the record."""
        self.process.send_signal(signal.SIGINT)
        while "outcome" not in (last := self.line()) or "event" in last:
            pass
        assert self.process.wait(WAIT_S) == 0, self.process.stderr.read()
        return last


class Network:
    """A topology that is up."""

    def __init__(self, lab: Command, folder: Path, topology: str) -> None:
        self.lab = lab
        self.name = lab.name()
        file = folder / "topology.yaml"
        file.write_text(topology)
        lab.ok("up", str(file), "--name", self.name, "--runtime", "process", "--quiet")

    def do(self, *arguments: str) -> None:
        self.lab.ok(*arguments, "--lab", self.name)

    @contextmanager
    def session(self, *options: str) -> Iterator[Held]:
        process = self.lab.popen(
            "session", "alice", "bob", "--lab", self.name, "--json", "--keepalive", "1s", *options
        )
        try:
            yield Held(process)
        finally:
            process.kill()
            process.communicate()

    @contextmanager
    def relayed(self, *options: str) -> Iterator[Held]:
        """A session over the relay, which has no other path until the network is healed.

        So whichever technique is the quicker one, it is the relay's path that comes first,
        and no better one takes its place before what is to happen has happened.
        """
        self.do("partition", "home / office")
        with self.session("-t", "relay", "-t", "udp-punch", *options) as held:
            path = held.until("path")
            assert (path["technique"], path["path"]) == ("relay", "relayed")
            yield held

    def records(self) -> list[dict[str, Any]]:
        lines = self.lab.paths(self.name).sessions.read_text().splitlines()
        return [json.loads(line) for line in lines]

    def attempts(self) -> list[dict[str, Any]]:
        lines = self.lab.paths(self.name).attempts.read_text().splitlines()
        return [json.loads(line) for line in lines]

    def inside(self, node: str, action: Callable[[], Any]) -> Any:
        with netns.inside(self.lab.paths(self.name).netns(node)):
            return action()


@pytest.fixture
def network(lab: Command, tmp_path: Path) -> Callable[[str], Network]:
    return lambda topology: Network(lab, tmp_path, topology)


def sound(record: dict[str, Any], repairs: int = 1) -> None:
    """One session from beginning to end: nothing twice, everything accounted for."""
    counts = record["datagrams"]
    assert (record["outcome"], len(record["repairs"])) == ("completed", repairs), record
    assert counts["sent"] > 0
    assert counts["received"] > 0
    assert counts["rejected"] == 0  # a datagram that came twice would be rejected
    assert counts["lost_by_peer"] >= counts["unsent"]
    # No link loses anything here: all that is missing is missing because of a dead path.
    assert counts["lost"] == sum(repair["lost"] for repair in record["repairs"])
    for repair in record["repairs"]:
        assert repair["took_s"] > 0
        assert repair["gap_s"] >= repair["silent_s"]


def test_a_nat_that_forgets_everything_costs_a_punch(network):
    here = network(HOMES)
    with here.session("-t", "udp-punch", "-t", "relay") as held:
        assert held.until("path")["technique"] == "udp-punch"
        here.do("nat", "reboot", "home")
        # The new mapping has another port, which bob's NAT lets in only after another punch.
        assert held.until("repaired")["technique"] == "udp-punch"
        held.until("resumed")
        record = held.end()
    sound(record)
    assert record["repairs"][0]["by"] == "udp-punch"
    assert record["repairs"][0]["lost"] > 0
    assert record["repairs"][0]["tried"][-1] == "udp-punch: success"
    assert here.records() == [record]
    attempts = here.attempts()
    assert attempts
    # Whether the machine had a part in it is said of each.
    assert all(isinstance(each["distorted"], list) for each in attempts)
    told = [e for e in here.lab.ok("events", here.name, "--json").splitlines() if "session" in e]
    assert [json.loads(e)["what"] for e in told] == [
        *("path", "dead", "repairing", "repaired", "resumed", "ended")
    ]
    state = here.lab.json("status", here.name)
    # The address is of the lab's own exporter, on loopback.
    with urllib.request.urlopen(state["agent"]["metrics"], timeout=WAIT_S) as answer:  # noqa: S310
        metrics = answer.read().decode()
    assert 'lab_sessions_total{outcome="completed"} 1.0' in metrics
    # Who is behind the NAT does not know yet, and can be called all the same.
    here.do("nat", "reboot", "home")
    order = ("connect", "bob", "alice", "-t", "udp-punch", "--goodput", "0")
    (attempt,) = here.lab.json(*order, "--lab", here.name)["attempts"]
    assert attempt["outcome"] == "success", attempt
    assert 'lab_session_repairs_total{outcome="done",technique="udp-punch"} 1.0' in metrics
    assert 'lab_session_repair_seconds_count{technique="udp-punch"} 1.0' in metrics


def test_when_the_relay_dies_the_next_technique_takes_over(network):
    here = network(HOMES)
    with here.relayed() as held:
        here.do("node", "stop", "relay")
        held.until("dead")
        here.do("heal")
        repaired = held.until("repaired")
        assert (repaired["technique"], repaired["path"]) == ("udp-punch", "direct")
        held.until("resumed")
        record = held.end()
    sound(record)
    assert [record["technique"], record["repairs"][0]["by"]] == ["relay", "udp-punch"]


def test_when_one_way_is_cut_the_other_carries_on(network):
    here = network(HOMES)
    with here.relayed() as held:
        here.do("link", "down", "relay", "internet")
        held.until("dead")
        here.do("heal")
        assert held.until("repaired")["technique"] == "udp-punch"
        # Then nothing is left for a while; the same session goes on afterwards.
        here.do("link", "down", "alice", "home")
        held.until("dead")
        here.do("link", "up", "alice", "home")
        assert held.until("repaired", "back")
        held.until("resumed")
        record = held.end()
    sound(record, repairs=2)
    assert record["repairs"][1]["path"] == "direct"


def test_who_moves_to_another_network_keeps_the_session(network):
    here = network(HOMES)
    with here.session("-t", "direct", "-t", "udp-punch") as held:
        assert held.until("path")["technique"] == "udp-punch"
        for router in ("cell", "home"):
            here.do("move", "alice", router)
            assert held.until("dead")["reason"] == "the address has changed"
            assert held.until("repaired")["technique"] == "udp-punch"
            held.until("resumed")
        record = held.end()
    sound(record, repairs=2)
    # It can be called at its new address too, and calls from there.
    here.do("connect", "bob", "alice", "-t", "udp-punch")
    # Which of the usual techniques is the quickest depends on the machine, too.
    with here.session() as held:
        usual = held.until("connecting")["techniques"]
        assert usual == ["direct", "udp-punch", "tcp-punch", "relay"]
        assert held.until("path")["technique"] in usual
        assert held.end()["outcome"] == "completed"


def test_who_is_called_may_move_too(network):
    here = network(HOMES)
    with here.session("-t", "udp-punch") as held:
        held.until("path")
        here.do("move", "bob", "cell")
        held.until("dead")
        assert held.until("repaired")["technique"] == "udp-punch"
        held.until("resumed")
        record = held.end()
    sound(record)


def test_keepalives_hold_a_mapping_that_dies_without_them(network):
    here = network(FORGETFUL)

    def entry(source: tuple[str, int]) -> Flow | None:
        """The mapping of a socket behind the router, towards bob's one."""
        known = here.inside("home", flows)
        bob = here.inside("office", flows)
        public = {flow.reply.destination for flow in bob}
        for flow in known:
            if flow.original.source == source and flow.original.destination in public:
                return flow
        return None

    def mark() -> tuple[str, int]:
        """A flow with the same lifetime that nobody keeps alive, made now."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(("45.0.0.99", 9))  # nobody has that address
            sock.send(b"once")
            return sock.getsockname()

    def has(source: tuple[str, int]) -> bool:
        return any(flow.original.source == source for flow in here.inside("home", flows))

    def eventually(condition: Callable[[], bool]) -> None:
        until = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < until
            select.select([], [], [], 0.1)

    for keepalive, lives in (("1s", True), ("0s", False)):
        with here.session("--rate", "0/s", "--keepalive", keepalive, "-t", "udp-punch") as held:
            held.until("path")
            socket_name = _socket(here)
            assert entry(socket_name) is not None
            other = here.inside("alice", mark)
            assert has(other)
            eventually(lambda other=other: not has(other))
            if lives:
                assert entry(socket_name) is not None
            else:
                eventually(lambda name=socket_name: entry(name) is None)
            assert held.end()["repairs"] == []


def _socket(here: Network) -> tuple[str, int]:
    """The caller's socket, from the record of its last attempt."""
    address, port = here.attempts()[-1]["socket"].rsplit(":", 1)
    return address, int(port)


def test_a_session_over_a_relay_leaves_it_for_a_direct_path_and_loses_nothing(
    lab: Command, tmp_path: Path
):
    network = Network(lab, tmp_path, HOMES)
    with network.relayed("--rate", "50/s") as session:
        network.do("heal")
        assert session.until("switched")["technique"] == "udp-punch"
        network.do("node", "stop", "relay")
        record = session.end()
    assert record["outcome"] == "completed"
    assert record["repairs"] == []
    counts = record["datagrams"]
    assert counts["received"] > 100
    assert (counts["lost"], counts["lost_by_peer"], counts["unsent"]) == (0, 0, 0), record
