"""How a packet's way ended: translators, fences, links, routes."""

from __future__ import annotations

from collections import Counter

import pytest
from msgspec.structs import replace

from lab.observe.explain.arrange import ladder
from lab.observe.explain.events import Missing, Rule
from lab.observe.explain.fates import Ends, Fate, leads
from lab.observe.explain.formats import lan_message, websocket
from lab.observe.explain.journeys import journeys
from lab.observe.explain.sentence import sentence
from lab.observe.explain.stops import Stop
from lab.observe.explain.story import story
from lab.observe.explain.text import ladder_text
from lab.observe.explain.translator import plain
from lab.peer.endpoint import Endpoint
from lab.plan.model import Interface, Node, NodeKind, Route
from lab.topology.behaviour import Hairpin
from lab.topology.character import Backend
from tests.unit.observe.explain_support import capture, told


def causes(name: str, fate: Fate, **changes: object) -> Counter[str]:
    found = journeys(replace(capture(name), **changes))
    return Counter(one.cause for one in found if one.fate is fate)


# --- translators ------------------------------------------------------------


def test_a_nat64_is_one_translation():
    tale = told("ipv6-only-udp-punch")
    crossed = [
        stop
        for one in tale.told
        for stop in one.journey.stops
        if stop.node == "mobile" and stop.came and stop.went
    ]
    families = {(stop.came.source.family, stop.went.source.family) for stop in crossed}
    assert {(6, 4), (4, 6)} <= families
    boxes = [one for one in tale.made.mapped if one.node == "mobile"]
    assert boxes
    assert all(one.inside.family == 6 and one.outside.family == 4 for one in boxes)
    assert any(one.lifetime_s for one in boxes)
    assert set(tale.steps) == {1, 2, 3, 4}


def test_why_a_translator_gave_nothing_back():
    (cause,) = causes("ipv6-only-udp-punch", Fate.VANISHED)
    assert cause == "64:ff9b::/96 may not stand for the private 192.168.1.2 (RFC 6052)"


def test_addresses_that_stand_for_ipv4():
    known = ("64:ff9b::/96", "2a02:64::/96")
    assert plain(Endpoint("64:ff9b::2d00:6", 7), known) == Endpoint("45.0.0.6", 7)
    assert plain(Endpoint("2a02:64::2d00:6", 7), known) == Endpoint("45.0.0.6", 7)
    assert plain(Endpoint("2a02:65::2d00:6", 7), known).family == 6
    assert plain(Endpoint("45.0.0.6", 7), known) == Endpoint("45.0.0.6", 7)


def test_prefixes_are_translated_and_decisions_still_found():
    tale = told("nptv6-udp-punch")
    assert set(tale.steps) == {1, 2, 3, 4}
    refused = tale.steps[3][0][0]
    assert (refused.fate, refused.cause) == (Fate.DROPPED, "firewall: in nothing")


# --- the core and links -----------------------------------------------------


def test_a_partition_is_the_cause_of_what_the_internet_drops():
    found = journeys(capture("partition-udp-punch"))
    dropped = [one for one in found if one.fate is Fate.DROPPED]
    assert {(one.end, one.cause) for one in dropped} == {
        ("internet", "partition of alice from bob")
    }


def test_a_partition_of_a_lan_keeps_even_arp_apart():
    sentence = explained("lan-partition-direct")
    assert "home's network is divided (partition of alice from bob)" in sentence


def test_a_cut_link_is_named():
    name = "home-b\N{EM DASH}internet"
    assert set(causes("cut-direct", Fate.LOST)) == {f"lost on the link {name}, which is cut"}
    words = "alice's offer never came to bob: lost on the link"
    assert words in explained("cut-direct")


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ((), "by chance (10 % loss declared) or by its full queue (10 Mbit/s)"),
        (("lost",), "by chance (10 % loss declared)"),
        (("full",), "by its full queue (10 Mbit/s)"),
    ],
)
def test_a_link_says_itself_what_it_lost(missing, said):
    plan = capture("loss-udp-punch").plan
    link = next(link for link in plan.links if link.a.node == "home-b")
    counted = Missing(link=link.name, up=True, **dict.fromkeys(missing, 3))
    found = causes("loss-udp-punch", Fate.LOST, missing=(counted,))
    assert f"lost on the link home-b\N{EM DASH}internet {said}" in found


def test_what_a_queue_of_the_kernel_dropped_was_not_seen_to_leave():
    whole = capture("two-homes-udp-punch")
    probe = next(
        one
        for one in journeys(whole)
        if one.fate is Fate.ARRIVED and one.source == "alice" and one.end == "bob"
    )
    beyond = {(stop.node, stop.came_ns) for stop in probe.stops if stop.node != "home-a"}
    beyond |= {(stop.node, stop.went_ns) for stop in probe.stops if stop.node != "alice"}
    links = tuple(
        replace(link, backend=Backend.KERNEL, a_to_b=replace(link.a_to_b, loss=0.1))
        if link.a.node == "home-a"
        else link
        for link in whole.plan.links
    )
    cut = replace(
        whole,
        plan=replace(whole.plan, links=links),
        sightings=tuple(one for one in whole.sightings if (one.node, one.at_ns) not in beyond),
    )
    (found,) = (one for one in journeys(cut) if one.began_ns == probe.began_ns)
    assert (found.fate, found.end) == (Fate.LOST, "home-a")
    assert "home-a\N{EM DASH}internet by chance (10 % loss declared)" in found.cause


def test_what_left_just_before_the_end_may_be_on_its_way():
    whole = capture("two-homes-udp-punch")
    probe = next(
        one
        for one in journeys(whole)
        if one.fate is Fate.ARRIVED and one.source == "alice" and one.end == "bob"
    )
    last = probe.stops[-2]
    until = last.went_ns + 1
    earlier = tuple(one for one in whole.sightings if one.at_ns < until)

    def fate(ended_ns: int) -> Fate:
        cut = replace(whole, sightings=earlier, ended_ns=ended_ns)
        return next(one.fate for one in journeys(cut) if one.began_ns == probe.began_ns)

    assert fate(until) is Fate.UNDER_WAY
    assert fate(until + 10**9) is Fate.LOST


def test_without_tracing_nothing_is_claimed_of_rules():
    whole = capture("blocked-udp-udp-punch")
    said = "the kernel traces no rules at home-a (Operation not supported)"
    deaf = replace(whole, decisions=(), rules=(), untraced=("home-a", "office-b"), lost=(said,))
    fates = {one.fate for one in journeys(deaf) if one.cause}
    assert Fate.UNSEEN in fates
    assert not fates & {Fate.DROPPED, Fate.REFUSED}
    assert said in ladder_text(ladder(story(deaf)), 120).replace("\n", " ")


def explained(name: str) -> str:

    return sentence(story(capture(name)))


ROUTER = Node(
    name="r",
    kind=NodeKind.ROUTER,
    interfaces=(Interface("wan", ("45.0.0.2/30",)), Interface("lan", ("192.168.1.1/24",))),
    routes=(
        Route(destination="0.0.0.0/0", gateway="45.0.0.1"),
        Route(destination="10.0.0.0/8"),
        Route(destination="10.1.0.0/16", interface="lan"),
    ),
)


@pytest.mark.parametrize(
    ("address", "interface"),
    [
        ("192.168.1.7", "lan"),
        ("8.8.8.8", "wan"),
        ("10.9.9.9", None),
        ("10.1.2.3", "lan"),
        ("2001:db8::1", None),
    ],
)
def test_which_way_a_node_sends(address, interface):
    assert leads(ROUTER, address) == interface


# --- formats ------------------------------------------------------------------


def test_websocket_frames():
    assert websocket(b"\x82\x03abc") == ("", b"abc")
    masked = bytes(
        (0x82, 0x83, 1, 2, 3, 4, *(b ^ m for b, m in zip(b"abc", (1, 2, 3), strict=True)))
    )
    assert websocket(masked) == ("", b"abc")
    assert websocket(b"\x89\x00") == ("ping", b"")
    assert websocket(b"\x82\x7e\x00\x03abc") == ("", b"abc")
    for data in (b"", b"\x82", b"GET / HTTP/1.1", b"\x82\x03"):
        assert websocket(data) is None


def test_messages_on_a_lan():
    offer = (
        b'{"id":"d4b3e81966fd4932","from":"alice","body":{"kind":"offer","c":[{"kind":"host"}]}}'
    )
    assert lan_message(offer) == ("offer", "alice")
    assert lan_message(b'{"ack": "d4b3e81966fd4932"}') == ("receipt", "")
    assert lan_message(b'{"x":1}') is None


# --- what a NAT does not turn around ------------------------------------------


@pytest.mark.parametrize(
    ("hairpin", "comment", "cause"),
    [
        (Hairpin.OFF, "nor from the LAN by the outside", "no hairpinning: "),
        # It would have turned it back, were there a mapping that leads back in.
        (Hairpin.EXTERNAL_SOURCE, "nor from the LAN by the outside", "nor from the LAN"),
        (Hairpin.OFF, "the router restarts", "the router restarts"),
    ],
)
def test_only_who_does_not_hairpin_is_said_not_to(hairpin, comment, cause):
    found = capture("two-homes-udp-punch")
    home = found.plan.node("home-a")
    changed = replace(home, nat=replace(home.nat, hairpin=hairpin))
    nodes = tuple(changed if node is home else node for node in found.plan.nodes)
    rule = Rule(node="home-a", table="ip filter", chain="INPUT", handle=1, text="", comment=comment)
    stop = Stop("home-a", dropped_by=rule)
    assert Ends(found, replace(found.plan, nodes=nodes)).of(stop)[1].startswith(cause)
