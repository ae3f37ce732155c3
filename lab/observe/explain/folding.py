"""Rows that are alike, shown a time or two and then counted."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from lab.observe.explain.fates import Fate
from lab.observe.explain.labels import Kind
from lab.observe.explain.ladder import Row

_SHOWN_ALIKE = {Fate.VANISHED.value: 1}
_USUALLY_SHOWN = 2
"""How many packets that are alike are shown before the rest is only counted."""
_SHOWN_NEWS = 4
"""The same for those that made a mapping or opened a way: some techniques send hundreds."""
_STREAM = ": datagram"
"""Words of what carries a session over a relay."""


def folded(every: Iterable[Row], times: Sequence[float]) -> Iterator[Row]:
    """The rows that are left of `every`; none is folded into one on the other side of `times`."""
    alike: dict[tuple[object, ...], int] = {}
    last: dict[tuple[object, ...], int] = {}
    rows: list[Row] = []
    more: dict[int, tuple[int, float]] = {}
    for row in every:
        key = (bisect_right(times, row.at_ms), *_key(row))
        count = alike.get(key, 0)
        if count >= _shown_alike(row) and not row.steps:
            place = last[key]
            more[place] = (more.get(place, (0, 0.0))[0] + 1, row.at_ms)
            continue
        alike[key], last[key] = count + 1, len(rows)
        rows.append(row)
    for index, row in enumerate(rows):
        count, until = more.get(index, (0, 0.0))
        yield msgspec.structs.replace(row, more=count, until_ms=until) if count else row


def _shown_alike(row: Row) -> int:
    if any(note.kind in ("mapping", "opening") for note in row.notes):
        return _SHOWN_NEWS
    if row.kind == Kind.SESSION.value or row.text.endswith(_STREAM):
        return 1
    return _SHOWN_ALIKE.get(row.fate, _USUALLY_SHOWN)


def _key(row: Row) -> tuple[object, ...]:
    """What packets that are alike have in common: all but their ports and times."""
    hosts = tuple(
        (point.lane, point.source.rpartition(":")[0], point.destination.rpartition(":")[0])
        for point in row.points
    )
    return (row.kind, row.text, row.fate, hosts)
