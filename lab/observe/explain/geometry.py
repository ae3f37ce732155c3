"""Where things are in the picture: lanes side by side, time downwards.

Time is not to scale: long silence is cut short, and where much happens at
once, room is made for the words.  But what is later is lower, at every node,
so the order of events is exact and arrows cross where packets crossed.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lab.observe.explain.ladder import Ladder, Row
from lab.observe.explain.words import rulers

WIDTH = 1200.0
LEFT, RIGHT = 120.0, 95.0
RULER = 34.0
"""Height of a mark across all lanes."""
BAND = 46.0
"""Width of a router, which has an inside and an outside."""
NOTE_LINE, NOTE_PAD = 13.0, 6.0

_PER_MS = 0.5
_MOST = 40.0
"""Pixels that silence takes at most."""
_SILENCE_MS = 120.0
"""From here on it is said how long nothing happened."""
_START, _POINT, _END = 28.0, 5.0, 17.0
"""Room after a packet sets out, after it passes a node, and after it ended."""


@dataclass(frozen=True, slots=True)
class Silence:
    """A stretch of time in which nothing happened."""

    y: float
    milliseconds: float


@dataclass(frozen=True, slots=True)
class Leg:
    """One stretch of a packet's way, between two lanes."""

    x1: float
    y1: float
    x2: float
    y2: float


class Clock:
    """Times to heights, from `top` on."""

    def __init__(self, ladder: Ladder, top: float) -> None:
        events = sorted(_events(ladder))
        self._times: list[float] = []
        self._heights: list[float] = []
        self.silences: list[Silence] = []
        y, room = top, 0.0
        for at, need in events:
            if self._times and at == self._times[-1]:
                room = max(room, need)
                continue
            if self._times:
                gap = at - self._times[-1]
                silence = min(gap * _PER_MS, _MOST)
                if gap > _SILENCE_MS:
                    self.silences.append(Silence(y + room + silence / 2, gap))
                y += room + silence
            self._times.append(at)
            self._heights.append(y)
            room = need
        self.bottom = y + room

    def y(self, at_ms: float) -> float:
        """The height of a moment."""
        index = bisect_right(self._times, at_ms) - 1
        if index < 0:
            return self._heights[0] if self._heights else 0.0
        if index + 1 == len(self._times):
            return self._heights[index]
        before, after = self._times[index], self._times[index + 1]
        share = (at_ms - before) / (after - before)
        return self._heights[index] + share * (self._heights[index + 1] - self._heights[index])


def note_height(lines: int) -> float:
    """The height of a note's box."""
    return NOTE_LINE * lines + 2 * NOTE_PAD - 3


def _events(ladder: Ladder) -> Iterator[tuple[float, float]]:
    """Moments that something is drawn at, and how much room that takes."""
    for row in ladder.rows:
        noted = [note.lane for note in row.notes]
        for index, point in enumerate(row.points):
            boxes = noted.count(point.lane)
            room = boxes * (note_height(2) + 5) + (8 if boxes else 0)
            last = index == len(row.points) - 1
            if not index:
                yield point.at_ms, max(_START, room + 8)
            elif last:
                if point.left_ms > point.at_ms:
                    yield point.at_ms, _POINT
                yield max(point.at_ms, point.left_ms), max(_END, room + 4)
            else:
                yield point.at_ms, _POINT
                yield point.left_ms, max(_POINT, room)
    for mark in rulers(ladder):
        yield mark.at_ms, 16.0 if mark.kind == "proven" else RULER
        if mark.until_ms:
            yield mark.until_ms, _POINT


class Lanes:
    """Where each lane is."""

    def __init__(self, ladder: Ladder) -> None:
        names = [lane.name for lane in ladder.lanes]
        self.first, self.last = names[0], names[-1]
        room = WIDTH - LEFT - RIGHT
        self.step = room / max(len(names) - 1, 1)
        self._x = {name: LEFT + index * self.step for index, name in enumerate(names)}
        self._half = {
            lane.name: BAND / 2 if lane.role == "router" else 0.0 for lane in ladder.lanes
        }

    def x(self, name: str) -> float:
        """The middle of a lane."""
        return self._x[name]

    def half(self, name: str) -> float:
        """Half the width of a lane that has one."""
        return self._half[name]

    def onward(self, name: str, before: str) -> float:
        """Where an arrow that came to `name` from `before` leaves it again."""
        side = 1 if self._x[name] > self._x[before] else -1
        return self._x[name] + side * self._half[name]

    def edge(self, name: str, other: str) -> float:
        """Where an arrow between `name` and `other` touches `name`."""
        side = 1 if self._x[other] > self._x[name] else -1
        return self._x[name] + side * self._half[name]


def legs(row: Row, lanes: Lanes, clock: Clock) -> list[Leg]:
    """The arrows of a row, from node to node."""
    return [
        Leg(
            lanes.edge(before.lane, after.lane),
            clock.y(before.left_ms),
            lanes.edge(after.lane, before.lane),
            clock.y(after.at_ms),
        )
        for before, after in zip(row.points, row.points[1:], strict=False)
        if before.lane != after.lane
    ]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle with upright sides."""

    left: float
    top: float
    right: float
    bottom: float


class Room:
    """Which places are taken by words, so that others find one that is free."""

    def __init__(self) -> None:
        self._taken: dict[int, list[Box]] = defaultdict(list)
        """By the strips of the picture, from top to bottom, that they reach into."""

    def take(self, boxes: Iterable[Box]) -> None:
        """Something stands there."""
        for one in boxes:
            for strip in _strips(one):
                self._taken[strip].append(one)

    def free(self, boxes: Iterable[Box]) -> bool:
        """Whether nothing stands there."""
        return not any(
            one.left < other.right
            and one.right > other.left
            and one.top < other.bottom
            and one.bottom > other.top
            for one in boxes
            for strip in _strips(one)
            for other in self._taken.get(strip, ())
        )


_STRIP = 40.0


def _strips(box: Box) -> range:
    return range(int(box.top // _STRIP), int(box.bottom // _STRIP) + 1)


_SLICE = 14.0


def along(leg: Leg, share: float, width: float, above: float, below: float) -> list[Box]:
    """What words take of the picture that stand along a leg, turned with it.

    `share` is where on the leg their middle is, `above` and `below` how far they
    reach from it.  Upright boxes of some letters each: one around all of them
    would take the room of their neighbours, too.
    """
    angle = math.atan2(leg.y2 - leg.y1, leg.x2 - leg.x1)
    right, down = math.cos(angle), math.sin(angle)
    x, y = leg.x1 + share * (leg.x2 - leg.x1), leg.y1 + share * (leg.y2 - leg.y1)
    count = max(math.ceil(width / _SLICE), 1)
    found = []
    for index in range(count):
        corners = [
            (x + far * right - off * down, y + far * down + off * right)
            for far in (width * (index / count - 0.5), width * ((index + 1) / count - 0.5))
            for off in (-above, below)
        ]
        across, downwards = zip(*corners, strict=True)
        found.append(Box(min(across), min(downwards), max(across), max(downwards)))
    return found


@dataclass(frozen=True, slots=True)
class Scene:
    """Where everything goes."""

    lanes: Lanes
    clock: Clock
    room: Room
