"""A page in a terminal, or in a file: tables without lines, and text that does no harm.

A terminal gets colour and its own width; anything else gets plain text whose
lines are as long as they need to be.
"""

from __future__ import annotations

import sys

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

PLAIN_WIDTH = 200
"""Columns of what is not a terminal."""
WIDE = 100
"""Columns from which on links, inner addresses and details of attempts have room."""
_ASCII = str.maketrans(dict(zip("├└│─●◌○✗✓→…‖■", "|`|-*ooxv>~=#", strict=True)))


def printable(text: str) -> str:
    """`text` on one line and harmless: a program chose it, and escape codes move the cursor."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def plain(text: str) -> Text:
    """`text` as it is: a string in a table would be read for markup."""
    return Text(printable(text))


def table_of(*names: str) -> Table:
    """A table without lines; the columns given here keep what they hold on one line."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in names:
        table.add_column(name, no_wrap=True)
    return table


def console() -> Console:
    """Standard output, in colour if it is a terminal."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)


def show(terminal: Console, shown: RenderableType) -> None:
    """Print it; where the output has no such letters, by others of ASCII."""
    with terminal.capture() as capture:
        terminal.print(shown)
    text = "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())
    encoding = (sys.stdout.encoding or "ascii").lower()
    sys.stdout.write(text if encoding.startswith("utf") else text.translate(_ASCII))
