"""What a session knows of each of its paths, and what it tells of them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum

LEAST_KEEPALIVE_S = 15.0
"""What RFC 8445 asks for on the Internet, and the usual."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How soon an end notices, in seconds."""

    keepalive_s: float = LEAST_KEEPALIVE_S
    """Between checks; 0 for none, so that nothing is sent but datagrams."""
    again_s: float = 0.25
    """Between checks without an answer; two round trips if those are longer."""
    checks: int = 6
    """So many without an answer, and the path is dead."""


class What(StrEnum):
    """What happened to the path that is used."""

    UP = "up"
    DEAD = "dead"
    BACK = "back"


@dataclass(frozen=True, slots=True)
class Change:
    """The path that is used has changed."""

    what: What
    path: bytes
    at: float
    silent_s: float
    """How long nothing had been heard by then."""


@dataclass(slots=True)
class PathState:
    """A path, alive or not, and what was asked on it."""

    number: bytes
    heard_at: float
    next_at: float | None
    proven: bool = False
    alive: bool = False
    unanswered: int = 0
    asked: OrderedDict[int, float] = field(default_factory=OrderedDict)
    round_trip: float = 0.0
    quiet_at: float | None = None
    gap: float | None = None
    """Between datagrams, smoothed."""
    data_at: float | None = None
    out: list[bytes] = field(default_factory=list)
