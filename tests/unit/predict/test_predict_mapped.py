"""What `lab predict` says of ports that routers open on request."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from lab.predict import predict
from lab.predict.pairs import Kind
from lab.topology.behaviour import Dependence, PortMapping
from lab.topology.model import RouterSpec
from lab.topology.presets import Presets
from tests.unit.predict.predict_support import nat, peer, plan_of

ALL = ("upnp", "nat-pmp", "pcp")
BOTH = PortMapping(upnp=True, pcp=True)
SYMMETRIC = Kind(Dependence.ADDRESS_AND_PORT_DEPENDENT, Dependence.ADDRESS_AND_PORT_DEPENDENT)


def router(name: str, via: str = "internet", mapping: PortMapping | None = None) -> RouterSpec:
    spec = RouterSpec(name=name, via=via, nat=nat(SYMMETRIC))
    return replace(spec, port_mapping=mapping)


def outcomes(*specs):
    found = predict(plan_of(*specs), "alice", "bob", ALL)
    return {finding.technique: finding for finding in found.findings}


def test_one_willing_router_is_enough_on_either_side():
    for a, b in ((BOTH, None), (None, BOTH)):
        found = outcomes(
            router("a", mapping=a), router("b", mapping=b), peer("alice", "a"), peer("bob", "b")
        )
        assert all(f.possible and f.path == "direct" for f in found.values()), found
        assert f"{'a' if a else 'b'} opens a port" in found["pcp"].reason


def test_no_router_opens_ports():
    found = outcomes(router("a"), router("b"), peer("alice", "a"), peer("bob", "b"))
    assert not any(finding.possible for finding in found.values())
    assert "a opens no ports on request" in found["upnp"].reason


def test_each_protocol_is_a_switch_of_its_own():
    upnp = PortMapping(upnp=True)
    found = outcomes(router("a", mapping=upnp), router("b"), peer("alice", "a"), peer("bob", "b"))
    assert [found[name].possible for name in ALL] == [True, False, False]


def test_a_port_behind_a_carrier_is_of_no_use():
    found = outcomes(
        router("carrier"),
        router("a", "carrier", BOTH),
        router("b"),
        peer("alice", "a"),
        peer("bob", "b"),
    )
    assert not found["upnp"].possible
    assert "no public address" in found["upnp"].reason


@pytest.mark.parametrize("blocked", ["a", "b"])
def test_blocked_udp_stops_it(blocked):
    wall = Presets().firewall["udp-blocked"].behaviour
    specs = [router("a", mapping=BOTH), router("b")]
    specs = [replace(s, firewall=wall) if s.name == blocked else s for s in specs]
    found = outcomes(*specs, peer("alice", "a"), peer("bob", "b"))
    # A port that was asked for passes the firewall, and so do answers; asking one's way out not.
    assert found["pcp"].possible is (blocked == "a")
