"""Which plan was in force when: a network may be changed while it is looked at.

What a change does is done between its beginning and its end, so within that
time both the plan of before and the one after may hold.
"""

from __future__ import annotations

from bisect import bisect_right

from lab.observe.explain.events import Capture


class Epochs:
    """The plans of a capture, each from a moment on."""

    def __init__(self, capture: Capture) -> None:
        self.plans = capture.plans
        changes = [one for one in capture.happened if one.plan is not None]
        self._begins = [one.began_ns for one in changes]
        self._ends = [one.ended_ns for one in changes]

    def at(self, at_ns: int) -> int:
        """Which of `plans` was in force, or coming into force, at a moment."""
        return bisect_right(self._begins, at_ns)

    def possible(self, at_ns: int) -> range:
        """All of `plans` of which something may have been in force at a moment."""
        return range(bisect_right(self._ends, at_ns), self.at(at_ns) + 1)

    def begin(self, index: int) -> int:
        """When the plan `index` began to come into force; 0 for the first."""
        return self._begins[index - 1] if index else 0
