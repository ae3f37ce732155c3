"""Where boxes are drawn: rows by distance from the internet, parents centred above."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lab.observe.graph.outline import Box, Look

PAD = 12.0
TITLE = 14.0
SMALL = 11.0
LINE = 16.0
HEADER = 26.0
ICON = 22.0
STACK = 5.0
"""How far a folded box's shadows stand out."""

_GAP_X = 30.0
_GAP_Y = 46.0
_BUS = 22.0
"""Room for a shared segment's line."""
_CLOUD = (190.0, 92.0)

_NARROW = frozenset("iIljtfr.,:;|!'()[]/ -·…")
_WIDE = frozenset("mwMW@%→")


@dataclass(frozen=True, slots=True)
class Placed:
    """A box and where it is: `x` is the middle, `y` the top."""

    box: Box
    x: float
    y: float
    width: float
    height: float
    below: tuple[Placed, ...]
    bus: float = 0.0
    """Height of the shared segment's line; 0 for none."""

    def walk(self) -> Iterator[Placed]:
        """Itself and all below, parents first."""
        yield self
        for placed in self.below:
            yield from placed.walk()


def text_width(text: str, size: float, *, bold: bool = False, mono: bool = False) -> float:
    """About how wide `text` is in a common sans-serif or monospaced font."""
    if mono:
        return len(text) * size * 0.602
    units = sum(
        0.31 if c in _NARROW else 0.87 if c in _WIDE else 0.69 if c.isupper() else 0.56
        for c in text
    )
    return units * size * (1.07 if bold else 1.0)


def facts(box: Box) -> tuple[tuple[str, str], ...]:
    """The lines of a box below its title: what kind of line, and its text."""
    lines = [("nat", box.nat)] if box.nat else []
    lines += [("firewall", part) for part in box.firewall.split("; ") if part]
    return (
        *lines,
        *(("address", f"{label:<4}{text}" if label else text) for label, text in box.addresses),
    )


def size(box: Box) -> tuple[float, float]:
    """Width and height of a box."""
    if box.look is Look.INTERNET:
        return _CLOUD
    lines = facts(box)
    title = ICON + text_width(box.title, TITLE, bold=True)
    if box.badge:
        title += 12 + badge_width(box)
    if box.subtitle:
        title += 12 + text_width(box.subtitle, SMALL)
    width = max([title, *(_fact_width(kind, text) for kind, text in lines)])
    return max(120.0, width + 2 * PAD), HEADER + 8 + LINE * len(lines) + (8 if lines else 0)


def badge_width(box: Box) -> float:
    """Width of the pill that says how many nodes a box stands for."""
    return text_width(box.badge, SMALL, bold=True) + 14


def _fact_width(kind: str, text: str) -> float:
    if kind == "address":
        return text_width(text, SMALL, mono=True)
    return text_width(text, SMALL) + CHIP[kind]


CHIP = {"nat": 38.0, "firewall": 58.0}
"""How much room the coloured word before a line takes."""


def link_size(box: Box) -> tuple[float, float]:
    """Width and height of the words on a box's uplink; zero if there are none."""
    if not box.link:
        return 0.0, 0.0
    width = max(text_width(line, SMALL) for line in box.link)
    return width + 20, 15.0 * len(box.link) + 6


def layout(roots: tuple[Box, ...], left: float, top: float) -> tuple[Placed, ...]:
    """`roots` and all below them, placed from the corner `left`, `top`."""
    tops = list(_row_tops(roots, top))
    return _place_row(roots, left, 0, tops)[0]


def _row_tops(roots: tuple[Box, ...], top: float) -> Iterator[float]:
    row = roots
    while row:
        yield top
        below = tuple(child for box in row for child in box.below)
        words = max((link_size(child)[1] for child in below), default=0.0)
        bus = _BUS if any(box.shared for box in row) else 0.0
        top += max(size(box)[1] for box in row) + _GAP_Y + words + bus
        row = below


def _place_row(
    boxes: tuple[Box, ...], left: float, depth: int, tops: list[float]
) -> tuple[tuple[Placed, ...], float]:
    """The boxes side by side from `left`, and the right edge of what they take."""
    placed = []
    for box in boxes:
        one, right = _place(box, left, depth, tops)
        placed.append(one)
        left = right + _GAP_X
    return tuple(placed), left - _GAP_X


def _place(box: Box, left: float, depth: int, tops: list[float]) -> tuple[Placed, float]:
    width, height = size(box)
    own = max(width, link_size(box)[0])
    below, right = _place_row(box.below, left, depth + 1, tops)
    if not below:
        x, right = left + own / 2, left + own
    else:
        x = (below[0].x + below[-1].x) / 2
        if x - own / 2 < left:
            # Too wide for what hangs below: that moves to the middle.
            below, right = _place_row(box.below, left + (left - (x - own / 2)), depth + 1, tops)
            x = (below[0].x + below[-1].x) / 2
        right = max(right, x + own / 2)
    y = tops[depth]
    bus = y + height + _BUS if box.shared and below else 0.0
    return Placed(box, x, y, width, height, below, bus), right
