"""Findings as lines for people; `click.style` codes are dropped where there is no terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import click

from lab.observe.doctor.check import Check, Level
from lab.observe.doctor.repair import wanted

_SIGNS = {Level.OK: ("ok", "green"), Level.WARNING: ("!", "yellow"), Level.MISSING: ("✗", "red")}


def lines(checks: Sequence[Check]) -> Iterator[str]:
    """A line for each finding, and two more for each that is not all right."""
    width = max(len(check.name) for check in checks)
    for group, members in groupby(checks, key=lambda check: check.group):
        yield click.style(group, bold=True)
        for check in members:
            sign, colour = _SIGNS[check.level]
            yield f"  {click.style(f'{sign:<2}', fg=colour)}  {check.name:<{width}}  {check.found}"
            if check.level is not Level.OK:
                margin = " " * (width + 8)
                yield click.style(f"{margin}for {check.why}", dim=True)
                yield f"{margin}→ {check.remedy}"
        yield ""


def verdict(checks: Iterable[Check]) -> str:
    """One sentence: whether labs can run here, and what to do if not."""
    found = list(checks)
    missing = [check.name for check in found if check.level is Level.MISSING]
    fix = "; `lab doctor --fix` installs what packages can bring" if wanted(found) else ""
    if missing:
        return click.style(f"labs can't run here: {', '.join(missing)} missing{fix}", fg="red")
    warnings = sum(1 for check in found if check.level is Level.WARNING)
    if warnings:
        things = "thing" if warnings == 1 else "things"
        return f"labs can run here; {warnings} {things} could be better{fix}"
    return click.style("labs can run here", fg="green")
