"""What stored captures of sessions are found to mean: what broke the path, and what mended it."""

from __future__ import annotations

import click
import msgspec
import pytest

from lab.observe.explain.arrange import ladder
from lab.observe.explain.epochs import Epochs
from lab.observe.explain.events import Happened
from lab.observe.explain.fates import Fate
from lab.observe.explain.html import html
from lab.observe.explain.ladder import Ladder, Mark, Note
from lab.observe.explain.story import story
from lab.observe.explain.svg import svg
from lab.observe.explain.text import ladder_text
from lab.observe.explain.words import happening
from tests.unit.observe.explain_support import capture, told

REBOOT, SAME_PORT, ROAMING = "session-reboot", "session-same-port", "session-roaming"


def test_marks_stand_between_the_packets_of_before_and_after():
    drawn = ladder(told(REBOOT))
    assert drawn.outcome == "repaired"
    assert [mark.kind for mark in drawn.marks] == ["change", "dead", "repaired"]
    assert [mark.lane for mark in drawn.marks] == ["home-a", "alice", "alice"]
    assert drawn.marks[0].text == "home-a rebooted, and its NAT's table is gone"
    cut, dead, repaired = (mark.at_ms for mark in drawn.marks)
    stream = [row for row in drawn.rows if row.text == "datagram"]
    assert {row.fate for row in stream if row.at_ms < cut} == {"arrived"}
    assert {row.fate for row in stream if cut < row.at_ms < dead} == {"dropped"}
    assert {row.fate for row in stream if row.at_ms > repaired} == {"arrived"}


def test_nothing_is_folded_across_a_mark():
    drawn = ladder(told(REBOOT))
    for row in drawn.rows:
        assert not any(row.at_ms < mark.at_ms < row.until_ms for mark in drawn.marks)


def test_a_mapping_is_new_once_the_router_has_forgotten_the_old_one():
    tale = told(REBOOT)
    (reboot,) = tale.capture.happened
    assert reboot.forgot == ("home-a",)
    made = [one for one in tale.made.mapped if one.node == "home-a" and one.protocol == "udp"]
    old = next(one for one in made if one.before)
    again = [one for one in made if not one.before and one.inside == old.inside]
    assert len(again) == 1
    assert again[0].outside.address == old.outside.address
    assert again[0].outside.port != old.outside.port
    assert again[0].stop.went_ns > reboot.began_ns


def test_the_repair_is_a_punch_of_four_steps():
    tale = told(REBOOT)
    (repair,) = tale.repairs
    assert (repair.reason, repair.by) == ("no answer", "udp-punch")
    assert {number: [node for _, node in found] for number, found in tale.steps.items()} == {
        1: ["alice", "rendezvous", "bob"],
        2: ["home-b"],
        3: ["home-a"],
        4: ["home-b"],
    }
    steps = [journey for found in tale.steps.values() for journey, _ in found]
    assert all(repair.dead_ns < one.began_ns < repair.over_ns for one in steps)


def test_each_drop_has_the_rule_that_was_in_force():
    tale = told(REBOOT)
    assert {
        one.journey.stops[-1].reason for one in tale.told if one.journey.fate is Fate.DROPPED
    } <= {"nothing unsolicited in", "the router restarts"}


def test_a_nat_that_gives_the_same_port_again_breaks_nothing():
    tale = told(SAME_PORT)
    drawn = ladder(tale)
    assert drawn.outcome == "undisturbed"
    assert [mark.kind for mark in drawn.marks] == ["change"]
    assert drawn.sentence.startswith("It held. ")
    assert "made the same mapping at home-a again" in drawn.sentence


def test_a_host_that_moves_is_followed_into_its_new_network():
    tale = told(ROAMING)
    drawn = ladder(tale)
    (repair,) = tale.repairs
    assert repair.reason == "the address has changed"
    assert [lane.name for lane in drawn.lanes][:3] == ["alice", "home", "cell"]
    moved = drawn.marks[0]
    assert moved.text == "alice moved to cell, and is 100.64.0.2 there"
    sent = [row for row in drawn.rows if row.points[0].lane == "alice" and row.text == "datagram"]
    assert [row.points[1].lane for row in sent] == ["home", "cell"]
    astray = [row for row in drawn.rows if row.fate == "vanished" and row.points[-1].lane == "home"]
    assert {note.text for row in astray for note in row.notes if note.kind == "vanished"} == {
        "the host that home passes it on to is gone"
    }


def test_both_plans_may_hold_while_a_change_is_made():
    found = capture(ROAMING)
    epochs = Epochs(found)
    (move,) = found.happened
    assert list(epochs.possible(move.began_ns - 1)) == [0]
    assert list(epochs.possible(move.began_ns)) == [0, 1]
    assert list(epochs.possible(move.ended_ns)) == [1]


def test_a_change_during_an_attempt_is_told_too():
    found = capture("symmetric-pair-udp-punch")
    middle = (found.sightings[0].at_ns + found.sightings[-1].at_ns) // 2
    forgot = Happened(
        began_ns=middle,
        ended_ns=middle + 1,
        what=(("home-a", "home-a forgot its mappings and flows"),),
        forgot=("home-a",),
    )
    before = ladder(told("symmetric-pair-udp-punch"))
    drawn = ladder(story(msgspec.structs.replace(found, happened=(forgot,))))
    assert drawn.sentence.startswith(before.sentence)
    assert drawn.sentence.endswith("after the beginning, home-a forgot its mappings and flows.")
    (mark,) = drawn.marks
    assert (mark.kind, mark.lane) == ("change", "home-a")
    # What is mapped after that is new again.
    assert len(mapped(drawn)) > len(mapped(before))
    assert mark.text in html(drawn)


def test_how_exactly_a_change_is_dated_is_said_where_packets_passed_meanwhile():
    found = capture(SAME_PORT)
    (reboot,) = found.happened

    def mark(began_ns: int, ended_ns: int, node: str = "home-a") -> Mark:
        one = msgspec.structs.replace(
            reboot, began_ns=began_ns, ended_ns=ended_ns, what=((node, "was changed"),)
        )
        drawn = ladder(story(msgspec.structs.replace(found, happened=(one,))))
        (mark,) = drawn.marks
        assert happening(mark) in html(drawn)
        assert (' span"' in svg(drawn)) == bool(mark.until_ms)
        return mark

    at = sorted(one.at_ns for one in found.sightings if one.node == "home-a")
    passed = at[len(at) // 2]
    before = max(one for one in at if one < passed)
    quiet = mark(before + 1, passed)
    assert (quiet.until_ms, happening(quiet)) == (0.0, "was changed")
    busy = mark(before + 1, passed + 1_000_000)
    span = round((passed - before - 1 + 1_000_000) / 1e6, 1)
    assert happening(busy) == f"was changed (within {span} ms from here)"
    # What passes elsewhere tells nothing of it.
    assert not mark(before + 1, passed + 1, node="stun").until_ms


def test_a_change_that_failed_is_drawn_as_one():
    found = capture(SAME_PORT)
    (reboot,) = found.happened
    tried = msgspec.structs.replace(reboot, what=(("", "a change failed"),), failed=True, forgot=())
    back = msgspec.structs.replace(reboot, began_ns=reboot.ended_ns + 1, what=(), forgot=())
    drawn = ladder(story(msgspec.structs.replace(found, happened=(tried, back))))
    assert [mark.kind for mark in drawn.marks] == ["failed"]
    assert 'class="f-failed' in svg(drawn)
    assert "a change failed" in ladder_text(drawn)
    assert "after the beginning, a change failed" in drawn.sentence


def mapped(drawn: Ladder) -> list[Note]:
    return [n for row in drawn.rows for n in row.notes if (n.lane, n.kind) == ("home-a", "mapping")]


@pytest.mark.parametrize("name", [REBOOT, SAME_PORT, ROAMING])
def test_marks_are_drawn(name):
    drawn = ladder(told(name))
    lines = click.unstyle(ladder_text(drawn, 120)).splitlines()
    picture = svg(drawn)
    for mark in drawn.marks:
        assert any(f"━━ {happening(mark)} ━" in line for line in lines)
        assert f'class="f-{mark.kind}"' in picture


def test_of_a_repair_that_was_not_seen_it_is_not_said_how():
    found = capture(REBOOT)
    seen = tuple(each for each in found.sightings if each.node == "alice")
    sentence = ladder(story(msgspec.structs.replace(found, sightings=seen))).sentence
    assert "udp-punch found another path within 574 ms. Between" in sentence
