"""One thing that was looked at, and what came out."""

from __future__ import annotations

from enum import StrEnum

from lab.topology.behaviour import Frozen


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    """Lab works without it; something is slower, smaller or not possible."""
    MISSING = "missing"
    """Lab does not work without it."""


class Check(Frozen, frozen=True):
    """A finding about this machine."""

    group: str
    """`kernel`, `programs`, `containers`, `limits` or `labs`."""
    name: str
    level: Level = Level.OK
    found: str = ""
    """What there is."""
    why: str = ""
    """What lab needs it for."""
    remedy: str = ""
    """How to get it, as a command where there is one."""
    packages: tuple[str, ...] = ()
    """Debian packages that `lab doctor --fix` may install to get it."""


def found_or(level: Level, found: bool) -> Level:
    """OK if `found`, else `level`."""
    return Level.OK if found else level
