"""Words that the drawings of a ladder share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from lab.observe.explain.ladder import Ladder, Mark, Row

STEPS: Mapping[int, str] = MappingProxyType(
    {
        1: "{m} learns how it looks from outside, and tells {n}",
        2: "{n} sends there, which opens {n}'s own NAT",
        3: "{m}'s NAT knows nothing of it yet, and refuses it",
        4: "{m} sends to {n}, and passes by what step 2 opened",
    }
)
"""The four steps of the punch, with the peers m and n."""


def title(ladder: Ladder) -> str:
    """What the picture is of."""
    return f"{ladder.local} → {ladder.remote}, {ladder.technique}: {ladder.outcome or 'no outcome'}"


def rulers(ladder: Ladder) -> tuple[Mark, ...]:
    """All that is drawn across all lanes: the marks, and when the path was proven."""
    found = list(ladder.marks)
    if ladder.proven_ms is not None:
        text = f"path proven after {moment(ladder.proven_ms)}"
        found.append(Mark(at_ms=ladder.proven_ms, kind="proven", text=text))
    return tuple(sorted(found, key=lambda mark: mark.at_ms))


def happening(mark: Mark) -> str:
    """What happened, and within which time from its moment on if that is not known better."""
    if not mark.until_ms:
        return mark.text
    return f"{mark.text} (within {moment(mark.until_ms - mark.at_ms)} from here)"


def moment(milliseconds: float) -> str:
    """A time since the beginning: `48.4 ms`, `9.81 s`."""
    if milliseconds >= 1000:
        return f"{milliseconds / 1000:.2f} s"
    return f"{milliseconds:.1f} ms"


def account(row: Row) -> str:
    """A packet in one line: what it is, its addresses, where it passed, how it ended."""
    way = ", ".join(point.lane for point in row.points)
    said = f"{row.text} ({row.transport.upper()}, {row.size} bytes), {addresses(row)}: {way}"
    return said if row.fate == "arrived" else f"{said}: {row.fate}"


def addresses(row: Row) -> str:
    """Source and destination, each with what it was translated into, in order.

    `192.168.1.2:5 ⇒ 45.0.0.2:5 → 45.0.0.6:7 ⇒ 192.168.2.2:7`
    """
    first = row.points[0]
    sources = [first.source, *(point.new_source for point in row.points if point.new_source)]
    destinations = [
        first.destination,
        *(point.new_destination for point in row.points if point.new_destination),
    ]
    return f"{' ⇒ '.join(sources)} → {' ⇒ '.join(destinations)}"


def counted(row: Row) -> str:
    """What the packet is, and how many like it there were."""
    return f"{row.text} \N{MULTIPLICATION SIGN}{row.more + 1}" if row.more else row.text


_SHORTER = (
    (re.compile(r"^you are \S+"), "STUN answer"),
    (re.compile(r"^STUN binding request"), "STUN request"),
    (re.compile(r"^lent: \S+"), "port lent"),
    (re.compile(r"^(TURN \w+) request"), r"\1"),
    (re.compile(r"^TURN (\w+) (success|error)"), r"\1 \2"),
    (re.compile(r" (to|from) \S+(?=$| \N{MULTIPLICATION SIGN})"), ""),
)


def short(said: str) -> str:
    """What a packet is in fewer letters, for where there is no room; no address is cut."""
    for pattern, instead in _SHORTER:
        said = pattern.sub(instead, said)
    return said


def named(row: Row) -> str:
    """As `counted`, and until when they came."""
    return f"{counted(row)} until {moment(row.until_ms)}" if row.more else row.text
