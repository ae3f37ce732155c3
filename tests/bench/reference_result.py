"""What an experiment has found, as a line of a table; and how sure one can be of a share."""

from __future__ import annotations

import math
from dataclasses import dataclass

Z = 2.576


@dataclass(frozen=True, slots=True)
class Result:
    """One line: what was done, what should come of it, what did, and what comes without it."""

    what: str
    expected: str
    measured: str
    met: bool
    control: str = ""

    def text(self, target: str) -> str:
        """The line, in Markdown."""
        mark = "yes" if self.met else "**no**"
        cells = (target, self.what, self.expected, self.measured, mark, self.control)
        return f"| {' | '.join(cells)} |"


def wilson(good: int, trials: int) -> tuple[float, float]:
    """The 99 % interval of a share (Wilson 1927)."""
    share, square = good / trials, Z * Z / trials
    middle = (share + square / 2) / (1 + square)
    half = Z / (1 + square) * math.sqrt(share * (1 - share) / trials + square / (4 * trials))
    return max(0.0, middle - half), min(1.0, middle + half)


def share(good: int, trials: int) -> str:
    """A share with its interval, for people."""
    low, high = wilson(good, trials)
    return f"{good} of {trials} ({low:.0%} to {high:.0%})"
