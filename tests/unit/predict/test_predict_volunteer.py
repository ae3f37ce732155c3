"""Who is taken for a relay among ordinary peers, from the plan alone."""

from __future__ import annotations

import pytest

from lab.plan.compile import compile_topology
from lab.predict.prediction import predict
from lab.topology.loader import load
from tests.unit.predict.predict_support import MACHINE

FILE = """
name: volunteers
routers:
  home-a: {{nat: symmetric}}
  office-b: {{nat: home, firewall: udp-blocked}}
nodes:
  stun: {{via: internet, service: stun}}
  rendezvous: {{via: internet, service: rendezvous}}
  alice: {{via: home-a, peer: true}}
  bob: {{via: office-b, peer: true}}
  carol: {{{carol}}}
"""
FIT = 'via: internet, peer: true, env: {VOLUNTEER: "after_s=5"}'


@pytest.mark.parametrize(
    ("carol", "possible", "reason"),
    [
        (FIT, True, "both reach carol, which is fit to be a relay"),
        (FIT.replace("after_s=5", "yes"), True, "once it has run for 600 s"),
        (FIT.replace("internet", "home-a"), False, "carol has no public address"),
        (f"{FIT}, link: {{rate: 256kbit}}", False, "less than 1 Mbit/s"),
        (f"{FIT}, link: {{rate: 10mbit}}", True, "both reach carol"),
        (f"{FIT}, firewall: stateful", False, "carol is not reached"),
        (FIT.replace("5", "5,port=1"), False, "no other peer volunteers"),
        ("via: internet, peer: true", False, "no other peer volunteers"),
    ],
)
def test_a_volunteer_is_a_relay_if_the_plan_lets_it_be_one(tmp_path, carol, possible, reason):
    file = tmp_path / "volunteers.yaml"
    file.write_text(FILE.format(carol=carol))
    plan = compile_topology(load(str(file)), MACHINE)
    for ends in (("alice", "bob"), ("bob", "alice")):
        finding = predict(plan, *ends).of("relay-peer")
        assert finding.possible is possible, finding
        assert reason in finding.reason
        assert finding.by_chance is ("once it has run" in finding.reason)
