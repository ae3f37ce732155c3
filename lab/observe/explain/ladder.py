"""The picture of an attempt as data: lanes for nodes, rows for packets, notes beside them.

Drawings (`text`, `svg`, `html`) and `--json` are made of this alone.
"""

from __future__ import annotations

from lab.topology.behaviour import Frozen


class Lane(Frozen, frozen=True, omit_defaults=False):
    """A node, as a line from top to bottom."""

    name: str
    role: str
    """`peer`, `router`, `server` or `internet`."""
    outside: str = ""
    """Address outward, or the only one."""
    inside: str = ""
    """A router's address inward."""
    does: str = ""
    """A router's NAT or firewall, in a word."""
    mirrored: bool = False
    """Whether outward is to the left."""


class Point(Frozen, frozen=True, omit_defaults=False):
    """A packet at a node."""

    lane: str
    at_ms: float
    left_ms: float
    """When it went on; as `at_ms` where it ended."""
    source: str
    destination: str
    new_source: str = ""
    """What the node made of the source; empty if it left it."""
    new_destination: str = ""


class Note(Frozen, frozen=True, omit_defaults=False):
    """Something that happened to a packet at a node."""

    lane: str
    kind: str
    """`mapping`, `mapped-before`, `opening`, or the fate of a packet that did not arrive:
    `dropped`, `refused`, `lost`, `under-way`, `vanished`, `unseen`."""
    text: str
    rule: str = ""
    """The rule that did it, as its tool prints it."""


class Row(Frozen, frozen=True, omit_defaults=False):
    """A packet from its sender to where it ended, or several that were alike."""

    at_ms: float
    kind: str
    text: str
    transport: str
    size: int
    points: tuple[Point, ...]
    fate: str
    notes: tuple[Note, ...] = ()
    steps: tuple[tuple[int, str], ...] = ()
    """Steps of the punch, each with the lane where it happens."""
    more: int = 0
    """How many more like it followed and are not shown."""
    until_ms: float = 0.0
    """When the last of these began."""


class Mark(Frozen, frozen=True, omit_defaults=False):
    """Something that happened between packets."""

    at_ms: float
    kind: str
    """`change` of the network, or one that `failed`, or of a session's path: `dead`, `repaired`."""
    text: str
    lane: str = ""
    """The node that it is about, if there is one in the picture."""
    until_ms: float = 0.0
    """When it had happened for certain, if packets passed in between; else 0."""


class Ladder(Frozen, frozen=True, omit_defaults=False):
    """Everything that is drawn."""

    lab: str
    local: str
    remote: str
    technique: str
    outcome: str
    sentence: str
    lanes: tuple[Lane, ...]
    rows: tuple[Row, ...]
    steps: tuple[int, ...]
    """Which of the punch's four steps were found; empty for techniques without."""
    roles: tuple[str, str]
    """Who m and n are in these steps."""
    proven_ms: float | None = None
    """When the path was proven; for an attempt."""
    hidden: tuple[tuple[str, int], ...] = ()
    """What is not shown, and how many packets that are."""
    lost: tuple[str, ...] = ()
    """What could not be observed."""
    marks: tuple[Mark, ...] = ()
    """In order of time."""
    against: tuple[str, ...] = ()
    """Where it came out otherwise than predicted."""
