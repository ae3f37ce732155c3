"""What commands say: results on stdout, narration on stderr.

Narration is a live line in a terminal and plain lines elsewhere.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from lab.errors import LabError


def show_error(error: LabError) -> None:
    """Print an error and its remedy on stderr."""
    head = f"{error.where}: {error.message}" if error.where else error.message
    click.secho("error: ", fg="red", bold=True, nl=False, err=True)
    click.echo(head, err=True)
    if error.remedy:
        click.echo(f"  {error.remedy}", err=True)


def print_json(data: Any) -> None:
    """Print `data` as JSON on stdout."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def say(text: str) -> None:
    """Narrate one line on stderr."""
    click.echo(text, err=True)


class Progress:
    """The progress of operations: one live line, or a line per phase."""

    def __init__(self, *, quiet: bool, verbose: bool) -> None:
        self._live = sys.stderr.isatty() and not quiet and not verbose
        self._quiet = quiet
        self._verbose = verbose
        self._began = time.monotonic()
        self._done = 0
        self._total = 0
        self._drawn = 0.0
        self.phases: list[tuple[str, float]] = []
        """Each finished phase and how many seconds it took."""

    def event(self, event: dict[str, Any]) -> None:
        """Show one event of the executor."""
        match event.get("event"):
            case "phase":
                self._done, self._total = 0, event["operations"]
            case "done":
                self._done += 1
                if self._verbose:
                    say(f"{event['seconds'] * 1000:8.1f} ms  {event['text']}")
                elif self._live and time.monotonic() - self._drawn > 0.05:
                    self._draw(f"{event['phase']} {self._done}/{self._total}  {event['text']}")
            case "phase-done":
                self.phases.append((event["phase"], event["seconds"]))
                if not self._live and not self._quiet:
                    say(f"{event['phase']:<11} {event['operations']:>5}  {event['seconds']:.2f} s")
            case "note" if not self._quiet:
                self.clear()
                say(event["text"])

    def _draw(self, text: str) -> None:
        self._drawn = time.monotonic()
        width = 79
        click.echo(f"\r\x1b[K{text[:width]}", nl=False, err=True)

    def clear(self) -> None:
        """Remove the live line."""
        if self._live and self._drawn:
            click.echo("\r\x1b[K", nl=False, err=True)

    @property
    def seconds(self) -> float:
        """Since this progress began."""
        return time.monotonic() - self._began

    def times(self) -> dict[str, object]:
        """What the operations took, in seconds, for those who want JSON."""
        phases = {phase: round(seconds, 4) for phase, seconds in self.phases}
        return {"seconds": round(self.seconds, 3), "phases": phases}

    def slowest(self) -> str:
        """The slowest phase, in words; empty if there was none."""
        if not self.phases:
            return ""
        name, seconds = max(self.phases, key=lambda phase: phase[1])
        return f"slowest phase: {name}, {seconds:.2f} s"


@contextmanager
def progress(*, quiet: bool, verbose: bool) -> Iterator[Progress]:
    """A Progress that leaves a clean line behind."""
    shown = Progress(quiet=quiet, verbose=verbose)
    try:
        yield shown
    finally:
        shown.clear()
