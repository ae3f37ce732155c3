"""Behaviours typed on a command line mean what they mean in a file, and fail with its words."""

from __future__ import annotations

import pytest

from lab.topology.behaviour import Dependence, Direction, Firewall, Nat, PortPolicy, Verdict
from lab.topology.link import LinkSpec
from lab.topology.loader import loads
from lab.topology.presets import Presets
from lab.topology.problems import TopologyError
from lab.topology.spec import firewall_of, link_of, nat_of

HOME = Presets().nat["home"].behaviour or Nat()
ADM = Dependence.ADDRESS_DEPENDENT


def test_a_preset_is_that_preset():
    assert nat_of(["symmetric"], "r", HOME) == Presets().nat["symmetric"].behaviour


@pytest.mark.parametrize(
    ("words", "written"),
    [
        (["full-cone"], "full-cone"),
        (["full-cone", "ports=random"], "{preset: full-cone, ports: random}"),
        (["preset=full-cone", "hairpin=off"], "{preset: full-cone, hairpin: off}"),
        (["{preset: full-cone, hairpin: off}"], "{preset: full-cone, hairpin: off}"),
        (
            ["cgnat", "ports.range=2000-9999", "ports.block=64", "lifetimes.udp=30s"],
            "{preset: cgnat, ports: {range: 2000-9999, block: 64}, lifetimes: {udp: 30s}}",
        ),
    ],
)
def test_words_are_those_of_a_file(words, written):
    file = loads(f"name: t\nrouters: {{r: {{nat: {written}}}}}", "t.yaml")
    assert nat_of(words, "r", HOME) == file.routers[0].nat


def test_choices_without_a_preset_change_what_runs():
    once = nat_of(["mapping=adm"], "r", HOME)
    assert (once.mapping, once.filtering, once.preset) == (ADM, HOME.filtering, "home, changed")
    twice = nat_of(["ports=random"], "r", once)
    assert (twice.mapping, twice.ports.policy) == (ADM, PortPolicy.RANDOM)
    assert twice.preset == "home, changed"


def test_directions_without_a_preset_change_what_runs():
    running = Presets().firewall["udp-blocked"].behaviour
    changed = firewall_of(["outbound=[tcp/80]"], "n", running, router=False)
    assert changed is not None
    assert changed.inbound == running.inbound == Direction(default=Verdict.DROP)
    assert changed.outbound != running.outbound
    assert firewall_of(["none"], "n", running, router=False) is None
    assert firewall_of(["open"], "n", None, router=True) == Firewall(preset="open")


@pytest.mark.parametrize(
    ("words", "where", "said"),
    [
        (["symetric"], "symetric", "unknown NAT preset 'symetric'"),
        (["ports=randum"], "ports=randum", "ports.policy: unknown word 'randum'"),
        (["home", "ports.block=7"], "home ports.block=7", "a block has no meaning"),
        (["mappin=adm"], "mappin=adm", "unknown key 'mappin' in nat"),
        (["home", "random"], "random", "this is not key=value"),
        (["=x"], "=x", "this is not key=value"),
        (["lifetimes.udp=["], "lifetimes.udp=[", "this is not YAML"),
        (["none"], "none", "the NAT of r can't be taken away while the lab runs"),
        (["[]"], "[]", "nat is a list"),
        ([""], "r", "r is to have no NAT"),
        (["ports="], "ports=", "ports has no value"),
        (["ports.a.b.c=1"], "ports.a.b.c=1", "unknown key 'a' in ports"),
    ],
)
def test_what_is_wrong_is_said_with_the_word(words, where, said):
    with pytest.raises(TopologyError) as caught:
        nat_of(words, "r", HOME)
    assert said in str(caught.value)
    assert caught.value.problems[0].where == where


@pytest.mark.parametrize("words", [["udp-blokked"], ["inbound=tcp/99999"], ["outbund=[]"], [""]])
def test_what_is_wrong_with_a_firewall_is_said(words):
    with pytest.raises(TopologyError):
        firewall_of(words, "n", None, router=False)


def test_the_words_of_a_link_change_both_ways_or_one():
    both = link_of(["delay=20ms", "mtu=1400"], "n", LinkSpec())
    assert (both.up.delay_us, both.down.delay_us, both.mtu) == (20_000, 20_000, 1400)
    one = link_of(["up.delay=30ms"], "n", both)
    assert (one.up.delay_us, one.down.delay_us, one.mtu) == (30_000, 20_000, 1400)
    assert link_of(["{delay: 20ms, mtu: 1400}"], "n", LinkSpec()) == both
    assert link_of(["lte", "loss=2%"], "n", both).up.loss == 0.02


@pytest.mark.parametrize(
    ("words", "where", "said"),
    [
        (["delay"], "delay", "this is not key=value"),
        (["delay", "20ms"], "delay", "this is not key=value"),
        (["delay:20ms"], "delay:20ms", "this is not key=value"),
        (["lte", "20ms"], "20ms", "this is not key=value"),
        (["delay="], "delay=", "delay has no value"),
        (["delay=20ms,loss=1%"], "delay=20ms,loss=1%", "this is more than one choice"),
        (["delay=soon"], "delay=soon", "delay: 'soon' is not a duration"),
        (["link.delay=20ms"], "link.delay=20ms", "unknown key 'link' in link"),
        (["up.dealy=1ms"], "up.dealy=1ms", "did you mean 'delay'?"),
        (["ltee"], "ltee", "unknown link preset 'ltee'"),
    ],
)
def test_what_is_wrong_with_a_link_is_said_without_the_path_in_a_file(words, where, said):
    with pytest.raises(TopologyError) as caught:
        link_of(words, "peer", LinkSpec())
    assert said in str(caught.value)
    assert "routers." not in str(caught.value)
    assert caught.value.problems[0].where == where
