"""A lab while something goes on in it: as what it stood when, and whether it was changed."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.paths import LabPaths
    from lab.plan.model import Plan

_CHANGES = frozenset({"changed", "timeline"})
"""Events that say that a network is not what it was, if only that a router forgot its state."""
_SKIPPED = "skipped"
"""What became of a moment of the timeline that had nothing to do."""


class _Version(NamedTuple):
    plan: Plan
    since: float
    """Seconds since the epoch; of the first, before everything."""


class Course:
    """A lab from when this is made; times are in seconds since the epoch."""

    def __init__(self, paths: LabPaths) -> None:
        from lab.cli.labs import plan_of

        self._paths = paths
        self._began = time.time()
        self._first = self._read = self._written()
        self._versions = [_Version(plan_of(paths), -math.inf)]

    @property
    def plan(self) -> Plan:
        """The lab as it was at the beginning."""
        return self._versions[0].plan

    def plans(self, since: float) -> tuple[Plan, ...]:
        """The plan that was in force then, and those that have come after it until now.

        Of several that follow each other between two calls only the last is known,
        and of each from when it stood, after all that led to it was done.
        """
        from lab.cli.labs import plan_of

        written = self._written()
        if written != self._read:
            _, changed_ns = written or (0, 0)
            self._versions.append(_Version(plan_of(self._paths), changed_ns / 1e9))
            self._read = written
        later = [one.plan for one in self._versions if one.since > since]
        before = [one.plan for one in self._versions if one.since <= since]
        return (before[-1], *later)

    def changed(self, since: float | None = None) -> bool:
        """Whether anything was done to the lab since then, if only to be what it was."""
        from lab.agent.events import read

        if since is None:
            if self._written() != self._first:
                return True
            since = self._began
        return any(_changes(event) and event["at"] >= since for event in read(self._paths.events))

    def _written(self) -> tuple[int, int] | None:
        """What tells one writing of the plan from the next; None if there is none."""
        try:
            found = self._paths.plan.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns


def _changes(event: Mapping[str, Any]) -> bool:
    """Whether an event is one of the network's, and says when."""
    kind, at = event.get("event"), event.get("at")
    return kind in _CHANGES and event.get("outcome") != _SKIPPED and isinstance(at, int | float)
