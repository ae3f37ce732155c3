"""A ladder as one self-contained SVG picture, for light and dark."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from html import escape

from lab.observe.explain.geometry import (
    BAND,
    NOTE_LINE,
    NOTE_PAD,
    WIDTH,
    Clock,
    Lanes,
    Leg,
    Room,
    legs,
    note_height,
)
from lab.observe.explain.labels import Kind
from lab.observe.explain.ladder import Ladder, Lane, Note, Point, Row
from lab.observe.explain.style import KINDS, box, line, sheet, text
from lab.observe.explain.words import STEPS, account, moment, named, title
from lab.observe.graph.layout import text_width

_MARGIN = 32.0
_HEAD = 74.0
"""Height of a lane's card."""
_SMALL, _TINY = 11.0, 9.5


def svg(ladder: Ladder) -> str:
    """`ladder` as an SVG document."""
    lanes = Lanes(ladder)
    head = list(_heading(ladder))
    cards = _MARGIN + 44 + 20 * len(_wrapped(ladder)) + (44 if ladder.steps else 0) + 14
    clock = Clock(ladder, cards + _HEAD + 30)
    foot = clock.bottom + 20
    legend = list(_legend(ladder, foot + 26))
    height = foot + 30 + 20 * _legend_lines(ladder) + 12
    room = Room()
    notes = [part for row in ladder.rows for part in _notes(row, lanes, clock, room)]
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
        *(part for row in ladder.rows for part in _arrows(row, lanes, clock)),
        *(part for row in ladder.rows for part in _words(row, lanes, clock, room)),
        *notes,
        *(part for row in ladder.rows for part in _marks(row, lanes, clock)),
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
    for index, (number, words) in enumerate(STEPS.items()):
        x = _MARGIN + index * (room + 10)
        absent = number not in ladder.steps
        yield f"<g{' class=' + chr(34) + 'absent' + chr(34) if absent else ''}>"
        yield box(x, y, room, 34, "card", radius=9)
        yield from _ball(x + 19, y + 17, number)
        said = words.format(m=ladder.local, n=ladder.remote)
        lines = textwrap.wrap(said, 40)[:2]
        for row, one in enumerate(lines):
            yield text(x + 36, y + (21 if len(lines) == 1 else 14.5 + 13 * row), one, _SMALL)
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
        yield text(x, top + 40, lane.does or "router", _SMALL, "soft", anchor="middle")
        ends = (lane.outside, lane.inside) if lane.mirrored else (lane.inside, lane.outside)
        names = ("outside", "inside") if lane.mirrored else ("inside", "outside")
        for index, (name, address) in enumerate(zip(names, ends, strict=True)):
            y = top + 53.5 + 13 * index
            yield text(x - width / 2 + 9, y, name, _TINY, "soft")
            yield text(x + width / 2 - 9, y, address, _TINY, "mono", anchor="end")
        return
    yield text(x, top + 42, facts[0], _SMALL, "soft", anchor="middle")
    yield text(x, top + 59, lane.outside, 10.5, "mono", anchor="middle")


def _rail(lane: Lane, lanes: Lanes, top: float, foot: float) -> Iterator[str]:
    x, y = lanes.x(lane.name), top + _HEAD
    if lane.role == "router":
        yield box(x - BAND / 2, y, BAND, foot - y, "band", radius=0)
        yield line(x - BAND / 2, y, x - BAND / 2, foot, "lane")
        yield line(x + BAND / 2, y, x + BAND / 2, foot, "lane")
        return
    yield line(x, y, x, foot, "lane")


# --- packets ----------------------------------------------------------------


def _arrows(row: Row, lanes: Lanes, clock: Clock) -> Iterator[str]:
    found = legs(row, lanes, clock)
    faint = ' class="faint"' if row.fate == "vanished" else ""
    yield f"<g{faint}><title>{escape(account(row))}</title>"
    if not found:
        # It went no further than where it was sent.
        found = [_stub(row, lanes, clock)]
    for leg in found:
        yield line(leg.x1, leg.y1, leg.x2, leg.y2, f"leg k-{row.kind}")
    for point in row.points[1:-1]:
        yield from _through(row, point, lanes, clock)
    last = found[-1]
    if row.fate == "arrived":
        yield _tip(last, row.kind)
    yield (
        f'<circle cx="{found[0].x1:.1f}" cy="{found[0].y1:.1f}" r="2.6" class="t-{row.kind}"/></g>'
    )


def _stub(row: Row, lanes: Lanes, clock: Clock) -> Leg:
    """A short stroke outward, for what did not leave its lane."""
    lane, y = row.points[0].lane, clock.y(row.at_ms)
    x, way = lanes.x(lane), 1 if lanes.x(lane) < WIDTH / 2 else -1
    return Leg(x, y, x + way * 40, y)


def _through(row: Row, point: Point, lanes: Lanes, clock: Clock) -> Iterator[str]:
    """What a router does to a packet between its two edges."""
    index = row.points.index(point)
    before, after = row.points[index - 1].lane, row.points[index + 1].lane
    changed = point.new_source or point.new_destination
    yield line(
        lanes.edge(point.lane, before),
        clock.y(point.at_ms),
        lanes.edge(point.lane, after),
        clock.y(point.left_ms),
        "inside" if changed else f"leg k-{row.kind}",
    )


def _tip(leg: Leg, kind: str) -> str:
    angle = math.atan2(leg.y2 - leg.y1, leg.x2 - leg.x1)
    ends = (
        (leg.x2 + 10 * math.cos(angle + turn), leg.y2 + 10 * math.sin(angle + turn))
        for turn in (2.72, -2.72)
    )
    corners = "".join(f"L{x:.1f} {y:.1f}" for x, y in ends)
    return f'<path d="M{leg.x2:.1f} {leg.y2:.1f}{corners}z" class="t-{kind}"/>'


def _words(row: Row, lanes: Lanes, clock: Clock, room: Room) -> Iterator[str]:
    """What the packet is, along its longest stretch; addresses along each where they are new."""
    found = legs(row, lanes, clock) or [_stub(row, lanes, clock)]
    name = max(range(len(found)), key=lambda index: abs(found[index].x2 - found[index].x1))
    words = named(row)
    for index, leg in enumerate(found):
        above = words if index == name else ""
        yield from _along(leg, above, _addresses(row, index), row.kind, room)
    yield text(16, clock.y(row.at_ms) + 4, moment(row.at_ms), 10.5, "mono soft")


def _addresses(row: Row, index: int) -> str:
    """The addresses that are new on a stretch."""
    point = row.points[index]
    if index == 0:
        return f"to {point.destination}" if row.transport in ("udp", "tcp") else ""
    parts = (
        f"from {point.new_source}" if point.new_source else "",
        f"to {point.new_destination}" if point.new_destination else "",
    )
    return " ".join(filter(None, parts))


def _along(leg: Leg, above: str, below: str, kind: str, room: Room) -> Iterator[str]:
    """Words along an arrow, never upside down, where none are yet if there is such a place."""
    if not (above or below):
        return
    x1, y1, x2, y2 = (
        (leg.x1, leg.y1, leg.x2, leg.y2) if leg.x1 < leg.x2 else (leg.x2, leg.y2, leg.x1, leg.y1)
    )
    angle = math.atan2(y2 - y1, x2 - x1)
    width = max(text_width(above, 12, bold=True), text_width(below, _TINY, mono=True))
    wide, rise = width * math.cos(angle), width * abs(math.sin(angle))
    up, down = (15.0 if above else 0.0), (12.0 if below else 0.0)

    def place(share: float) -> tuple[float, float, float, float]:
        x, y = x1 + share * (x2 - x1), y1 + share * (y2 - y1)
        return x - wide / 2, y - up - rise / 2, wide, up + down + rise

    reach = abs(x2 - x1) or 1.0
    fitting = [share for share in _SHARES if abs(share - 0.5) <= max(0.5 - wide / 2 / reach, 0)]
    share = next((one for one in fitting if room.free(*place(one))), 0.5)
    room.take(*place(share))
    x, y = x1 + share * (x2 - x1), y1 + share * (y2 - y1)
    for words, size, style, off in (
        (above, 12.0, f"halo bold t-{kind}", -5.5),
        (below, _TINY, "halo mono soft", 11.5),
    ):
        if words:
            yield text(
                x - off * math.sin(angle), y + off * math.cos(angle), words, size, style,
                anchor="middle", turn=math.degrees(angle),
            )  # fmt: skip


_SHARES = (0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74, 0.18, 0.82)
"""Where along an arrow its words may be, best first."""


# --- notes ------------------------------------------------------------------


def _notes(row: Row, lanes: Lanes, clock: Clock, room: Room) -> Iterator[str]:
    for point in row.points:
        y = clock.y(point.left_ms) + 7
        for note in row.notes:
            if note.lane == point.lane:
                yield from _note(note, lanes.x(point.lane), y, room)
                y += note_height(2) + 5


_LOOKS = {
    "mapping": ("map", "new mapping"),
    "mapped-before": ("map", "mapping of before"),
    "opening": ("open", "way in opened"),
    "dropped": ("bad", "dropped"),
    "refused": ("bad", "refused"),
    "lost": ("bad", "lost"),
    "vanished": ("bad", "no way on"),
}


def _note(note: Note, x: float, y: float, room: Room) -> Iterator[str]:
    look, head = _LOOKS[note.kind]
    body = note.text
    if note.kind == "mapping":
        body, _, lifetime = note.text.partition(", ")
        head += f" {lifetime}" if lifetime else ""
        body = body.replace(" is ", " ⇄ ").removesuffix(" outside")
    elif note.kind == "opening":
        remote, _, own = note.text.partition(" may now answer to ")
        body = f"{remote} → {own}"
    mono = note.kind in ("mapping", "mapped-before", "opening")
    width = 18 + max(
        text_width(head, 10, bold=True),
        text_width(body, _TINY, mono=mono),
    )
    left = min(max(x - width / 2, 8), WIDTH - 8 - width)
    yield f"<g><title>{escape(f'{note.text} {note.rule}'.strip())}</title>"
    room.take(left, y, width, note_height(2))
    yield box(left, y, width, note_height(2), look, radius=7)
    yield text(left + width / 2, y + NOTE_PAD + 7.5, head, 10, f"bold {look}ink", anchor="middle")
    style = "mono" if mono else ""
    yield text(left + width / 2, y + NOTE_PAD + 7 + NOTE_LINE, body, _TINY, style, anchor="middle")
    yield "</g>"


def _marks(row: Row, lanes: Lanes, clock: Clock) -> Iterator[str]:
    """Crosses where packets ended, and the steps of the punch."""
    found = legs(row, lanes, clock) or [_stub(row, lanes, clock)]
    if row.fate != "arrived":
        last = found[-1]
        x, y = last.x2, last.y2
        yield (
            f'<path d="M{x - 6:.1f} {y - 6:.1f}l12 12M{x + 6:.1f} {y - 6:.1f}l-12 12" '
            'class="cross"/>'
        )
    for number, lane in row.steps:
        point = next((one for one in row.points if one.lane == lane), row.points[-1])
        y = clock.y(point.at_ms if point is row.points[-1] else point.left_ms)
        outer = {lanes.first: -21.0, lanes.last: 21.0}.get(lane)
        # Beside the picture at its sides, above the arrow in its middle.
        yield from _ball(lanes.x(lane) + (outer or 0.0), y if outer else y - 17, number)


def _ball(x: float, y: float, number: int) -> Iterator[str]:
    yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="11.5" class="step"/>'
    yield text(x, y + 4.8, str(number), 13.5, "bold stepink", anchor="middle")


def _silences(clock: Clock) -> Iterator[str]:
    for silence in clock.silences:
        y = silence.y
        yield line(_MARGIN / 2, y, WIDTH - _MARGIN / 2, y, "through absent")
        yield text(WIDTH - 16, y - 5, f"{moment(silence.milliseconds)} of silence", 10, "soft",
                   anchor="end")  # fmt: skip


def _proven(ladder: Ladder, clock: Clock) -> Iterator[str]:
    if ladder.proven_ms is None:
        return
    y = clock.y(ladder.proven_ms)
    yield line(14, y, WIDTH - 14, y, "proven")
    yield text(
        WIDTH - 16, y - 6, f"path proven after {moment(ladder.proven_ms)}", 11.5,
        "halo bold r-peer", anchor="end",
    )  # fmt: skip


# --- below ------------------------------------------------------------------


def _legend_lines(ladder: Ladder) -> int:
    return 1 + len(_remarks(ladder))


def _legend(ladder: Ladder, y: float) -> Iterator[str]:
    x = _MARGIN
    for kind in dict.fromkeys(row.kind for row in ladder.rows):
        name = KINDS[Kind(kind).value][0]
        yield line(x, y - 4, x + 22, y - 4, f"leg k-{kind}")
        yield text(x + 28, y, name, _SMALL)
        x += 28 + text_width(name, _SMALL) + 20
    yield line(x, y - 4, x + 22, y - 4, "inside")
    yield text(x + 28, y, "translated", _SMALL)
    x += 28 + text_width("translated", _SMALL) + 20
    yield f'<path d="M{x:.1f} {y - 9:.1f}l10 10m0 -10l-10 10" class="cross"/>'
    yield text(x + 18, y, "stopped here", _SMALL)
    for index, remark in enumerate(_remarks(ladder)):
        yield text(_MARGIN, y + 20 * (index + 1), remark, _SMALL, "soft")


def _remarks(ladder: Ladder) -> list[str]:
    remarks = []
    if ladder.hidden:
        parts = ", ".join(f"{count} {what}" for what, count in ladder.hidden)
        remarks += textwrap.wrap(f"Not shown: {parts}.", 190)
    if ladder.lost:
        remarks += textwrap.wrap(f"Not seen: {', '.join(ladder.lost)}.", 190)
    return remarks
