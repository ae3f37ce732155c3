"""Ways through NATs that need more than two peers and a STUN server, in shipped networks."""

from __future__ import annotations

import json
import signal
import time
from typing import Any

import pytest

from lab.agent import wire
from tests.kernel.end_to_end.support import Command

pytestmark = pytest.mark.kernel

COTURN = """
name: coturn
routers:
  home-a: {nat: symmetric}
  office-b: {nat: home, firewall: udp-blocked}
  office-c: {nat: home, firewall: {outbound: {default: reject, rules: [tcp/9000, tcp/5349]}}}
nodes:
  rendezvous: {via: internet, service: rendezvous}
  relay: {via: internet, service: coturn}
  alice: {via: home-a, peer: true}
  bob: {via: office-b, peer: true}
  carol: {via: office-c, peer: true}
"""

HOUSE = """
name: house
routers:
  home: {nat: home}
nodes:
  alice: {via: home, peer: true}
  bob: {via: home, peer: true}
  carol: {via: internet, peer: true}
"""

VOLUNTEERS = """
name: volunteers
routers:
  home-a: {nat: symmetric}
  office-b: {nat: home, firewall: udp-blocked}
nodes:
  stun: {via: internet, service: stun}
  rendezvous: {via: internet, service: rendezvous}
  alice: {via: home-a, peer: true}
  bob: {via: office-b, peer: true}
  carol: {via: internet, peer: true, env: {VOLUNTEER: "after_s=0,mbps=0.4"}}
  dave: {via: home-a, peer: true, env: {VOLUNTEER: "after_s=0,mbps=0.4"}}
  erin: {via: internet, peer: true, env: {VOLUNTEER: "after_s=0,mbps=0.4"}, link: {rate: 256kbit}}
  frank:
    via: internet
    peer: true
    env: {VOLUNTEER: "after_s=0,mbps=0.4"}
    firewall: {inbound: {default: drop}}
"""
"""Dave has no public address, Erin a slow line, and Frank lets nobody in.

A line counts as fast from 0.4 Mbit/s on: at that the test's bytes may take 2.6 s, which
leaves room for a machine that pauses.
"""

NEIGHBOURS = """
name: neighbours
routers:
  carrier: {nat: {preset: cgnat, hairpin: HAIRPIN}}
  home-a: {via: carrier, nat: home}
  home-b: {via: carrier, nat: home}
nodes:
  stun: {via: internet, service: stun}
  rendezvous: {via: internet, service: rendezvous}
  alice: {via: home-a, peer: true}
  bob: {via: home-b, peer: true}
  carol: {via: carrier, peer: true}
  dave: {via: carrier, peer: true}
"""


NO_TUNNELS = """
name: no-tunnels
routers:
  office-a: {nat: home, firewall: {preset: http-only, proxy: {connect: false}}}
  home-b: {nat: home}
nodes:
  stun: {via: internet, service: stun}
  rendezvous: {via: internet, service: {rendezvous: {port: 443}}}
  meet: {via: internet, service: {web-relay: {port: 443}}}
  alice: {via: office-a, peer: true}
  bob: {via: home-b, peer: true}
"""
"""All that the office's proxy does is to pass on requests."""


class Network:
    """A shipped topology that is up."""

    def __init__(self, lab: Command, topology: str, *more: str) -> None:
        self.lab = lab
        self.name = lab.name()
        lab.ok("up", topology, "--name", self.name, "--runtime", "process", "--quiet", *more)

    def connect(self, caller: str, callee: str, *techniques: str) -> dict[str, dict[str, Any]]:
        """The record of each technique; nothing may contradict what was predicted."""
        words = [word for technique in techniques for word in ("-t", technique)]
        answer = self.lab.run("connect", caller, callee, "--lab", self.name, "--json", *words)
        found = json.loads(answer.stdout)
        assert found["contradicted"] == []
        return {record["technique"]: record for record in found["attempts"]}

    def volunteer(self, name: str) -> dict[str, Any]:
        """How a volunteer stands, once it has measured itself."""
        socket_file = self.lab.paths(self.name).node(name) / "control.sock"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with wire.connect(socket_file) as sock:
                sock.settimeout(30)
                sock.sendall(b'{"id": 1, "do": "status"}\n')
                with sock.makefile() as lines:
                    stands: dict[str, Any] = json.loads(lines.readline())["status"]["volunteer"]
            if stands["measured"]:
                return stands
            time.sleep(0.1)
        raise AssertionError(f"{name} has not measured itself")


@pytest.fixture
def network(lab: Command):
    return lambda topology, *more: Network(lab, topology, *more)


def test_one_router_that_opens_ports_is_enough_for_both_directions(network):
    here = network("upnp-home")
    for ends in (("alice", "bob"), ("bob", "alice")):
        for name, record in here.connect(*ends, "upnp", "nat-pmp", "pcp").items():
            assert (record["outcome"], record["path"]) == ("success", "direct"), record
            assert record["packets"][name] > 0
    # What was asked for was given back.
    rules = here.lab.ok(
        "exec", "--lab", here.name, "home-a", "nft", "list", "table", "inet", "upnp"
    )
    assert "dnat" not in rules


def test_ice_finds_the_path_that_there_is(network):
    for topology, path in (("two-homes", "direct"), ("blocked-udp", "relayed")):
        here = network(topology)
        for record in here.connect("alice", "bob", "ice", "ice-trickle").values():
            assert (record["outcome"], record["path"]) == ("success", path), record
            assert record["rtt_after_s"] > 0.02
            assert record["packets"]["ice"] > 0
        here.lab.ok("down", here.name)


def test_http_passes_where_only_the_web_does(network):
    at_80 = ("--set", "nodes.meet.service.web-relay.port=80")
    for topology, more, words in (
        ("corporate", (), "by WebSocket to"),
        ("http-only", (), "by WebSocket within CONNECT to"),
        ("http-only", at_80, "by GET and POST to"),
    ):
        here = network(topology, *more)
        # Each names its own way, so the caller has to be the one behind the firewall.
        record = here.connect("bob", "alice", "http")["http"]
        assert (record["outcome"], record["path"]) == ("success", "relayed"), record
        assert words in record["reason"]
        assert record["relayed"]["packets"] > 0
        here.lab.ok("down", here.name)


def test_where_the_proxy_opens_no_tunnel_whole_requests_are_all_it_takes(network, tmp_path):
    file = tmp_path / "no-tunnels.yaml"
    file.write_text(NO_TUNNELS)
    here = network(str(file))
    for ends in (("alice", "bob"), ("bob", "alice")):
        found = here.connect(*ends, "http", "udp-punch", "tcp-punch", "tcp-predict")
        assert (found["http"]["outcome"], found["http"]["path"]) == ("success", "relayed"), found
        assert (ends[0] == "alice") == ("by GET and POST" in found["http"]["reason"]), found
        # Signalling works: it is the network that stops what is no request.
        assert found["udp-punch"]["outcome"] != "success"
        assert "not registered" not in found["udp-punch"]["reason"]
        # The firewall answers each SYN with a reset; there is no waiting for two to cross.
        for name in ("tcp-punch", "tcp-predict"):
            assert found[name]["outcome"] == "timed-out", found[name]
            assert len(found[name]["tries"]) < 40, found[name]
    # Who is gone is missed, though no connection of its own has ended.
    here.lab.ok("node", "stop", "alice", "--lab", here.name)
    here.lab.ok("node", "start", "alice", "--lab", here.name)
    again = here.connect("bob", "alice", "http")["http"]
    assert again["outcome"] == "success", again


def test_a_real_coturn_relays_over_udp_tcp_and_tls(network, tmp_path):
    file = tmp_path / "coturn.yaml"
    file.write_text(COTURN)
    here = network(str(file))
    # Whoever calls has the allocation; a callee without UDP has one of its own.
    for caller, callee, way in (
        ("alice", "bob", "UDP"),
        ("bob", "alice", "TCP"),
        ("carol", "bob", "TLS"),
    ):
        record = here.connect(caller, callee, "relay")["relay"]
        assert (record["outcome"], record["path"]) == ("success", "relayed"), record
        assert f"{way} to it" in record["reason"]
    status = here.lab.json("status", here.name)
    daemons = {node["node"]: node["daemons"] for node in status["nodes"] if "daemons" in node}
    assert daemons["relay"]["coturn"]["state"] == "ready"


def test_peers_on_one_lan_find_each_other_without_servers(network, tmp_path):
    file = tmp_path / "house.yaml"
    file.write_text(HOUSE)
    here = network(str(file))
    for ends in (("alice", "bob"), ("bob", "alice")):
        record = here.connect(*ends, "lan")["lan"]
        assert (record["outcome"], record["path"]) == ("success", "direct"), record
        assert record["remote_candidate"]["endpoint"].startswith("192.168.1.")
    # Who is elsewhere does not answer, and nothing else works without a service.
    missing = here.connect("alice", "carol", "lan", "direct")
    assert missing["lan"]["outcome"] == "unreachable"
    assert "nobody on this network answers to 'carol'" in missing["lan"]["reason"]
    assert missing["direct"]["outcome"] == "unsupported"


def test_an_ordinary_peer_that_is_fit_for_it_is_a_relay(network, tmp_path):
    file = tmp_path / "volunteers.yaml"
    file.write_text(VOLUNTEERS)
    here = network(str(file))
    standing = {name: here.volunteer(name) for name in ("carol", "dave", "erin", "frank")}
    lacks = {name: tuple(one["lacks"]) for name, one in standing.items()}
    assert standing["carol"]["elected"], standing
    assert {"public", "reachable"} <= set(lacks["dave"])
    assert lacks["erin"] == ("fast",)
    assert "reachable" in lacks["frank"]
    assert "public" not in lacks["frank"]
    # One of the two has no UDP; whoever calls, it is the same peer that carries.
    for ends in (("alice", "bob"), ("bob", "alice")):
        record = here.connect(*ends, "relay-peer")["relay-peer"]
        assert (record["outcome"], record["path"]) == ("success", "relayed"), record
        assert "by the peer carol" in record["reason"]
        assert record["relayed"]["packets"] > 0
    # What uses the path passes as well as what found it.
    session = here.lab.popen(
        *("session", "alice", "bob", "--lab", here.name, "-t", "relay-peer"),
        *("--rate", "50/s", "--json"),
    )
    try:
        assert session.stdout is not None
        assert any('"path"' in line for line in session.stdout)
        enough = here.volunteer("carol")["carried"] + 50
        deadline = time.monotonic() + 60
        while here.volunteer("carol")["carried"] < enough:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        session.send_signal(signal.SIGINT)
        said, _ = session.communicate(timeout=60)
    finally:
        session.kill()
        session.wait()
    report = json.loads(said.splitlines()[-1])
    assert (report["outcome"], report["technique"]) == ("completed", "relay-peer"), report
    assert report["datagrams"]["received"] > 0, report
    after = here.volunteer("carol")
    assert after["carried"] > 0
    assert after["pairs"] == 0, "who is done has said so"
    kept = {file.name for file in here.lab.paths(here.name).node("carol").iterdir()}
    assert kept <= {"control.sock", "identity.key", "out.jsonl", "err.log"}
    here.lab.ok("node", "stop", "carol", "--lab", here.name)
    without = here.lab.run("connect", "alice", "bob", "--lab", here.name, "-t", "relay-peer")
    assert without.returncode == 1
    assert "no volunteer is fit to be a relay" in without.stdout


@pytest.mark.parametrize("hairpin", ["off", "external-source"])
def test_behind_one_carriers_nat_a_hairpin_or_a_private_candidate_connects(
    network, tmp_path, hairpin
):
    file = tmp_path / "neighbours.yaml"
    file.write_text(NEIGHBOURS.replace("HAIRPIN", hairpin))
    here = network(str(file))
    # Each behind a home of its own: only packets that turn around at the carrier's NAT arrive.
    apart = here.connect("alice", "bob", "udp-punch")["udp-punch"]
    assert (apart["outcome"] == "success") is (hairpin != "off"), apart
    # Both at the carrier's NAT itself: there the addresses that are private to it do.
    beside = here.connect("carol", "dave", "udp-punch")["udp-punch"]
    assert beside["outcome"] == "success", beside
    if hairpin == "off":
        assert beside["remote_candidate"]["kind"] == "host"
