"""Plain tables: columns as wide as they need to be, nothing between them but space."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_GAP = "  "


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The lines of a table; a column that is empty everywhere is left out."""
    used = [column for column in range(len(heads)) if any(row[column] for row in rows)]
    lines = [[heads[column].upper() for column in used]]
    lines += [[row[column] for column in used] for row in rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(used))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        yield _GAP.join(cells).rstrip()
