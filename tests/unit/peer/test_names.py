"""Names on a network (RFC 6762, RFC 4795, SSDP): who has which, by a clock of the test's own."""

from __future__ import annotations

import random
import socket
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.peer.lan import dns, naming
from lab.peer.lan.dns import Message, Record
from lab.peer.lan.naming import Naming
from lab.peer.lan.presence import Presence
from lab.peer.lan.uniqueness import Uniqueness
from lab.peer.portmap import ssdp

TARGET = "urn:lab:peer:"


def says(address):
    """What a host with that address says under its name."""

    def records(name):
        own = socket.inet_aton(address)
        about = dns.texts(f"at={address}:1")
        return Record(name, dns.A, own, unique=True), Record(name, dns.TXT, about, unique=True)

    return records


def begin(wanted="alice", address="10.0.0.5", seed=1):
    return Naming(wanted, says(address), random.Random(seed), 0.0)


def owned(one):
    """Let time pass until it has its name; when, and what it said and when."""
    said = []
    while not one.owned:
        now = one.due
        said += [(now, message) for message in one.tick(now)]
    return now, said


def probe(name, *records):
    return Message(questions=((name, dns.ANY),), claims=records)


def answer(*records):
    return Message(response=True, answers=records)


OTHER = Record("alice.local", dns.A, socket.inet_aton("10.0.0.9"))


@given(st.integers())
def test_a_name_is_probed_for_thrice_and_announced_twice(seed):
    one = begin(seed=seed)
    now, said = owned(one)
    probes, (announcement,) = said[:-1], said[-1:]
    first = probes[0][0]
    assert 0 <= first <= 0.25
    assert [at for at, _ in probes] == pytest.approx([first, first + 0.25, first + 0.5])
    assert now == pytest.approx(first + 0.75)
    for _, message in probes:
        assert message.questions == (("alice.local", dns.ANY),)
        assert [record.unique for record in message.claims] == [False, False]
    assert announcement == (now, one.response)
    assert all(record.unique for record in one.response.answers)
    assert one.due == now + 1
    assert one.tick(one.due) == [one.response]
    assert one.due is None


@given(st.integers(0, 3), st.sampled_from([dns.A, dns.TXT, 28]))
def test_whoever_has_the_name_sends_others_elsewhere(after, kind):
    one = begin()
    for _ in range(after):
        one.tick(one.due)
    assert one.heard(answer(replace(OTHER, type=kind)), one.due) == []
    assert one.name == "alice-2"
    owned(one)
    assert one.name == "alice-2"


def test_of_two_probes_the_later_in_order_wins_and_the_other_asks_again_in_a_second():
    # The RFC's own example: 169.254.200.50 is later than 169.254.99.200 (section 8.2).
    loser, winner = begin(address="169.254.99.200"), begin(address="169.254.200.50")
    (theirs,), (ours,) = winner.tick(winner.due), loser.tick(loser.due)
    due = winner.due
    assert winner.heard(ours, 0.4) == []
    assert loser.heard(theirs, 0.4) == []
    assert (winner.due, loser.due) == (due, 1.4)
    assert (winner.name, loser.name) == ("alice", "alice")
    now, _ = owned(winner)
    # Then it is told that the name is taken.
    (again,) = loser.tick(1.4)
    assert winner.heard(again, max(now, 1.4)) == [winner.response]
    loser.heard(winner.response, 1.4)
    assert loser.name == "alice-2"


def test_what_it_says_itself_and_goodbyes_are_no_conflict():
    one = begin()
    one.heard(answer(*one.records), 0.0)
    one.heard(probe("alice.local", *one.records), 0.0)
    one.heard(answer(replace(OTHER, ttl_s=0)), 0.0)
    one.heard(answer(replace(OTHER, name="bob.local")), 0.0)
    assert one.name == "alice"
    assert one.due <= naming.DELAY_S


def test_a_conflict_later_on_is_settled_by_probes():
    one = begin()
    now, _ = owned(one)
    assert one.heard(answer(replace(OTHER, type=28)), now) == []
    assert one.owned, "an address of another family is no conflict"
    one.heard(answer(OTHER), now)
    assert (one.owned, one.name, one.due) == (False, "alice", now)
    # Nobody objects: it was a host that has gone.
    owned(one)
    assert one.name == "alice"


def test_after_fifteen_conflicts_it_holds_back():
    one = begin()
    for number in range(1, 17):
        one.heard(answer(replace(OTHER, name=f"{one.name}.local")), 1.0)
        assert (one.due >= 6.0) is (number >= 15)


@given(st.text("abc-", min_size=1, max_size=63))
def test_names_with_numbers_are_labels(wanted):
    one = begin(wanted)
    for _ in range(12):
        one.heard(answer(replace(OTHER, name=one.records[0].name.lower())), 0.0)
        assert len(one.name) <= 63
        assert one.name != wanted
        dns.encode(one.response)


def test_another_protocol_may_take_a_name_away():
    one = begin()
    now, _ = owned(one)
    (last,) = one.contested(now)
    assert all(record.goodbye and record.name == "alice.local" for record in last.answers)
    assert (one.owned, one.name) == (False, "alice-2")


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 9), st.integers(), st.floats(0, 3))
def test_hosts_of_one_network_have_no_name_twice(count, seed, spread):
    draw = random.Random(seed)
    hosts = [
        Naming(
            "alice", says(f"10.0.0.{n + 1}"), random.Random(draw.random()), draw.random() * spread
        )
        for n in range(count)
    ]
    waiting = []

    def say(host, messages, now):
        waiting.extend((host, message) for message in messages)
        while waiting:
            sender, message = waiting.pop(0)
            message = dns.parse(dns.encode(message))
            for other in hosts:
                if other is not sender:
                    waiting.extend((other, back) for back in other.heard(message, now))
            names = [host.name for host in hosts if host.owned]
            assert len(set(names)) == len(names), "one owner per name, at any time"

    for _ in range(count * 100):
        pending = [host for host in hosts if host.due is not None]
        if not pending:
            break
        host = min(pending, key=lambda it: it.due)
        say(host, host.tick(now := host.due), now)
    assert all(host.owned for host in hosts)
    names = {host.name for host in hosts}
    assert len(names) == count
    assert "alice" in names


# --- LLMNR ---


def check(address="10.0.0.5"):
    return Uniqueness("alice", address, random.Random(1), 0.0)


def reply(question, **more):
    return Message(question.number, True, question.questions, **more)


def test_a_name_that_nobody_has_is_unique_after_three_questions():
    one = check()
    asked = []
    while not one.verified:
        asked += one.tick(one.due)
    assert len(asked) == 3
    assert {message.questions for message in asked} == {(("alice", dns.ANY),)}
    assert one.due is None
    one.doubted(9.0)
    assert (one.verified, one.lost) == (False, False)


@pytest.mark.parametrize(
    ("source", "tentative", "lost"),
    [
        ("10.0.0.9", False, True),
        ("10.0.0.9", True, False),
        ("10.0.0.4", True, True),
        ("9.0.0.200", True, True),
        ("10.0.0.5", False, False),
    ],
)
def test_the_name_is_anothers_who_has_it_or_asks_from_a_smaller_address(source, tentative, lost):
    one = check()
    (asked,) = one.tick(one.due)
    one.answered(reply(replace(asked, number=asked.number ^ 1)), "10.0.0.9")
    assert not one.lost, "an answer to another question"
    one.answered(reply(asked, tentative=tentative), source)
    assert one.lost is lost


def test_its_bits_are_on_the_wire_as_the_rfc_has_them():
    doubt = Message(7, questions=(("alice", dns.A),), conflict=True)
    assert dns.encode(doubt)[2:4] == b"\x04\x00"
    assert dns.parse(dns.encode(doubt)) == doubt
    unsure = Message(7, True, (("alice", dns.ANY),), tentative=True)
    assert dns.encode(unsure, authoritative=False)[2:4] == b"\x81\x00"
    assert dns.parse(dns.encode(unsure, authoritative=False)) == unsure


# --- SSDP ---


def test_announcements_and_goodbyes_are_read_as_they_were_meant():
    alive = ssdp.parse_notice(ssdp.alive(f"{TARGET}bob", "http://10.0.0.5:1/", "key", 30))
    assert alive == ssdp.Notice(f"{TARGET}bob", "key", True, "http://10.0.0.5:1/", 30)
    gone = ssdp.parse_notice(ssdp.byebye(f"{TARGET}bob", "key"))
    assert gone == ssdp.Notice(f"{TARGET}bob", "key", alive=False)
    assert ssdp.parse_notice(ssdp.search(f"{TARGET}bob")) is None
    found = ssdp.parse_found(ssdp.found(f"{TARGET}bob", "http://10.0.0.5:1/", "key", 30))
    assert found == ssdp.Found(f"{TARGET}bob", "http://10.0.0.5:1/", "key", 30)


@given(st.binary(max_size=200), st.integers(0, 200))
def test_notices_with_damage_are_notices_or_none(more, at):
    whole = ssdp.alive(f"{TARGET}bob", "http://10.0.0.5:1/", "key")
    ssdp.parse_notice(whole[:at] + more + whole[at + 3 :])
    ssdp.parse_notice(more)


def test_who_is_here_is_forgotten_after_a_goodbye_or_the_time_it_gave():
    presence = Presence(TARGET)
    for name, age in (("bob", 30), ("carol", 60)):
        presence.heard(ssdp.Notice(TARGET + name, name, True, f"http://{name}/", age), 0.0)
    presence.heard(ssdp.Notice("upnp:rootdevice", "tv", True, "http://tv/", 9), 0.0)
    assert presence.here() == {"bob": "http://bob/", "carol": "http://carol/"}
    assert presence.due == 30
    # Bob says it again in time.
    presence.heard(ssdp.Notice(f"{TARGET}bob", "bob", True, "http://bob2/", 100), 29.0)
    presence.forget(presence.due)
    assert presence.here() == {"bob": "http://bob2/"}
    presence.heard(ssdp.Notice(f"{TARGET}bob", "bob", alive=False), 61.0)
    assert (presence.here(), presence.due) == ({}, None)


def test_no_more_are_remembered_than_there_is_room_for():
    presence = Presence(TARGET)
    for number in range(600):
        presence.heard(ssdp.Notice(f"{TARGET}a{number}", str(number), True, "http://a/", 9), 0.0)
    assert len(presence.here()) == 512
