"""The table of `lab matrix`: callers down, callees across."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

_WORDS = {True: "yes", False: "no"}
_WRONG = "!"
_LUCK = "~"


class Pair(Protocol):
    """What a cell shows."""

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
    if markdown:
        rows = [[f"**{caller}**", *cells] for caller, *cells in rows]
        lines = [head, ["---", *(":-:" for _ in columns)], *rows]
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
