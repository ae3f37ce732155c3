"""Ladders as text, SVG and HTML."""

from __future__ import annotations

import itertools
import json
import re
from xml.etree import ElementTree as ET

import click
import msgspec
import pytest

from lab.observe.explain.arrange import ladder
from lab.observe.explain.geometry import WIDTH, Clock, Leg, Room, along
from lab.observe.explain.html import html
from lab.observe.explain.ladder import Ladder
from lab.observe.explain.svg import svg
from lab.observe.explain.text import ladder_text
from lab.observe.explain.words import addresses, short
from tests.unit.observe.explain_support import NAMES, golden, told

PUNCH = "two-homes-udp-punch"
SVG = "{http://www.w3.org/2000/svg}"


def root_of(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314 - our own text


def test_a_punch_in_the_terminal():
    golden("explain-punch-120.txt", click.unstyle(ladder_text(ladder(told(PUNCH)), 120)))


def test_a_punch_as_a_picture():
    golden("explain-punch.svg", svg(ladder(told(PUNCH))))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("everything", [False, True])
def test_lines_fit_the_terminal(name, width, everything):
    text = click.unstyle(ladder_text(ladder(told(name), everything=everything), width))
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize("name", NAMES)
def test_no_address_is_cut_short_where_room_is_short(name):
    drawn = ladder(told(name))
    words = click.unstyle(ladder_text(drawn, 80)).split()
    shown = {word for row in drawn.rows for word in addresses(row).split()
             if row.transport in ("udp", "tcp")}  # fmt: skip
    assert shown <= set(words)
    assert {lane.outside for lane in drawn.lanes if lane.outside} <= set(words)


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_well_formed_and_needs_nothing_from_elsewhere(name):
    drawn = ladder(told(name), everything=True)
    text = svg(drawn)
    root = root_of(text)
    assert root.find(f"{SVG}title").text.startswith("alice → bob")
    assert root.find(f"{SVG}desc").text == drawn.sentence
    assert "prefers-color-scheme:dark" in text
    assert not re.search(r"href|@import|url\(|<script", text)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_drawn_outside_the_picture(name):
    root = root_of(svg(ladder(told(name))))
    height = float(root.get("height"))
    for element in root.iter(f"{SVG}rect"):
        left, width = float(element.get("x")), float(element.get("width"))
        assert left >= 0
        assert left + width <= WIDTH
        assert float(element.get("y")) + float(element.get("height")) <= height


@pytest.mark.parametrize("name", NAMES)
def test_later_is_lower(name):
    drawn = ladder(told(name), everything=True)
    clock = Clock(drawn, 100)
    times = sorted({t for row in drawn.rows for p in row.points for t in (p.at_ms, p.left_ms)})
    heights = [clock.y(time) for time in times]
    assert all(low < high for low, high in itertools.pairwise(heights))


@pytest.mark.parametrize("name", ["two-homes-ice", "two-homes-relay", "cgnat-udp-punch"])
def test_no_address_is_cut_short_in_a_picture(name):
    """What a packet is may be said in fewer words; half an address would be another one."""
    drawn = ladder(told(name))
    whole = {word for row in drawn.rows for word in f"{row.text} {addresses(row)}".split()}
    for element in root_of(svg(drawn)).iter(f"{SVG}text"):
        if "halo" in element.get("class", "") and "proven" not in element.text:
            for word in element.text.removesuffix("\N{HORIZONTAL ELLIPSIS}").split():
                if re.fullmatch(r"\d+\.\d+\.\d+\.\d+:\d+", word):
                    assert word in whole


def test_words_beside_each_other_on_slopes_do_not_take_the_same_place():
    slope = Leg(0, 0, 300, 300)
    room = Room()
    room.take(along(slope, 0.5, 100, 15, 12))
    assert not room.free(along(slope, 0.55, 100, 15, 12))
    beside = Leg(60, 0, 360, 300)
    assert room.free(along(beside, 0.5, 100, 15, 12))


def test_what_is_said_in_fewer_words():
    assert short("you are 45.0.0.2:4711") == "STUN answer"
    assert short("TURN allocate request") == "TURN allocate"
    assert short("offer from alice") == "offer"
    assert short("offer to bob \N{MULTIPLICATION SIGN}3") == "offer \N{MULTIPLICATION SIGN}3"
    assert short("probe") == "probe"


def test_the_steps_are_in_the_picture():
    root = root_of(svg(ladder(told(PUNCH))))
    balls = [e.text for e in root.iter(f"{SVG}text") if "stepink" in e.get("class", "")]
    # Four in the legend; the first is made in three places: learned, sent, received.
    assert sorted(balls) == ["1", "1", "1", "1", "2", "2", "3", "3", "4", "4"]


def test_a_page_has_every_packet_in_words():
    drawn = ladder(told(PUNCH))
    page = html(drawn)
    assert page.count("<tr>") == len(drawn.rows) + 1
    assert "<b>step 3</b> at home-a" in page
    assert not re.search(r"<script|<link|src=", page)


def test_what_a_node_is_called_cannot_break_a_picture():
    drawn = ladder(told(PUNCH))
    named = msgspec.structs.replace(drawn, sentence="<script>&", against=('"<b>',))
    assert root_of(svg(named)).find(f"{SVG}desc").text == "<script>&"
    assert "<script>" not in html(named)


def test_a_ladder_travels_as_json():
    drawn = ladder(told(PUNCH))
    there = json.loads(json.dumps(msgspec.to_builtins(drawn)))
    assert msgspec.convert(there, Ladder) == drawn


def test_what_did_not_leave_its_lane_ends_beside_it():
    whole = ladder(told(PUNCH))
    row = next(row for row in whole.rows if row.points[0].lane == "alice")
    lost = msgspec.structs.replace(row, points=row.points[:1], fate="lost", notes=(), steps=())
    text = ladder_text(msgspec.structs.replace(whole, rows=(lost,)), 120)
    (line,) = (line for line in click.unstyle(text).splitlines() if "●" in line)
    assert line.index("●") < line.index("✗")


def test_an_attempt_without_packets_is_drawn_too():
    empty = msgspec.structs.replace(ladder(told(PUNCH)), rows=(), proven_ms=None, steps=())
    assert "alice" in ladder_text(empty, 100)
    root_of(svg(empty))
