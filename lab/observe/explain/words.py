"""Words that the drawings of a ladder share."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from lab.observe.explain.ladder import Ladder, Row

STEPS: Mapping[int, str] = MappingProxyType(
    {
        1: "{m} learns how it looks from outside, and tells {n}",
        2: "{n} sends there, which opens {n}'s own NAT",
        3: "{m}'s NAT knows nothing of it yet, and refuses it",
        4: "{m} sends to {n}, and passes by what step 2 opened",
    }
)
"""The four steps of the punch, with the caller m and the callee n."""


def title(ladder: Ladder) -> str:
    """What the picture is of."""
    return f"{ladder.local} → {ladder.remote}, {ladder.technique}: {ladder.outcome or 'no outcome'}"


def moment(milliseconds: float) -> str:
    """A time since the beginning: `48.4 ms`, `9.81 s`."""
    if milliseconds >= 1000:
        return f"{milliseconds / 1000:.2f} s"
    return f"{milliseconds:.1f} ms"


def account(row: Row) -> str:
    """A packet's way in one line: who sent what, what became of it at each node."""
    first = row.points[0]
    parts = [f"{first.lane}: {first.source} → {first.destination}"]
    for point in row.points[1:]:
        changes = " ".join(
            part
            for part in (
                f"from {point.new_source}" if point.new_source else "",
                f"to {point.new_destination}" if point.new_destination else "",
            )
            if part
        )
        parts.append(f"{point.lane} ({changes})" if changes else point.lane)
    said = f"{row.text} ({row.transport.upper()}, {row.size} bytes): {', '.join(parts)}"
    return said if row.fate == "arrived" else f"{said}: {row.fate}"


def named(row: Row) -> str:
    """What the packet is, and how many more like it there were."""
    more = f" \N{MULTIPLICATION SIGN}{row.more + 1} until {moment(row.until_ms)}"
    return row.text + (more if row.more else "")
