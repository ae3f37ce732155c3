"""Links, programs, partitions and roaming hosts of a running lab, with real packets."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.end_to_end.support import Command, traces
from tests.kernel.end_to_end.test_control import Lab, exchange, follow, running

pytestmark = pytest.mark.kernel

NETWORK = """
name: faulty
routers:
  wifi: {nat: home, link: {delay: 2ms}}
  cell: {nat: cgnat, link: {delay: 5ms}}
  office: {}
nodes:
  server: {via: internet}
  rendezvous: {via: internet, service: [stun, rendezvous]}
  alice: {via: wifi, peer: true, link: {delay: 1ms}}
  carol: {via: wifi, command: [sleep, 1h]}
  dave:
    via: cell
    link: {delay: 1ms, backend: ferry}
    command: [sh, -c, "while :; do date +%s%N; sleep 0.02; done"]
  bob: {via: office, command: [python3, -m, http.server, "8000"]}
"""
DEADLINE_S = 30.0
_SILENCE_S = 0.4
"""How long to wait for what must not come."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One lab for all tests here: each leaves it as it was."""
    path = tmp_path_factory.mktemp("faults")
    command = Command(path / "state")
    with running(command, path, NETWORK) as found:
        yield found
    command.ok("down", "--all", "--quiet")


def eventually(happens: Callable[[], Any]) -> Any:
    """What `happens` gives once it gives something; AssertionError if it never does."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if result := happens():
            return result
    raise AssertionError("it did not happen")


def plan(lab: Lab) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lab.command.paths(lab.name).plan.read_bytes())
    return found


def passes(lab: Lab, node: str, to: str = "server", patience_s: float = DEADLINE_S) -> bool:
    """Whether a datagram from `node` reaches `to`, and the answer comes back."""
    server, client = lab.udp(to), lab.udp(node)
    server.settimeout(patience_s)
    client.settimeout(patience_s)
    try:
        client.sendto(b"x", (lab.address(to), server.getsockname()[1]))
        server.sendto(b"y", server.recvfrom(10)[1])
        return client.recvfrom(10)[0] == b"y"
    except OSError:
        return False


def is_cut_off(lab: Lab, node: str, to: str = "server") -> bool:
    """Whether a datagram from `node` does not reach `to`, or no answer comes back."""
    return not passes(lab, node, to, _SILENCE_S)


def round_trip_s(lab: Lab, node: str) -> float:
    """The shortest of some round trips to the server and back."""
    server, client = lab.udp("server"), lab.udp(node)
    best = DEADLINE_S
    for _ in range(5):
        began = time.monotonic()
        client.sendto(b"x", (lab.address("server"), server.getsockname()[1]))
        server.sendto(b"y", server.recvfrom(10)[1])
        client.recvfrom(10)
        best = min(best, time.monotonic() - began)
    return best


def test_a_link_is_set_shown_and_reset_under_a_connection(lab: Lab):
    connection, bystander = lab.connection("alice"), lab.connection("bob")
    assert round_trip_s(lab, "alice") >= 0.006
    answer = lab.json("link", "set", "wifi", "alice", "delay=30ms")
    assert answer["operations"] == 1
    assert answer["notes"] == [], "the same wire"
    assert round_trip_s(lab, "alice") >= 0.064
    shown = lab.json("link", "show", "alice", "wifi")
    assert (shown["up"]["delay_us"], shown["declared"]["up"]["delay_us"]) == (30_000, 1_000)
    assert shown["changed"]
    assert "declared: 1 ms" in lab("link", "show").stdout
    lab.json("link", "reset", "alice", "wifi")
    assert eventually(lambda: round_trip_s(lab, "alice") < 0.06)
    assert not lab.json("link", "show", "alice", "wifi")["changed"]
    exchange(*connection)
    exchange(*bystander)


@pytest.mark.parametrize("ends", [("alice", "wifi"), ("carol", "wifi"), ("wifi", "internet")])
def test_a_link_that_is_down_carries_nothing_and_then_everything(lab: Lab, ends):
    node = "carol" if ends[0] == "carol" else "alice"
    connection, bystander = lab.connection(node), lab.connection("bob")
    lab.json("link", "down", *ends)
    assert is_cut_off(lab, node)
    assert passes(lab, "bob")
    assert lab.json("link", "show", *ends)["state"] == "down"
    lab.json("link", "down", *ends)
    lab.json("link", "up", *ends)
    assert passes(lab, node)
    exchange(*connection)
    exchange(*bystander)


def test_a_rate_on_a_plain_wire_holds_after_a_cut(lab: Lab):
    lab.json("link", "set", "carol", "wifi", "rate=1mbit")
    lab.json("link", "down", "carol", "wifi")
    lab.json("link", "up", "carol", "wifi")
    inside, outside = lab.connection("carol")
    began = time.monotonic()
    inside.sendall(bytes(50_000))
    got = 0
    while got < 50_000:
        got += len(outside.recv(65536))
    assert time.monotonic() - began > 0.2, "400 kbit at 1 Mbit/s"
    lab.json("link", "reset", "carol", "wifi")


def test_a_plain_wire_delays_and_is_plain_again_under_a_connection(lab: Lab):
    connection = lab.connection("carol")
    answer = lab.json("link", "set", "carol", "wifi", "delay=30ms", "mtu=1400")
    assert (answer["operations"], answer["notes"]) == (1, [])
    exchange(*connection)
    assert round_trip_s(lab, "carol") >= 0.06
    shown = lab("link", "show", "carol", "wifi").stdout
    assert "30 ms, MTU 1400" in shown
    assert lab.json("link", "show", "carol", "wifi")["mtu"] == 1400
    answer = lab.json("link", "reset", "carol", "wifi")
    assert (answer["operations"], answer["notes"]) == (1, [])
    exchange(*connection)
    assert lab.json("link", "show", "carol", "wifi")["backend"] == "plain"
    assert eventually(lambda: round_trip_s(lab, "carol") < 0.06)


def test_a_wire_that_was_replaced_is_spoken_of(lab: Lab):
    demand = ("rate=10mbit", "delay=0ms", "backend=kernel")
    set_ = lab("link", "set", "dave", "cell", *demand)
    assert "the wire of dave to cell was replaced" in set_.stdout + set_.stderr
    # The ferry comes into the new one, where it can: nothing is lost once more.
    assert lab.json("link", "reset", "dave", "cell")["notes"] == []


def ticks(lab: Lab) -> int:
    return (lab.command.paths(lab.name).node("dave") / "out.jsonl").stat().st_size


def test_what_is_paused_holds_still_and_goes_on(lab: Lab):
    before = lab.command.json("status", lab.name)
    pid = next(n for n in before["nodes"] if n["node"] == "dave")["program"]["pid"]
    lab.json("node", "pause", "dave")
    frozen = ticks(lab)
    assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "TD"
    status = lab.command.json("status", lab.name)
    assert next(n for n in status["nodes"] if n["node"] == "dave")["program"]["state"] == "paused"
    assert ticks(lab) == frozen
    assert passes(lab, "dave"), "its network does not hold still"
    lab.json("node", "resume", "dave")
    assert eventually(lambda: ticks(lab) > frozen)


def test_a_program_stops_and_starts_and_its_network_stays(lab: Lab):
    def answers() -> bool:
        with lab.socket("alice", socket.SOCK_STREAM) as sock:
            try:
                sock.connect((lab.address("bob"), 8000))
            except ConnectionRefusedError:
                return False
            return True

    assert eventually(answers)
    lab.json("node", "stop", "bob")
    assert not answers(), "the host says that nobody listens"
    assert passes(lab, "bob")
    assert "stopped" in lab.command.ok("status", lab.name)
    assert lab("node", "pause", "bob").returncode == 2
    lab.json("node", "start", "bob")
    assert eventually(answers)


def test_a_program_that_ended_by_itself_starts_again(lab: Lab):
    def state(what: str) -> bool:
        nodes = lab.command.json("status", lab.name)["nodes"]
        return next(n for n in nodes if n["node"] == "dave")["program"]["state"] == what

    nodes = lab.command.json("status", lab.name)["nodes"]
    os.kill(next(n for n in nodes if n["node"] == "dave")["program"]["pid"], signal.SIGKILL)
    assert eventually(lambda: state("exited"))
    assert lab.json("node", "resume", "dave")["operations"] == 0, "it is not paused"
    assert state("exited")
    lab.json("node", "start", "dave")
    assert state("ready")
    before = ticks(lab)
    assert eventually(lambda: ticks(lab) > before)
    assert lab.json("node", "start", "dave")["operations"] == 0, "it runs"


def test_a_partition_at_the_core_and_in_a_segment(lab: Lab):
    connection = lab.connection("alice")
    lab.json("partition", "wifi", "/", "server,bob")
    assert is_cut_off(lab, "alice")
    assert is_cut_off(lab, "bob", "wifi"), "neither way"
    assert passes(lab, "bob")
    assert passes(lab, "dave")
    assert passes(lab, "alice", "carol")
    lab.json("partition", "alice / carol")
    assert is_cut_off(lab, "alice", "carol")
    lab.json("heal")
    assert passes(lab, "alice", "carol")
    assert passes(lab, "alice")
    exchange(*connection)
    assert "fences" not in json.dumps(plan(lab))


def test_one_group_is_kept_apart_from_everything(lab: Lab):
    lab.json("partition", "cell")
    assert is_cut_off(lab, "dave")
    assert passes(lab, "alice")
    lab.json("heal")
    assert passes(lab, "dave")


def test_a_host_roams_and_gets_an_address_and_nobody_else_notices(lab: Lab):
    bystanders = [lab.connection("carol"), lab.connection("dave"), lab.connection("bob")]
    inside, _ = lab.connection("alice")
    old = lab.address("alice")
    datagrams = lab.udp("alice")
    bound = lab.udp("server")
    with lab.socket("alice", socket.SOCK_DGRAM) as mine:
        mine.connect((lab.address("server"), bound.getsockname()[1]))
        before = lab.command.json("status", lab.name)
        answer = lab.json("move", "alice", "cell", "--link", "delay=20ms")
        assert answer["what"] == ["alice: moved to cell (20 ms)"]
        after = lab.command.json("status", lab.name)
        pids = [
            {n["node"]: n["program"]["pid"] for n in each["nodes"] if n["program"]}
            for each in (before, after)
        ]
        assert pids[0] == pids[1], "every program runs on"
        assert lab.address("alice") != old
        assert lab.address("alice").startswith("100.64.")
        # Which error it is depends on what the kernel finds first.
        with pytest.raises(OSError, match=r"Network is unreachable|Invalid argument|No route"):
            mine.send(b"from an address that is gone")
    assert datagrams.getsockname()[0] == "0.0.0.0"
    assert round_trip_s(lab, "alice") >= 0.05
    for pair in bystanders:
        exchange(*pair)
    inside.settimeout(0.5)
    inside.sendall(b"into the void")
    with pytest.raises(OSError, match=r"timed out|reset"):
        assert inside.recv(10)
    lab.json("move", "alice", "wifi")
    assert lab.address("alice") == old
    assert passes(lab, "alice")


def test_an_apply_brings_everything_back(lab: Lab, tmp_path: Path):
    declared = plan(lab)
    lab.json("link", "down", "bob", "office")
    lab.json("link", "set", "alice", "wifi", "delay=9ms", "loss=50%")
    lab.json("node", "pause", "dave")
    lab.json("node", "stop", "carol")
    lab.json("partition", "wifi / server")
    lab.json("move", "alice", "cell")
    file = tmp_path / "controlled.yaml"
    file.write_text(NETWORK)
    lab.command.ok("apply", str(file), "--name", lab.name)
    for node in ("alice", "bob", "carol", "dave"):
        assert passes(lab, node)
    now = plan(lab)
    assert [n.get("activity") for n in now["nodes"]] == [None] * len(now["nodes"])
    assert {n["name"] for n in now["nodes"]} >= {n["name"] for n in declared["nodes"]}
    moving = ticks(lab)
    assert eventually(lambda: ticks(lab) > moving)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("link", "down", "alice", "cell"), "no link between alice and cell"),
        (("link", "set", "alice", "wifi", "delay=soon"), "not a duration"),
        (("link", "set", "alice", "wifi", "dealy=5ms"), "did you mean 'delay'?"),
        (("link", "set", "alice", "wifi", "delay", "5ms"), "this is not key=value"),
        (("node", "stop", "office"), "nothing runs in office"),
        (("partition", "alice / bob"), "carol is behind wifi"),
        (("partition", "alice /"), "empty group"),
        (("move", "alice", "wifi"), "attached to wifi already"),
        (("move", "alice", "wify"), "is no router"),
        (("move", "rendezvous", "wifi"), "is a service"),
    ],
)
def test_what_makes_no_sense_changes_nothing(lab: Lab, arguments, said):
    before = lab.command.paths(lab.name).plan.read_bytes()
    refused = lab(*arguments)
    assert refused.returncode == 2, refused.stderr
    assert said in refused.stderr
    assert lab.command.paths(lab.name).plan.read_bytes() == before


@pytest.mark.parametrize("command", ["status", "events"])
def test_a_lab_may_be_named_either_way(lab: Lab, command: str):
    by_argument = lab.command.ok(command, lab.name)
    assert by_argument
    assert lab.command.ok(command, "--lab", lab.name)
    both = lab.command.run(command, lab.name, "--lab", "another")
    assert both.returncode == 2
    assert "two labs are named" in both.stderr


TIMELINE = """
timeline:
  - {at: 100ms, down: [bob, office], for: 300ms}
  - {at: 200ms, set: {link: [alice, wifi], delay: 40ms}, for: 100ms}
  - {at: 250ms, pause: dave, for: 100ms}
  - {at: 500ms, partition: wifi / office, for: 100ms}
  - {at: 700ms, move: {node: alice, to: cell, link: {delay: 3ms}}, for: 300ms}
  - {at: 800ms, down: [alice, cell], for: 100ms}
  - {at: 1200ms, stop: carol}
  - {at: 1300ms, heal: true}
"""


def test_the_timeline_plays_all_of_it_and_undoes_it(tmp_path: Path):
    command = Command(tmp_path / "state")
    try:
        with running(command, tmp_path, NETWORK + TIMELINE) as lab:
            happened = []
            for event in follow(lab):
                happened.append(event)
                if event["event"] == "timeline-ended":
                    last = plan(lab)
                    command.ok("down", lab.name)
    finally:
        command.ok("down", "--all", "--quiet")
    moments = [event for event in happened if event["event"] == "timeline"]
    assert [(m["what"][0], m["undo"]) for m in moments] == [
        ("bob -- office: down", False),
        ("alice -- wifi: 40 ms", False),
        ("dave: paused", False),
        ("alice -- wifi: 1 ms", True),
        ("dave: running", True),
        ("bob -- office: up", True),
        ("wifi / office: apart", False),
        ("wifi / office: no longer apart", True),
        ("alice: moved to cell (3 ms)", False),
        ("alice -- cell: down", False),
        ("alice -- cell: up", True),
        ("alice: moved to wifi (1 ms)", True),
        ("carol: stopped", False),
        ("no partitions", False),
    ]
    assert all(m["outcome"] == "done" for m in moments), moments
    assert all(m["late_s"] == pytest.approx(m["actual_s"] - m["planned_s"]) for m in moments)
    assert all(m["late_s"] >= 0 for m in moments)
    assert not [link for link in last["links"] if link.get("down")]
    alice = next(link for link in last["links"] if link["a"]["node"] == "alice")
    assert (alice["b"]["node"], alice["a_to_b"]["delay_us"]) == ("wifi.lan", 1_000)
    active = {node["name"]: node.get("activity") for node in last["nodes"]}
    assert {name for name, activity in active.items() if activity} == {"carol"}
    assert not [node for node in last["nodes"] if node.get("fences")]


def test_nothing_of_a_lab_with_a_spliced_wire_is_left(tmp_path: Path):
    command = Command(tmp_path / "state")
    with running(command, tmp_path, NETWORK) as lab:
        lab.json("link", "set", "carol", "wifi", "delay=5ms")
        assert passes(lab, "carol")
        status = command.json("status", lab.name)
        os.kill(status["agent"]["pid"], signal.SIGKILL)
        command.ok("down", lab.name)
    assert traces(lab.name, command.state) == []


def test_nothing_of_a_paused_lab_is_left(tmp_path: Path):
    command = Command(tmp_path / "state")
    with running(command, tmp_path, NETWORK) as lab:
        lab.json("node", "pause", "dave")
        command.ok("down", lab.name)
    assert traces(lab.name, command.state) == []
