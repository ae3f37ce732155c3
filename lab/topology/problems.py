"""Errors in a file: each with its place, several of them reported at once."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from lab.errors import InputError

T = TypeVar("T")
V = TypeVar("V")

_SHOWN = 20
_LONG = 60


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, where it stands, and what to do about it."""

    where: str
    """`file:line`, or `--set path=value`."""
    message: str
    remedy: str = ""
    line: int = 0
    """For ordering; 0 for what stands in no file."""

    def __str__(self) -> str:
        return str(InputError(self.message, remedy=self.remedy, where=self.where))


class TopologyError(InputError):
    """A file with one or more problems; a single one reads like any other InputError."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(dict.fromkeys(sorted(problems, key=lambda problem: problem.line)))
        if len(self.problems) == 1:
            only = self.problems[0]
            super().__init__(only.message, remedy=only.remedy, where=only.where)
            return
        lines = [f"{len(self.problems)} things are wrong"]
        lines += [str(problem) for problem in self.problems[:_SHOWN]]
        if len(self.problems) > _SHOWN:
            lines.append(f"... and {len(self.problems) - _SHOWN} more")
        super().__init__("\n".join(lines))


class WrongValueError(ValueError):
    """A value that can't be what it is written for; whoever knows the line adds it.

    `at` leads from the place that is being looked at to the value, if the
    value stands deeper.
    """

    def __init__(self, message: str, remedy: str = "", at: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.at = at


class WrongValuesError(ValueError):
    """Several wrong values in one list or mapping."""

    def __init__(self, errors: Sequence[WrongValueError]) -> None:
        super().__init__("; ".join(error.message for error in errors))
        self.errors = tuple(errors)


def each(
    items: Iterable[tuple[str | int, V]], read: Callable[[V], T], at: tuple[str | int, ...] = ()
) -> list[T]:
    """`read` of every item; raises WrongValuesError with all that it refuses, and their keys."""
    values, errors = [], []
    for key, item in items:
        try:
            values.append(read(item))
        except WrongValueError as error:
            errors.append(WrongValueError(error.message, error.remedy, (*at, key)))
    if errors:
        raise WrongValuesError(errors)
    return values


def show(value: Any) -> str:
    """`value` as an error text quotes it: short, and printable anywhere."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case str() if len(value) > _LONG:
            return printable(f"{value[:_LONG]!r}...")
        case str():
            return printable(repr(value))
        case _:
            return str(value)[:_LONG]


def printable(text: str) -> str:
    """`text` without what no terminal takes (lone surrogates)."""
    return text.encode("utf-8", "backslashreplace").decode()


def nearest(word: str, words: Iterable[str]) -> str:
    """The question "did you mean ...?", or nothing if no word is near."""
    near = difflib.get_close_matches(word[:_LONG].lower(), list(words), n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else ""


def one_of(word: str, words: Sequence[str], what: str) -> str:
    """A remedy: the nearest of `words`, then all of them (or as many as fit a line)."""
    some = ", ".join(words[:16]) + (", ..." if len(words) > 16 else "")
    return f"{nearest(word, words)} {what}: {some}".strip()
