"""Two peers with IPv6, beside IPv4 or instead of it, behind real firewalls."""

from __future__ import annotations

import shutil

import pytest

from tests.kernel.peer.wild import PATIENT, PAUSE_S, run
from tests.kernel.peer.wild6 import Wild6
from tests.machine import measured

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def dual(tmp_path_factory):
    wild = Wild6(tmp_path_factory.mktemp("dual"))
    yield wild
    wild.close()


@pytest.fixture
def build(tmp_path):
    built = []

    def build(alice, bob):
        built.append(Wild6(tmp_path, alice, bob))
        return built[-1]

    yield build
    for wild in built:
        wild.close()


def connect(wild, a, b, *techniques, nat=("home", "home"), **more):
    for router, wall, kind in zip("ab", (a, b), nat, strict=True):
        wild.nat(router, kind)
        wild.wall(router, wall)
    return wild.alice.connect("bob", *techniques, **more)


def test_two_firewalls_are_punched_over_ipv6_where_ipv4_cannot_be(dual):
    nat = ("home", "symmetric")
    (record,) = connect(dual, "stateful", "stateful", "udp-punch", nat=nat, **PATIENT)
    assert record["outcome"] == "success", record["reason"]
    assert record["path"] == "direct"
    assert record["local_candidate"]["kind"] == "host"
    assert record["local_candidate"]["endpoint"].startswith("[2a00:1::2]:")
    assert record["remote_candidate"]["kind"] == "host"
    assert record["remote_candidate"]["endpoint"].startswith("[2a00:2::2]:")


def test_ipv6_is_taken_where_both_work(dual):
    def check():
        (record,) = connect(dual, "stateful", "stateful", "udp-punch", **PATIENT)
        assert record["outcome"] == "success", record["reason"]
        # IPv4 waits for it, but not for long.
        assert record["remote_candidate"]["endpoint"].startswith("[2a00:2::2]:"), record

    for _ in range(3):
        measured(check, PAUSE_S, again=True)


@pytest.mark.parametrize("blocked", ["a", "b"])
def test_ipv4_is_taken_where_ipv6_is_blocked(dual, blocked):
    """Also to the rendezvous service, if there is a connection that has lost its way."""
    walls = {"a": "stateful", "b": "stateful", blocked: "blocked"}
    (record,) = connect(dual, walls["a"], walls["b"], "udp-punch", **PATIENT)
    assert record["outcome"] == "success", record["reason"]
    assert record["remote_candidate"]["endpoint"].startswith("45.0.2.2:")
    assert record["remote_candidate"]["kind"] == "server-reflexive"


def test_an_open_side_is_reached_as_it_is(dual):
    (record,) = connect(dual, "stateful", "open", "direct", **PATIENT)
    assert record["outcome"] == "success", record["reason"]
    assert record["remote_candidate"]["endpoint"].startswith("[2a00:2::2]:")


def test_a_firewall_keeps_the_unasked_out(dual):
    (record,) = connect(dual, "stateful", "stateful", "direct", timeout_s=3)
    assert record["outcome"] == "timed-out"
    assert "firewall" in record["reason"]


def test_the_relay_serves_both(dual):
    (record,) = connect(dual, "stateful", "stateful", "relay", **PATIENT)
    assert record["outcome"] == "success", record["reason"]
    assert record["path"] == "relayed"


def test_peers_of_one_family_each_need_a_relay(build):
    wild = build("6", "4")
    direct, punch, relay = wild.alice.connect("bob", "direct", "udp-punch", "relay", timeout_s=5)
    for record in (direct, punch):
        assert record["outcome"] == "timed-out"
        assert "bob has no address that alice can send to" in record["reason"]
    assert direct["reason"].endswith("no address family is common to both")
    assert relay["outcome"] == "success", relay["reason"]
    (back,) = wild.bob.connect("alice", "relay", **PATIENT)
    assert back["outcome"] == "success", back["reason"]


def test_two_peers_without_ipv4(build):
    wild = build("6", "6")
    punch, relay = wild.alice.connect("bob", "udp-punch", "relay", **PATIENT)
    assert punch["outcome"] == "success", punch["reason"]
    # A question and its answer, if that comes within half a second.
    assert punch["packets"]["stun"] in {2, 3, 4}
    assert relay["outcome"] == "success", relay["reason"]
    assert relay["remote_candidate"]["endpoint"].startswith("[2a00:2::2]:")
    assert relay["local_candidate"]["endpoint"].startswith("[2a00::2]:")


def test_a_peer_with_both_meets_one_with_ipv6(build):
    wild = build("46", "6")
    for record in (
        *wild.alice.connect("bob", "udp-punch", "relay", **PATIENT),
        *wild.bob.connect("alice", "udp-punch", "relay", **PATIENT),
    ):
        assert record["outcome"] == "success", record["reason"]


# --- programs that others wrote, over IPv6 ---


def tool(wild, *command):
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} (coturn) is missing")
    return run(" ".join(("ip netns exec", wild.name("alice"), *command)), timeout=60)


def test_coturn_classifies_a_firewall_over_ipv6_with_our_server(dual):
    dual.wall("a", "stateful")
    output = tool(dual, "turnutils_natdiscovery", "-m", "-f", "-L", "2a00:1::2", "2a00::2")
    assert "No NAT! (Endpoint Independent Mapping)" in output
    assert "NAT with Address and Port Dependent Filtering!" in output


def test_coturn_has_ipv6_relayed_by_our_server(dual):
    # -x: IPv6 relayed endpoints; -y: client to client; -c: no RTCP.
    load = ("-x", "-y", "-c", "-n", "5", "-m", "2", "-z", "5", "-p", "5349")
    who = ("-u", "user", "-w", "password", "-L", "2a00:1::2", "2a00::2")
    output = tool(dual, "turnutils_uclient", *load, *who)
    assert "Total lost packets 0 (0.000000%)" in output
