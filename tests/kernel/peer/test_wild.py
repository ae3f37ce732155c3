"""Two peers behind real NATs: what works, what does not, and what they say about it."""

from __future__ import annotations

import re

import pytest

from tests.kernel.peer.wild import PATIENT, PAUSE_S, Wild
from tests.machine import measured

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def wild(tmp_path_factory):
    wild = Wild(tmp_path_factory.mktemp("wild"))
    yield wild
    wild.close()


def connect(wild, a, b, *techniques, **more):
    wild.nat("a", a)
    wild.nat("b", b)
    return wild.alice.connect("bob", *techniques, **more)


def test_the_four_steps_leave_their_traces(wild):
    wild.nat("a", "home")
    wild.nat("b", "home")
    (record,) = wild.alice.connect("bob", "udp-punch", **PATIENT)
    assert record["outcome"] == "success", record["reason"]
    assert record["path"] == "direct"
    assert record["local_candidate"]["kind"] == "server-reflexive"
    assert record["remote_candidate"]["kind"] == "server-reflexive"
    assert record["remote_candidate"]["endpoint"].startswith("45.0.2.2:")
    # A question and its answer, if that comes within half a second.
    assert record["packets"]["stun"] >= 2
    # (3): the caller's NAT refused what the callee sent first, and again for as long as the
    # caller sent nothing; (4): the callee's let it in.
    assert wild.dropped("a") >= 1
    assert wild.dropped("b") == 0


@pytest.mark.parametrize(("a", "b"), [("full-cone", "symmetric"), ("symmetric", "full-cone")])
def test_a_symmetric_nat_against_an_open_one(wild, a, b):
    (record,) = connect(wild, a, b, "udp-punch", **PATIENT)
    assert record["outcome"] == "success", record["reason"]
    assert "peer-reflexive" in {
        record["local_candidate"]["kind"],
        record["remote_candidate"]["kind"],
    }


def test_a_symmetric_nat_against_a_filtering_one(wild):
    def check():
        punch, relay = connect(wild, "home", "symmetric", "udp-punch", "relay")
        assert punch["outcome"] == "timed-out"
        # A second server is asked once, for this sentence only.
        assert "heard nothing of bob: alice's own NAT shows 45.0.1.2:" in punch["reason"]
        assert relay["outcome"] == "success", relay["reason"]
        assert relay["path"] == "relayed"

    measured(check, PAUSE_S, again=True)


def test_a_peer_knows_that_its_own_nat_is_the_obstacle(wild):
    def check():
        (record,) = connect(wild, "symmetric", "home", "udp-punch")
        assert record["outcome"] == "timed-out"
        assert "so bob cannot know where to send" in record["reason"]

    measured(check, PAUSE_S, again=True)


def test_a_full_cone_lets_its_inside_be_called(wild):
    (record,) = connect(wild, "symmetric", "full-cone", "direct", **PATIENT)
    assert record["outcome"] == "success", record["reason"]
    assert record["remote_candidate"]["kind"] == "server-reflexive"


def test_a_nat_that_admits_who_was_asked_keeps_callers_out(wild):
    (record,) = connect(wild, "full-cone", "home", "direct", timeout_s=2)
    assert record["outcome"] == "timed-out"
    assert record["reason"].endswith("admits nobody there who was not asked")


def test_a_private_address_is_not_reached_as_it_is(wild):
    (record,) = connect(wild, "full-cone", "blocked", "direct", timeout_s=5)
    assert record["outcome"] == "timed-out"
    assert record["reason"].endswith("its addresses are private and not on this network")


@pytest.mark.parametrize(
    ("a", "b", "local", "remote"),
    [
        ("blocked", "home", "relayed", "server-reflexive"),
        ("home", "blocked", "relayed", "relayed"),
        ("blocked", "blocked", "relayed", "relayed"),
    ],
)
def test_where_udp_does_not_pass_the_relay_is_reached_over_tcp(wild, a, b, local, remote):
    (record,) = connect(wild, a, b, "relay", **PATIENT)
    assert record["outcome"] == "success", record["reason"]
    assert record["local_candidate"]["kind"] == local
    assert record["remote_candidate"]["kind"] == remote
    transport = "TCP" if a == "blocked" else "UDP"
    assert record["reason"] == f"by the relay 45.0.0.2:5349, {transport} to it"


@pytest.mark.parametrize(
    ("a", "b", "says"),
    [("blocked", "home", ": no answer"), ("home", "blocked", ": bob says: no answer")],
)
def test_blocked_udp_is_named(wild, a, b, says):
    (record,) = connect(wild, a, b, "udp-punch")
    assert record["outcome"] == "timed-out"
    # Two of the three tries are one for who gets to it late.
    why = rf"{says} from STUN server 45\.0\.0\.2:3478 after ([23]) tries: UDP seems blocked$"
    said = re.search(why, record["reason"])
    assert said, record["reason"]
    if a == "blocked":
        assert int(said[1]) == record["packets"]["stun"]
