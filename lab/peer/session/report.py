"""What became of a session, in the words of docs/sessions.md; times in seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class End(StrEnum):
    """How a session ended."""

    COMPLETED = "completed"
    """After the time that was asked for, or because it was asked to."""
    HUNG_UP = "hung-up"
    """By the other end."""
    LOST = "lost"
    """No path was found any more, for as long as one is looked for."""
    FAILED = "failed"
    """There never was a path."""


@dataclass(slots=True)
class Repair:
    """One time that the path was dead; `took_s` is None as long as it is."""

    at_s: float
    """Since the session began, when that was noticed."""
    reason: str
    technique: str
    """By which the dead path had been found."""
    silent_s: float
    """How long nothing had been heard by then."""
    took_s: float | None = None
    """From the notice to the next path on which frames went there and back."""
    by: str = ""
    """The technique that found it; `""` if the old path came back by itself."""
    path: str = ""
    gap_s: float | None = None
    """Between the last datagram before and the first after it."""
    lost: int | None = None
    """Datagrams of the other end that are missing in between."""
    tried: list[str] = field(default_factory=list)
    """`technique: outcome` of every attempt that ended meanwhile."""

    def to_json(self) -> dict[str, Any]:
        return {
            "at_s": _s(self.at_s),
            "reason": self.reason,
            "technique": self.technique,
            "silent_s": _s(self.silent_s),
            "took_s": _s(self.took_s),
            "by": self.by or None,
            "path": self.path or None,
            "gap_s": _s(self.gap_s),
            "lost": self.lost,
            "tried": self.tried,
        }


@dataclass(slots=True, kw_only=True)
class Report:
    """One session, at one end."""

    session: str
    local: str
    remote: str
    started_at: float
    """Seconds since the epoch."""
    keepalive_s: float
    rate: float
    end: End = End.FAILED
    reason: str = ""
    lasted_s: float = 0.0
    time_to_path_s: float | None = None
    technique: str = ""
    """By which the first path was found."""
    path: str = ""
    repairs: list[Repair] = field(default_factory=list)
    counts: dict[str, int | None] = field(default_factory=dict)
    longest_gap_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "session": self.session,
            "local": self.local,
            "remote": self.remote,
            "outcome": self.end.value,
            "reason": self.reason,
            "started_at": self.started_at,
            "lasted_s": _s(self.lasted_s),
            "time_to_path_s": _s(self.time_to_path_s),
            "technique": self.technique or None,
            "path": self.path or None,
            "keepalive_s": self.keepalive_s,
            "rate": self.rate,
            "datagrams": self.counts,
            "longest_gap_s": _s(self.longest_gap_s),
            "repairs": [repair.to_json() for repair in self.repairs],
        }


def _s(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
