"""A ladder for the terminal: lanes side by side, a line for each packet, notes below it."""

from __future__ import annotations

import itertools
import textwrap
from collections import deque
from collections.abc import Iterator

import click

from lab.observe.explain.labels import Kind
from lab.observe.explain.ladder import Ladder, Lane, Mark, Note, Row
from lab.observe.explain.words import (
    STEPS,
    addresses,
    counted,
    happening,
    moment,
    named,
    rulers,
    short,
    title,
)

LEAST = 80
_TIME = 10
_WIDEST = 26
"""Cells for a lane: more only makes lines longer."""
_COLOURS = {
    Kind.PROBE: "green",
    Kind.CONNECTION: "green",
    Kind.SESSION: "cyan",
    Kind.STUN: "blue",
    Kind.SIGNAL: "magenta",
    Kind.RELAY: "yellow",
    Kind.PORTMAP: "cyan",
    Kind.WEB: "yellow",
    Kind.ERROR: "red",
    Kind.OTHER: "white",
    Kind.CHORE: "bright_black",
}
_ROLES = {"peer": "green", "router": "blue", "server": "yellow", "internet": "cyan"}
_SIGNS = {
    "mapping": ("+", "magenta"),
    "mapped-before": ("=", "magenta"),
    "opening": ("+", "cyan"),
    "dropped": ("✗", "red"),
    "refused": ("✗", "red"),
    "lost": ("✗", "red"),
    "vanished": ("✗", "red"),
    "unseen": ("?", "red"),
    "under-way": ("…", "yellow"),
}
_RULERS = {
    "proven": "green",
    "change": "yellow",
    "failed": "red",
    "dead": "red",
    "repaired": "green",
}
_BALLS = " ①②③④"


class Line:
    """A line of the terminal, cell by cell."""

    def __init__(self, width: int) -> None:
        self._cells = [" "] * width
        self._styles: list[tuple[str, bool]] = [("", False)] * width

    def put(self, at: int, text: str, colour: str = "", *, bold: bool = False) -> None:
        """Write `text` from cell `at` on; what does not fit is cut off."""
        for offset, char in enumerate(text):
            if 0 <= at + offset < len(self._cells):
                self._cells[at + offset] = char
                self._styles[at + offset] = (colour, bold)

    def __str__(self) -> str:
        end = len("".join(self._cells).rstrip())
        parts: list[tuple[tuple[str, bool], str]] = []
        for style, char in zip(self._styles[:end], self._cells[:end], strict=True):
            if parts and parts[-1][0] == style:
                parts[-1] = (style, parts[-1][1] + char)
            else:
                parts.append((style, char))
        return "".join(
            click.style(text, fg=colour or None, bold=bold or None) if colour or bold else text
            for (colour, bold), text in parts
        )


def ladder_text(ladder: Ladder, width: int = 120) -> str:
    """`ladder` in lines of at most `width` cells, with colours as ANSI sequences."""
    width = max(LEAST, min(width, _TIME + 2 + _WIDEST * len(ladder.lanes)))
    page = _Page(ladder, width)
    lines = [
        click.style(title(ladder), bold=True),
        *textwrap.wrap(ladder.sentence, width),
        *(click.style(f"not as predicted: {one}", fg="yellow") for one in ladder.against),
        *_steps(ladder),
        "",
        *page.head(),
    ]
    across = deque(rulers(ladder))
    for row in ladder.rows:
        while across and row.at_ms > across[0].at_ms:
            lines += page.ruler(across.popleft())
        lines += page.row(row)
    for mark in across:
        lines += page.ruler(mark)
    if ladder.hidden:
        parts = ", ".join(f"{count} {what}" for what, count in ladder.hidden)
        lines += ["", *textwrap.wrap(f"not shown (--all shows it): {parts}", width)]
    if ladder.lost:
        lines += textwrap.wrap(f"not seen: {', '.join(ladder.lost)}", width)
    return "\n".join(lines) + "\n"


def _steps(ladder: Ladder) -> Iterator[str]:
    for number in ladder.steps:
        said = STEPS[number].format(m=ladder.roles[0], n=ladder.roles[1])
        yield f"{click.style(_BALLS[number], fg='yellow', bold=True)} {said}"


class _Page:
    """Where lanes are on lines of one width."""

    def __init__(self, ladder: Ladder, width: int) -> None:
        self._lanes = ladder.lanes
        self._width = width
        count = len(ladder.lanes)
        self._step = (width - _TIME - 2) // count
        self._column = {
            lane.name: _TIME + self._step // 2 + index * self._step
            for index, lane in enumerate(ladder.lanes)
        }

    def head(self) -> Iterator[str]:
        """The names of lanes and what is known of them."""
        for part in range(4):
            texts = [_about(lane)[part] for lane in self._lanes]
            # Where there is no room for all side by side, every other one is a line lower.
            close = max(map(len, texts)) >= self._step
            for turn in (0, 1) if close else (None,):
                line = Line(self._width)
                for index, (lane, text) in enumerate(zip(self._lanes, texts, strict=True)):
                    if turn in (None, index % 2):
                        at = self._column[lane.name] - len(text) // 2
                        line.put(
                            min(at, self._width - len(text)),
                            text,
                            _ROLES[lane.role] if part == 0 else "bright_black",
                            bold=part == 0,
                        )
                if str(line):
                    yield str(line)

    def ruler(self, mark: Mark) -> Iterator[str]:
        """The line at which something happened that is no packet."""
        if mark.kind == "proven":
            words = f"── {mark.text} "
        else:
            words = f"{moment(mark.at_ms).rjust(_TIME - 2)} ━━ {happening(mark)} "
        colour = _RULERS[mark.kind]
        bar = "─" if mark.kind == "proven" else "━"
        first, *more = textwrap.wrap(words, self._width - 2, subsequent_indent=" " * (_TIME + 2))
        yield click.style(f"{first} ".ljust(self._width, bar), fg=colour, bold=bar == "━" or None)
        yield from (click.style(line, fg=colour, bold=True) for line in more)

    def row(self, row: Row) -> Iterator[str]:
        """A packet's line, its addresses, and what happened to it."""
        yield str(self._arrow(row))
        if row.transport in ("udp", "tcp"):
            columns = [self._column[point.lane] for point in row.points]
            right = columns[-1] >= columns[0]
            said = addresses(row)
            # Cut short, an address would be another one.
            parts = [said] if len(said) <= self._width else said.replace("→", "\n→").split("\n")
            for part in parts:
                yield self._beside(columns[0], part.strip(), "bright_black", right=right)
        for note in row.notes:
            yield from self._note(note)

    def _empty(self) -> Line:
        line = Line(self._width)
        for lane in self._lanes:
            line.put(self._column[lane.name], "║" if lane.role == "router" else "│", "bright_black")
        return line

    def _arrow(self, row: Row) -> Line:
        line, colour = self._empty(), _COLOURS[Kind(row.kind)]
        line.put(0, moment(row.at_ms).rjust(_TIME - 2), "bright_black")
        columns = self._columns(row)
        first, last = columns[0], columns[-1]
        way = 1 if last >= first else -1
        for before, after in itertools.pairwise(columns):
            low, high = sorted((before, after))
            line.put(low, "─" * (high - low + 1), colour)
        line.put(first, "●", colour)
        for point, column in zip(row.points[1:-1], columns[1:-1], strict=True):
            changed = point.new_source or point.new_destination
            line.put(column, "◆" if changed else "┼", "magenta" if changed else colour, bold=True)
        if row.fate == "arrived":
            line.put(last, "▶" if way > 0 else "◀", colour)
        else:
            line.put(last, "✗", "red", bold=True)
        self._words(line, row, columns, colour)
        for number, lane in row.steps:
            column = self._column[lane]
            line.put(column + (way if column == last else -way), _BALLS[number], "yellow",
                     bold=True)  # fmt: skip
        return line

    def _columns(self, row: Row) -> list[int]:
        """Where the row's points are; what did not leave its lane has an end beside it."""
        columns = [self._column[point.lane] for point in row.points]
        if len(columns) == 1:
            inward = 1 if columns[0] < self._width / 2 else -1
            columns.append(columns[0] + inward * (self._step * 3 // 4))
        return columns

    def _words(self, line: Line, row: Row, columns: list[int], colour: str) -> None:
        """The packet's name on its longest stretch, or beside it where there is no room."""
        words = f" {named(row)} "
        pairs = list(itertools.pairwise(columns)) or [(columns[0], columns[0])]
        before, after = max(pairs, key=lambda pair: abs(pair[0] - pair[1]))
        low, high = sorted((before, after))
        room = high - low - 3
        if len(words) > room:
            words = f" {counted(row)} "
        if len(words) > room:
            words = f" {short(counted(row))} "
        while len(words) > room and " " in words.strip():
            words = words.strip().rpartition(" ")[0]
        words = words[:room]
        line.put(low + 2 + (room - len(words)) // 2, words, colour, bold=True)

    def _note(self, note: Note) -> Iterator[str]:
        sign, colour = _SIGNS[note.kind]
        column = self._column[note.lane]
        text = f"{sign} {note.text}" if note.kind != "opening" else f"{sign} opened: {note.text}"
        if note.kind in ("dropped", "refused"):
            text = f"{sign} {note.kind}: {note.text}"
        for part in textwrap.wrap(text, self._width - _TIME, subsequent_indent="  "):
            fits = column + 2 + len(part) <= self._width
            yield self._beside(column, part, colour, right=fits)

    def _beside(self, column: int, text: str, colour: str, *, right: bool) -> str:
        """A line with `text` to the right or left of a lane, or as near to there as it fits."""
        line = self._empty()
        at = column + 2 if right else column - 1 - len(text)
        if at < _TIME:
            # Where it is short of room, it may stand below the time.
            at = _TIME if _TIME + len(text) <= self._width else 0
        line.put(max(min(at, self._width - len(text)), 0), text, colour)
        return str(line)


def _about(lane: Lane) -> tuple[str, str, str, str]:
    first, _, second = lane.does.partition(" + ")
    return lane.name, lane.outside, first if lane.role == "router" else lane.role, second
