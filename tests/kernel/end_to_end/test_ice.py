"""Which pair ICE takes: a direct one wherever there is one, in either family, else the relay's."""

from __future__ import annotations

from typing import Any

import pytest

from lab.agent import client
from lab.plan.model import decode
from lab.predict import contradictions, predict
from tests.kernel.end_to_end.support import Command

pytestmark = pytest.mark.kernel

TECHNIQUES = ("ice", "ice-trickle")

BESIDE_A_RELAY = """
name: ice
routers:
  home-a: {nat: {mapping: endpoint-independent, filtering: address-and-port-dependent}}
  home-b: {nat: {mapping: endpoint-independent, filtering: address-and-port-dependent}}
  home-c: {nat: symmetric}
  home-d: {nat: symmetric}
nodes:
  stun: {via: internet, service: stun}
  rendezvous: {via: internet, service: rendezvous}
  relay: {via: internet, service: coturn}
  alice: {via: home-a, peer: true}
  bob: {via: home-b, peer: true}
  carol: {via: home-c, peer: true}
  dave: {via: home-d, peer: true}
"""

TWO_FAMILIES = """
name: ice-families
ip: dual
routers:
  six: {ip: 6}
  four: {ip: 4, nat: home}
nodes:
  stun: {via: internet, service: stun}
  rendezvous: {via: internet, service: rendezvous}
  relay: {via: internet, service: coturn}
  alice: {via: six, peer: true}
  bob: {via: four, peer: true}
"""

BEHIND_WALLS = """
name: ice-walls
ip: 6
internet: 0ms
routers:
  home: {firewall: stateful}
  no-udp: {firewall: udp-blocked}
  tls-only: {firewall: {outbound: ["tcp/5349,9000"], inbound: []}}
nodes:
  rendezvous: {via: internet, service: rendezvous}
  relay: {via: internet, service: coturn}
  alice: {via: home, peer: true}
  bob: {via: no-udp, peer: true}
  carol: {via: tls-only, peer: true}
"""


class Network:
    """A lab that is up, whose attempts measure no goodput."""

    def __init__(self, lab: Command, topology: str) -> None:
        self.name = lab.name()
        self.paths = lab.paths(self.name)
        lab.ok("up", topology, "--name", self.name, "--runtime", "process", "--quiet")

    def connect(self, caller: str, callee: str, technique: str) -> dict[str, Any]:
        order = {
            "do": "connect", "local": caller, "remote": callee, "techniques": [technique],
            "first": False, "timeout_s": 20.0, "goodput_s": 0.0,
        }  # fmt: skip
        events = client.ask(self.paths, order)
        (record,) = (event["record"] for event in events if event.get("event") == "attempt")
        return dict(record)


@pytest.fixture
def network(lab: Command, tmp_path):
    def up(topology: str) -> Network:
        if "\n" not in topology:
            return Network(lab, topology)
        file = tmp_path / "topology.yaml"
        file.write_text(topology)
        return Network(lab, str(file))

    return up


def ends(record: dict[str, Any]) -> tuple[str, str]:
    """What kinds the candidates of the nominated pair are."""
    return record["local_candidate"]["kind"], record["remote_candidate"]["kind"]


def test_a_relay_is_for_those_who_have_no_direct_path(network):
    here = network(BESIDE_A_RELAY)
    for turn in range(20):
        caller, callee = ("alice", "bob") if turn % 4 < 2 else ("bob", "alice")
        record = here.connect(caller, callee, TECHNIQUES[turn % 2])
        assert (record["outcome"], record["path"]) == ("success", "direct"), (turn, record)
        assert set(ends(record)) <= {"server-reflexive", "peer-reflexive"}, record
        assert "ICE nominated" in record["reason"]
    for technique in TECHNIQUES:
        record = here.connect("carol", "dave", technique)
        assert (record["outcome"], record["path"]) == ("success", "relayed"), record
        assert "relayed" in ends(record)


@pytest.mark.parametrize(
    ("topology", "inside"),
    [
        pytest.param("dual-stack", "[2a02:", id="no translation"),
        pytest.param("nptv6", "[2a02:", id="NPTv6"),
        pytest.param("ipv6-only", "45.0.0.", id="NAT64"),
    ],
)
def test_ipv6_gives_direct_paths(network, topology, inside):
    """Over IPv6 if both have that; through a NAT64 a peer is seen under an IPv4 address."""
    here = network(topology)
    for technique in TECHNIQUES:
        record = here.connect("alice", "bob", technique)
        assert (record["outcome"], record["path"]) == ("success", "direct"), record
        for end in ("local_candidate", "remote_candidate"):
            assert record[end]["endpoint"].startswith(inside), record
    if topology == "dual-stack":
        assert ends(record) == ("host", "host")


def test_who_has_ipv6_alone_meets_who_has_ipv4_alone_at_the_relay(network):
    here = network(TWO_FAMILIES)
    for caller, callee in (("alice", "bob"), ("bob", "alice")):
        for technique in TECHNIQUES:
            record = here.connect(caller, callee, technique)
            assert (record["outcome"], record["path"]) == ("success", "relayed"), record


def test_where_no_udp_passes_the_relay_is_asked_by_tcp_and_tls(network):
    """For ports in IPv6, as the relay has nothing else (RFC 8656, section 18.9)."""
    here = network(BEHIND_WALLS)
    plan = decode(here.paths.plan.read_bytes())
    for caller, callee, technique in (("alice", "bob", "ice-trickle"), ("bob", "carol", "ice")):
        record = here.connect(caller, callee, technique)
        assert (record["outcome"], record["path"]) == ("success", "relayed"), record
        assert contradictions(plan, caller, callee, [record]) == []
    relayed = [record[end] for end in ("local_candidate", "remote_candidate")]
    assert any(end["endpoint"].startswith("[2a00:") for end in relayed), relayed
    reason = predict(plan, "bob", "carol").of("ice")
    assert reason is not None
    assert reason.reason == "both reach the relay: bob by TCP and carol by TLS"
