"""What stored captures of real attempts are found to mean."""

from __future__ import annotations

import itertools
from collections import Counter

import msgspec
import pytest

from lab.observe.explain.arrange import ladder
from lab.observe.explain.journeys import Fate
from lab.observe.explain.labels import Kind
from lab.observe.explain.ladder import Row
from lab.observe.explain.story import story
from tests.unit.observe.explain_support import NAMES, capture, golden, told


def steps(name: str) -> dict[int, list[str]]:
    return {number: [node for _, node in found] for number, found in told(name).steps.items()}


def noted(rows: tuple[Row, ...], kind: str) -> list[tuple[str, str]]:
    return [(note.lane, note.text) for row in rows for note in row.notes if note.kind == kind]


def test_the_sentences():
    found = "".join(f"{name}: {ladder(told(name)).sentence}\n\n" for name in NAMES)
    golden("explain-sentences.txt", found)


@pytest.mark.parametrize("name", NAMES)
def test_every_packet_is_shown_folded_or_counted(name):
    tale = told(name)
    drawn = ladder(tale)
    shown = sum(1 + row.more for row in drawn.rows)
    assert shown + sum(count for _, count in drawn.hidden) == len(tale.told)
    whole = ladder(tale, everything=True)
    assert len(whole.rows) == len(tale.told)
    assert whole.hidden == ()


@pytest.mark.parametrize("name", NAMES)
def test_a_packet_is_at_one_node_after_the_other(name):
    for one in told(name).told:
        stops = one.journey.stops
        times = [time for stop in stops for time in (stop.came_ns, stop.went_ns) if time]
        assert times == sorted(times)
        for before, after in itertools.pairwise(stops):
            assert before.went is not None
            assert after.came is not None
            assert (before.went.flow, before.went.payload) == (
                after.came.flow,
                after.came.payload,
            )


def test_the_four_steps_of_a_punch():
    tale = told("two-homes-udp-punch")
    assert steps("two-homes-udp-punch") == {
        1: ["alice", "rendezvous", "bob"],
        2: ["home-b"],
        3: ["home-a"],
        4: ["home-b"],
    }
    second, fourth = tale.steps[2][0][0], tale.steps[4][0][0]
    assert second.fate is Fate.DROPPED
    assert second.stops[-1].reason == "nothing unsolicited in"
    assert "-j DROP" in second.stops[-1].dropped_by.text
    assert [stop.node for stop in second.stops if stop.went] == ["bob", "home-b", "internet"]
    # The packet of step 4 goes to where that of step 2 seemed to come from, and the reverse.
    assert fourth.packet.destination == second.final.source
    assert fourth.at("home-a").went.source == second.packet.destination
    assert fourth.end == "bob"


def test_who_is_m_and_who_n_is_seen_not_assumed():
    assert told("two-homes-udp-punch").roles == ("alice", "bob")
    # TCP's callee waits for a signal, so the caller's packet is the first on the way.
    assert told("two-homes-tcp-punch").roles == ("bob", "alice")
    assert steps("two-homes-tcp-punch")[3] == ["home-b"]


def test_the_steps_are_those_of_the_nearest_nats_behind_one_carrier():
    found = steps("cgnat-udp-punch")
    assert (found[2], found[3], found[4]) == (["home-b"], ["home-a"], ["home-b"])


def test_no_step_is_claimed_that_was_not_seen():
    assert sorted(steps("symmetric-pair-udp-punch")) == [1, 2, 3]
    assert sorted(steps("blocked-udp-udp-punch")) == [1]
    assert steps("two-homes-relay") == {}


def test_one_mapping_for_all_destinations_or_one_each():
    def ports(name: str) -> Counter[str]:
        mapped = [one for one in told(name).made.mapped if not one.before]
        return Counter(one.node for one in mapped)

    assert ports("two-homes-udp-punch") == {"home-a": 1, "home-b": 1}
    assert ports("symmetric-pair-udp-punch")["home-a"] > 2


def test_mappings_have_the_lifetime_that_the_nat_gave_them():
    drawn = ladder(told("two-homes-udp-punch"))
    assert all(text.endswith("outside, for 2 min") for _, text in noted(drawn.rows, "mapping"))


def test_a_firewalls_rule_is_named():
    drawn = ladder(told("blocked-udp-udp-punch"))
    assert set(noted(drawn.rows, "dropped")) == {("office-b", "firewall: drop udp")}
    rules = {note.rule for row in drawn.rows for note in row.notes if note.kind == "dropped"}
    assert all("-p udp" in rule and "-j DROP" in rule for rule in rules)


def test_a_refusal_and_what_the_sender_is_told():
    drawn = ladder(told("http-only-relay"))
    assert {lane for lane, _ in noted(drawn.rows, "refused")} == {"office-b"}
    errors = [row for row in drawn.rows if row.kind == Kind.ERROR.value]
    assert errors
    assert errors[0].points[0].lane == "office-b"


def test_what_a_symmetric_nat_shows_is_not_what_stun_saw():
    tale = told("symmetric-pair-udp-punch")
    assert "maps" in ladder(tale).sentence
    probe = next(one for one in tale.local.opening if one.to in tale.remote.shown)
    outside = probe.journey.at("home-a").went.source
    assert outside not in tale.local.shown
    assert f"the port is {outside.port}" in ladder(tale).sentence


def test_ipv6_passes_a_firewall_untranslated():
    tale = told("dual-stack-udp-punch")
    second = tale.steps[2][0][0]
    assert second.packet.source.family == 6
    assert not any(stop.translated for stop in second.stops)
    assert second.stops[-1].reason == "firewall"


def test_a_mapped_port_turns_the_packet_inwards():
    sentence = ladder(told("upnp-home-upnp")).sentence
    assert "because alice asked for it (UPnP)" in sentence
    assert "home-a passed it on to 192.168.1.2:" in sentence


def test_what_comes_after_the_proof_is_not_drawn():
    drawn = ladder(told("two-homes-udp-punch"))
    assert drawn.proven_ms is not None
    assert all(row.at_ms <= drawn.proven_ms for row in drawn.rows)


def test_what_was_not_seen_is_not_claimed():
    """Without its decisions, a packet that a router swallowed has not arrived there."""
    whole = capture("two-homes-udp-punch")
    blind = msgspec.structs.replace(whole, decisions=(), lost=("some decisions at home-a",))
    fates = {
        one.journey.fate
        for one in story(blind).told
        if one.journey.end == "home-a" and one.label.probe
    }
    assert fates == {Fate.UNSEEN}


def test_hundreds_of_alike_packets_are_a_few_rows():
    """Packets that differ in ports alone are folded, also if each made a mapping."""
    rows = ladder(told("symmetric-pair-udp-punch")).rows
    probes = [row for row in rows if row.text == "probe"]
    assert len(probes) < 10
    assert sum(1 + row.more for row in probes) > 100


def test_who_turned_packets_around_is_named():
    assert (
        "Both are behind carrier, which turned their packets around"
        in ladder(told("cgnat-udp-punch")).sentence
    )
    assert "hairpin" not in ladder(told("two-homes-udp-punch")).sentence


def test_a_reversal_that_is_stopped_says_what_was_asked():
    found = capture("partition-udp-punch")
    drawn = ladder(story(msgspec.structs.replace(found, technique="reversal")))
    assert drawn.sentence.startswith(
        "It failed: alice asked bob to connect the other way round, but nothing of what "
    )
