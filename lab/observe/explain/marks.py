"""What stands beside arrows: notes about mappings and drops, and the steps of the punch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from textwrap import shorten

from lab.observe.explain.geometry import NOTE_LINE, NOTE_PAD, WIDTH, Box, Room, Scene, note_height
from lab.observe.explain.ladder import Note, Row
from lab.observe.explain.style import TINY, ball, box, text
from lab.observe.graph.layout import text_width

Boxes = dict[tuple[int, str], tuple[float, float]]
"""Where the last note of a row and lane stands: its left edge and its top."""


def notes(row: Row, index: int, scene: Scene, boxes: Boxes) -> Iterator[str]:
    for point in row.points:
        y = scene.clock.y(point.left_ms) + 7
        for note in row.notes:
            if note.lane == point.lane:
                left, part = _note(note, scene.lanes.x(point.lane), y, scene.room)
                boxes[index, note.lane] = (left, y)
                yield part
                y += note_height(2) + 5


_LOOKS = {
    "mapping": ("map", "new mapping"),
    "mapped-before": ("map", "mapping of before"),
    "opening": ("open", "way in opened"),
    "dropped": ("bad", "dropped"),
    "refused": ("bad", "refused"),
    "lost": ("bad", "lost"),
    "under-way": ("map", "on its way"),
    "vanished": ("bad", "no way on"),
    "unseen": ("bad", "not seen"),
}


_LOST = re.compile(r"^lost (on the link \S+?),?( .*)?$")
_LONGEST = 54
"""Letters of a note's second line; the tooltip has all of it."""


def _note(note: Note, x: float, y: float, room: Room) -> tuple[float, str]:
    """A note's left edge, and the note."""
    look, head = _LOOKS[note.kind]
    body = note.text
    if note.kind in ("mapping", "mapped-before"):
        body, _, lifetime = note.text.partition(", ")
        head += f" {lifetime}" if lifetime else ""
        body = body.replace(" is ", " ⇄ ").removesuffix(" outside")
    elif note.kind == "opening":
        remote, _, own = note.text.partition(" may now answer to ")
        body = f"{remote} → {own}"
    elif found := _LOST.match(note.text):
        how = found[2] or ""
        # How a link loses stands above; what has become of it belongs to its name.
        cut = "which" in how
        head, body = ("lost", note.text[5:]) if cut else (f"lost{how}", found[1])
    mono = note.kind in ("mapping", "mapped-before", "opening")
    body = body if mono else shorten(body, _LONGEST, placeholder="…")
    width = 18 + max(
        text_width(head, 10, bold=True),
        text_width(body, TINY, mono=mono),
    )
    left = min(max(x - width / 2, 8), WIDTH - 8 - width)
    room.take([Box(left, y, left + width, y + note_height(2))])
    middle, style = left + width / 2, "mono" if mono else ""
    parts = (
        f"<g><title>{escape(f'{note.text} {note.rule}'.strip())}</title>",
        box(left, y, width, note_height(2), look, radius=7),
        text(middle, y + NOTE_PAD + 7.5, head, 10, f"bold {look}ink", anchor="middle"),
        text(middle, y + NOTE_PAD + 7 + NOTE_LINE, body, TINY, style, anchor="middle"),
        "</g>",
    )
    return left, "".join(parts)


def steps(row: Row, index: int, scene: Scene, boxes: Boxes) -> Iterator[str]:
    """The steps of the punch: beside the picture, beside a note, or above the arrow."""
    for number, lane in row.steps:
        point = next((one for one in row.points if one.lane == lane), row.points[-1])
        y = scene.clock.y(point.at_ms if point is row.points[-1] else point.left_ms)
        outer = {scene.lanes.first: -21.0, scene.lanes.last: 21.0}.get(lane)
        if (index, lane) in boxes:
            left, top = boxes[index, lane]
            yield from ball(left - 15, top + note_height(2) / 2, number)
        elif outer:
            yield from ball(scene.lanes.x(lane) + outer, y, number)
        else:
            yield from ball(scene.lanes.x(lane), y - 17, number)
