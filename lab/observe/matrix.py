"""The tables of `lab matrix`: callers down and callees across, or techniques side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

_WORDS = {True: "yes", False: "no"}
_WRONG = "!"
_LUCK = "~"


class Pair(Protocol):
    """What a cell shows."""

    @property
    def technique(self) -> str: ...
    @property
    def caller(self) -> str: ...
    @property
    def callee(self) -> str: ...
    @property
    def found(self) -> bool: ...
    @property
    def predicted(self) -> bool: ...
    @property
    def by_chance(self) -> bool: ...
    @property
    def agrees(self) -> bool: ...


def table(pairs: Sequence[Pair], *, markdown: bool = False) -> str:
    """What was found for each pair; `!` marks what was predicted otherwise, `~` what takes luck."""
    columns = list(dict.fromkeys(pair.callee for pair in pairs))
    found = {(pair.caller, pair.callee): _cell(pair) for pair in pairs}
    head = ["from \\ to", *columns]
    rows = [
        [caller, *(found[caller, callee] for callee in columns)]
        for caller in dict.fromkeys(pair.caller for pair in pairs)
    ]
    return _drawn(head, rows, markdown=markdown)


def side_by_side(pairs: Sequence[Pair], *, markdown: bool = False) -> str:
    """All techniques in one table, a column each; who calls is said only where it matters.

    Techniques that connect no pair, as they should, have no column.
    """
    useful = [
        name
        for name in dict.fromkeys(pair.technique for pair in pairs)
        if any(p.found or not p.agrees for p in pairs if p.technique == name)
    ]
    found = {(p.technique, p.caller, p.callee): _cell(p) for p in pairs}
    kinds = list(dict.fromkeys(pair.caller for pair in pairs))
    rows = []
    for index, one in enumerate(kinds):
        for other in kinds[index:]:
            ways = [
                dict.fromkeys((found[name, one, other], found[name, other, one])) for name in useful
            ]
            rows.append([f"{one}, {other}", *(" / ".join(way) for way in ways)])
    return _drawn(["between", *useful], rows, markdown=markdown)


def _drawn(head: list[str], rows: list[list[str]], *, markdown: bool) -> str:
    if markdown:
        rows = [[f"**{caller}**", *cells] for caller, *cells in rows]
        lines = [head, ["---", *(":-:" for _ in head[1:])], *rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in (head, *rows)
    )


def _cell(pair: Pair) -> str:
    if not pair.agrees:
        return _WORDS[pair.found] + _WRONG
    return _WORDS[pair.found] + (_LUCK if pair.predicted and pair.by_chance else "")
