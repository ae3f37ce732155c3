"""A ladder as one self-contained SVG picture, for light and dark."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from html import escape

from lab.observe.explain.arrows import arrows, crosses, words
from lab.observe.explain.geometry import BAND, RULER, WIDTH, Box, Clock, Lanes, Room, Scene
from lab.observe.explain.labels import Kind
from lab.observe.explain.ladder import Ladder, Lane, Mark
from lab.observe.explain.marks import Boxes, notes, steps
from lab.observe.explain.style import KINDS, SMALL, TINY, ball, box, line, sheet, text
from lab.observe.explain.words import STEPS, happening, moment, rulers, title
from lab.observe.graph.layout import text_width

_MARGIN = 32.0
_HEAD = 74.0
"""Height of a lane's card."""


def svg(ladder: Ladder) -> str:
    """`ladder` as an SVG document."""
    lanes = Lanes(ladder)
    head = list(_heading(ladder))
    cards = _MARGIN + 44 + 20 * len(_wrapped(ladder)) + (44 if ladder.steps else 0) + 14
    clock = Clock(ladder, cards + _HEAD + 30)
    foot = clock.bottom + 20
    legend = list(_legend(ladder, foot + 26))
    height = math.ceil(foot + 30 + 20 * _legend_lines(ladder) + 12)
    scene = Scene(lanes, clock, Room())
    for mark in ladder.marks:
        (x, wide), y = _label(mark, lanes), clock.y(mark.at_ms)
        scene.room.take([Box(x - wide / 2, y, x + wide / 2, y + RULER - 4)])
    boxes: Boxes = {}
    beside = [
        part for index, row in enumerate(ladder.rows) for part in notes(row, index, scene, boxes)
    ]
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0f} {height:.0f}" '
        f'width="{WIDTH:.0f}" height="{height:.0f}" class="ladder" role="img" '
        'aria-labelledby="ladder-title ladder-desc">'
    )
    parts = [
        opening,
        f'<title id="ladder-title">{escape(title(ladder))}</title>',
        f'<desc id="ladder-desc">{escape(ladder.sentence)}</desc>',
        f"<style>{sheet()}</style>",
        box(0, 0, WIDTH, height, "paper", radius=14),
        *head,
        *(part for lane in ladder.lanes for part in _rail(lane, lanes, cards, foot)),
        *_silences(clock),
        *_proven(ladder, clock),
        *_spans(ladder, clock),
        *(part for row in ladder.rows for part in arrows(row, scene)),
        *(part for row in ladder.rows for part in words(row, scene)),
        *beside,
        *(
            part
            for index, row in enumerate(ladder.rows)
            for part in (*crosses(row, scene), *steps(row, index, scene, boxes))
        ),
        *(part for mark in ladder.marks for part in _banner(mark, lanes, clock.y(mark.at_ms))),
        *(part for lane in ladder.lanes for part in _card(lane, lanes, cards)),
        *legend,
        "</svg>",
    ]
    return "\n".join(filter(None, parts)) + "\n"


# --- above ------------------------------------------------------------------


def _wrapped(ladder: Ladder) -> list[str]:
    lines = textwrap.wrap(ladder.sentence, 150)
    return [*lines, *(f"Not as predicted: {one}" for one in ladder.against)]


def _heading(ladder: Ladder) -> Iterator[str]:
    yield text(_MARGIN, _MARGIN + 16, title(ladder), 22, "bold")
    y = _MARGIN + 44
    for index, one in enumerate(_wrapped(ladder)):
        yield text(_MARGIN, y + 20 * index, one, 14, "soft")
    if ladder.steps:
        yield from _strip(ladder, y + 20 * len(_wrapped(ladder)))


def _strip(ladder: Ladder, y: float) -> Iterator[str]:
    """The four steps in words, those that were not found pale."""
    room = (WIDTH - 2 * _MARGIN - 30) / 4
    for index, (number, step) in enumerate(STEPS.items()):
        x = _MARGIN + index * (room + 10)
        absent = number not in ladder.steps
        yield f"<g{' class=' + chr(34) + 'absent' + chr(34) if absent else ''}>"
        yield box(x, y, room, 34, "card", radius=9)
        yield from ball(x + 19, y + 17, number)
        said = step.format(m=ladder.roles[0], n=ladder.roles[1])
        lines = textwrap.wrap(f"not seen here: {said}" if absent else said, 42)[:2]
        for row, one in enumerate(lines):
            yield text(x + 36, y + (21 if len(lines) == 1 else 14.5 + 13 * row), one, SMALL)
        yield "</g>"


def _card(lane: Lane, lanes: Lanes, top: float) -> Iterator[str]:
    x = lanes.x(lane.name)
    width = min(lanes.step - 12, 150.0)
    yield box(x - width / 2, top, width, _HEAD, "card", radius=9)
    yield (
        f'<path d="M{x - width / 2:.1f} {top + 9:.1f}a9 9 0 0 1 9 -9h{width - 18:.1f}a9 9 0 0 1 9 9'
        f'v16h{-width:.1f}z" class="r-{lane.role}"/>'
    )
    yield text(x, top + 17.5, lane.name, 13.5, "white bold", anchor="middle")
    facts = [lane.does or lane.role] if lane.role != "internet" else ["between them"]
    if lane.role == "router":
        yield text(x, top + 40, lane.does or "router", SMALL, "soft", anchor="middle")
        ends = (lane.outside, lane.inside) if lane.mirrored else (lane.inside, lane.outside)
        names = ("outside", "inside") if lane.mirrored else ("inside", "outside")
        for index, (name, address) in enumerate(zip(names, ends, strict=True)):
            y = top + 53.5 + 13 * index
            yield text(x - width / 2 + 9, y, name, TINY, "soft")
            yield text(x + width / 2 - 9, y, address, TINY, "mono", anchor="end")
        return
    yield text(x, top + 42, facts[0], SMALL, "soft", anchor="middle")
    yield text(x, top + 59, lane.outside, 10.5, "mono", anchor="middle")


def _rail(lane: Lane, lanes: Lanes, top: float, foot: float) -> Iterator[str]:
    x, y = lanes.x(lane.name), top + _HEAD
    if lane.role == "router":
        yield box(x - BAND / 2, y, BAND, foot - y, "band", radius=0)
        yield line(x - BAND / 2, y, x - BAND / 2, foot, "lane")
        yield line(x + BAND / 2, y, x + BAND / 2, foot, "lane")
        return
    yield line(x, y, x, foot, "lane")


def _silences(clock: Clock) -> Iterator[str]:
    for silence in clock.silences:
        y = silence.y
        yield line(_MARGIN / 2, y, WIDTH - _MARGIN / 2, y, "through absent")
        yield text(WIDTH - 16, y - 5, f"{moment(silence.milliseconds)} without news", 10, "soft",
                   anchor="end")  # fmt: skip


def _proven(ladder: Ladder, clock: Clock) -> Iterator[str]:
    for mark in rulers(ladder):
        if mark.kind == "proven":
            y = clock.y(mark.at_ms)
            yield line(14, y, WIDTH - 14, y, "proven")
            yield text(WIDTH - 16, y - 6, mark.text, 11.5, "halo bold r-peer", anchor="end")


def _spans(ladder: Ladder, clock: Clock) -> Iterator[str]:
    """The time within which something happened, where that is not known better."""
    for mark in ladder.marks:
        if mark.until_ms:
            top, bottom = clock.y(mark.at_ms), clock.y(mark.until_ms)
            yield box(14, top, WIDTH - 28, bottom - top, f"f-{mark.kind} span", radius=6)


def _banner(mark: Mark, lanes: Lanes, y: float) -> Iterator[str]:
    """A line across all lanes with words on it, and a knob in the lane that it is about."""
    middle, (x, wide) = y + RULER / 2 - 2, _label(mark, lanes)
    yield line(14, middle, WIDTH - 14, middle, f"m-{mark.kind}")
    if mark.lane:
        knob = lanes.x(mark.lane)
        yield f'<circle cx="{knob:.1f}" cy="{middle:.1f}" r="7" class="f-{mark.kind}"/>'
    yield box(x - wide / 2, middle - 12, wide, 24, f"b-{mark.kind}", radius=12)
    yield text(x, middle + 4.5, happening(mark), 12.5, f"bold t-{mark.kind}", anchor="middle")
    yield text(16, middle - 6, moment(mark.at_ms), 10.5, "halo mono soft")


def _label(mark: Mark, lanes: Lanes) -> tuple[float, float]:
    """The middle of a banner's words, and how wide they are."""
    wide = text_width(happening(mark), 12.5, bold=True) + 36
    return (WIDTH / 2 if wide > WIDTH / 2 else _beside(mark, lanes, wide)), wide


def _beside(mark: Mark, lanes: Lanes, wide: float) -> float:
    """Where the middle of a banner is that stands beside its knob, or in the picture's middle."""
    if not mark.lane:
        return WIDTH / 2
    x = lanes.x(mark.lane)
    right = x + 18 + wide / 2
    return right if right + wide / 2 < WIDTH - 14 else x - 18 - wide / 2


# --- below ------------------------------------------------------------------


def _legend_lines(ladder: Ladder) -> int:
    return 1 + len(_remarks(ladder))


def _legend(ladder: Ladder, y: float) -> Iterator[str]:
    x = _MARGIN
    for kind in dict.fromkeys(row.kind for row in ladder.rows):
        name = KINDS[Kind(kind).value][0]
        yield line(x, y - 4, x + 22, y - 4, f"leg k-{kind}")
        yield text(x + 28, y, name, SMALL)
        x += 28 + text_width(name, SMALL) + 20
    if any(point.new_source or point.new_destination for r in ladder.rows for point in r.points):
        yield line(x, y - 4, x + 22, y - 4, "inside")
        yield text(x + 28, y, "translated", SMALL)
        x += 28 + text_width("translated", SMALL) + 20
    if any(row.fate != "arrived" for row in ladder.rows):
        yield f'<path d="M{x:.1f} {y - 9:.1f}l10 10m0 -10l-10 10" class="cross"/>'
        yield text(x + 18, y, "stopped here", SMALL)
    for index, remark in enumerate(_remarks(ladder)):
        yield text(_MARGIN, y + 20 * (index + 1), remark, SMALL, "soft")


def _remarks(ladder: Ladder) -> list[str]:
    remarks = []
    if ladder.hidden:
        parts = ", ".join(f"{count} {what}" for what, count in ladder.hidden)
        remarks += textwrap.wrap(f"Not shown: {parts}.", 190)
    if ladder.lost:
        remarks += textwrap.wrap(f"Not seen: {', '.join(ladder.lost)}.", 190)
    return remarks
