"""The arrows of packets, their words, and crosses where they end."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape

from lab.observe.explain.geometry import WIDTH, Box, Leg, Room, Scene, along, legs
from lab.observe.explain.ladder import Point, Row
from lab.observe.explain.style import TINY, line, text
from lab.observe.explain.words import account, counted, moment, named, short
from lab.observe.graph.layout import text_width


def arrows(row: Row, scene: Scene) -> Iterator[str]:
    found = legs(row, scene.lanes, scene.clock)
    faint = ' class="faint"' if row.fate == "vanished" else ""
    yield f"<g{faint}><title>{escape(account(row))}</title>"
    if not found:
        # It went no further than where it was sent.
        found = [_stub(row, scene)]
    for leg in found:
        yield line(leg.x1, leg.y1, leg.x2, leg.y2, f"leg k-{row.kind}")
    for point in row.points[1:-1]:
        yield from _through(row, point, scene)
    last = found[-1]
    if row.fate == "arrived":
        yield _tip(last, row.kind)
    elif (end := _end(row, scene)) != (last.x2, last.y2):
        style = "inside" if row.points[-1].new_source else f"leg k-{row.kind}"
        yield line(last.x2, last.y2, *end, style)
    yield (
        f'<circle cx="{found[0].x1:.1f}" cy="{found[0].y1:.1f}" r="2.6" class="t-{row.kind}"/></g>'
    )


def _stub(row: Row, scene: Scene) -> Leg:
    """A stroke outward with room for its words, for what did not leave its lane."""
    lane, y = row.points[0].lane, scene.clock.y(row.at_ms)
    x, way = scene.lanes.x(lane), 1 if scene.lanes.x(lane) < WIDTH / 2 else -1
    length = min(text_width(counted(row), 12, bold=True) + 30, 0.8 * scene.lanes.step)
    return Leg(x, y, x + way * length, y)


def _end(row: Row, scene: Scene) -> tuple[float, float]:
    """Where a packet ended that did not arrive.

    That is where it came in, but on the far side of a router that it left
    again, and in the middle of one that has a translator in which it ended.
    """
    last = (legs(row, scene.lanes, scene.clock) or [_stub(row, scene)])[-1]
    point = row.points[-1]
    if len(row.points) < 2 or point.left_ms <= point.at_ms or not scene.lanes.half(point.lane):
        return last.x2, last.y2
    if row.fate in ("lost", "under-way"):
        x = scene.lanes.onward(point.lane, row.points[-2].lane)
    else:
        x = scene.lanes.x(point.lane)
    return x, scene.clock.y(point.left_ms)


def _through(row: Row, point: Point, scene: Scene) -> Iterator[str]:
    """What a router does to a packet between its two edges."""
    index = row.points.index(point)
    before, after = row.points[index - 1].lane, row.points[index + 1].lane
    changed = point.new_source or point.new_destination
    yield line(
        scene.lanes.edge(point.lane, before),
        scene.clock.y(point.at_ms),
        scene.lanes.edge(point.lane, after),
        scene.clock.y(point.left_ms),
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


_BAND_AND_NOTES = 70.0
"""How much of an arrow between neighbours notes may cover."""


def words(row: Row, scene: Scene) -> Iterator[str]:
    """What the packet is, along its longest stretch; addresses along each where they are new."""
    found = legs(row, scene.lanes, scene.clock) or [_stub(row, scene)]
    name = _named(row, found, scene.room)
    room = abs(found[name].x2 - found[name].x1) - _BAND_AND_NOTES
    said = named(row) if text_width(named(row), 12, bold=True) < room else counted(row)
    for index, leg in enumerate(found):
        above = said if index == name else ""
        yield from _along(leg, above, _addresses(row, index), row.kind, scene.room)
    yield text(16, scene.clock.y(row.at_ms) + 4, moment(row.at_ms), 10.5, "mono soft")


def _named(row: Row, found: list[Leg], room: Room) -> int:
    """The stretch that says what the packet is: the longest, or the longest with a free place."""
    longest = sorted(range(len(found)), key=lambda index: -abs(found[index].x2 - found[index].x1))
    for said in (counted(row), short(counted(row))):
        for index in longest:
            leg = _rightwards(found[index])
            fits = text_width(said, 12, bold=True) <= math.hypot(leg.x2 - leg.x1, leg.y2 - leg.y1)
            if fits and _share(leg, said, "", room) is not None:
                return index
    return longest[0]


def _rightwards(leg: Leg) -> Leg:
    return leg if leg.x1 < leg.x2 else Leg(leg.x2, leg.y2, leg.x1, leg.y1)


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
    """Words along an arrow, never upside down, where none are yet if there is such a place.

    Where there is no place for both lines the lower one goes: the tooltip has
    the addresses too.
    """
    rightwards = _rightwards(leg)
    x1, y1, x2, y2 = rightwards.x1, rightwards.y1, rightwards.x2, rightwards.y2
    reach = math.hypot(x2 - x1, y2 - y1)
    above = _fitting(above, reach)
    if text_width(below, TINY, mono=True) > reach:
        # Where it goes says more than where it comes from.
        below = below[below.rfind("to ") :] if " to " in below else ""
        below = "" if text_width(below, TINY, mono=True) > reach else below
    tries = [
        words
        for said in dict.fromkeys((above, short(above)))
        for words in ((said, below), (said, ""))
        if any(words)
    ]
    if not tries:
        return
    found = ((_share(rightwards, *words, room), words) for words in tries)
    share, words = next((one for one in found if one[0] is not None), (None, tries[-1]))
    if share is None:
        if not above:
            return
        share = 0.5
    room.take(_places(rightwards, *words, share))
    angle = math.atan2(y2 - y1, x2 - x1)
    x, y = x1 + share * (x2 - x1), y1 + share * (y2 - y1)
    for said, size, style, off in (
        (words[0], 12.0, f"halo bold t-{kind}", -5.5),
        (words[1], TINY, "halo mono soft", 11.5),
    ):
        if said:
            yield text(
                x - off * math.sin(angle), y + off * math.cos(angle), said, size, style,
                anchor="middle", turn=math.degrees(angle),
            )  # fmt: skip


def _fitting(said: str, reach: float) -> str:
    """`said` as far as an arrow has room for it: without what is in brackets, or cut short."""
    for shorter in (said, said.partition(" (")[0], short(said.partition(" (")[0])):
        if text_width(shorter, 12, bold=True) <= reach:
            return shorter
    said = short(said.partition(" (")[0])
    while len(said) > 4 and text_width(said, 12, bold=True) > reach:
        said = said.rstrip("\N{HORIZONTAL ELLIPSIS}")[:-1] + "\N{HORIZONTAL ELLIPSIS}"
    return said


def _share(leg: Leg, above: str, below: str, room: Room) -> float | None:
    """Where along an arrow to the right there is a free place for words; None if nowhere."""
    reach = abs(leg.x2 - leg.x1) or 1.0
    angle = math.atan2(leg.y2 - leg.y1, leg.x2 - leg.x1)
    width = max(text_width(above, 12, bold=True), text_width(below, TINY, mono=True))
    wide = width * math.cos(angle)
    most = max(0.5 - wide / 2 / reach, 0.32 if above else 0.0)
    for share in _SHARES:
        if abs(share - 0.5) <= most and room.free(_places(leg, above, below, share)):
            return share
    return None


def _places(leg: Leg, above: str, below: str, share: float) -> list[Box]:
    """What words take at a place of an arrow."""
    width = max(text_width(above, 12, bold=True), text_width(below, TINY, mono=True))
    return along(leg, share, width, 15.0 if above else 0.0, 12.0 if below else 0.0)


_SHARES = (0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74, 0.18, 0.82)
"""Where along an arrow its words may be, best first."""


def crosses(row: Row, scene: Scene) -> Iterator[str]:
    """A cross where the packet ended, if it did not arrive."""
    if row.fate != "arrived":
        x, y = _end(row, scene)
        yield (
            f'<path d="M{x - 6:.1f} {y - 6:.1f}l12 12M{x + 6:.1f} {y - 6:.1f}l-12 12" '
            'class="cross"/>'
        )
