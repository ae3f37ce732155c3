"""A file as a tree of values that know their lines, and what was wrong with it so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lab.topology.problems import Problem, TopologyError, WrongValueError

Place = str | tuple[str, int]
"""`--set path=value`, or a file and a line."""
Loc = tuple[str | int, ...]
"""The way from the root to a value: keys and indices."""


@dataclass(frozen=True, slots=True)
class Node:
    """A value, where it stands, and how many values it holds when written out."""

    value: Any
    """A scalar, `dict[str, Node]` or `list[Node]`."""
    place: Place
    size: int = 1
    text: str = ""
    """A scalar as it was written."""


@dataclass(slots=True)
class Document:
    """A parsed file, and what was wrong with it so far."""

    source: str
    root: Node
    problems: list[Problem] = field(default_factory=list)

    def node(self, loc: Loc) -> Node:
        """The deepest node on the way `loc`.

        A terse form may stand where the schema sees a mapping, so a key that
        a list or a scalar can't have is passed over.
        """
        node = self.root
        for step in loc:
            inner = node.value
            if isinstance(inner, list) and isinstance(step, int) and step < len(inner):
                node = inner[step]
            elif isinstance(inner, dict):
                if step not in inner:
                    break
                node = inner[step]
        return node

    def where(self, loc: Loc) -> str:
        """`file:line` of the value at `loc`, or of the nearest thing around it."""
        return shown_place(self.node(loc).place)

    def report(self, loc: Loc, message: str, remedy: str = "") -> None:
        """Note that the value at `loc` is wrong."""
        self.problems.append(problem_at(self.node(loc).place, message, remedy))

    def refuse(self, loc: Loc, error: WrongValueError) -> None:
        """Note what is wrong with the value at `loc`, which is called by its way from the root."""
        dotted = ".".join(str(step) for step in loc)
        self.report((*loc, *error.at), f"{dotted}: {error.message}", error.remedy)

    def raise_problems(self) -> None:
        """Raise TopologyError if anything was reported."""
        if self.problems:
            raise TopologyError(self.problems)


def plain(node: Node, verbatim: frozenset[str] = frozenset(), *, as_text: bool = False) -> Any:
    """The values alone, as dicts, lists and scalars.

    Below a key in `verbatim`, scalars stay the text that was written (`1.10`
    is no number in an environment variable).
    """
    match node.value:
        case dict():
            return {
                key: plain(child, verbatim, as_text=as_text or key in verbatim)
                for key, child in node.value.items()
            }
        case list():
            return [plain(child, verbatim, as_text=as_text) for child in node.value]
        case None:
            return "" if as_text else None
        case _:
            return node.text if as_text else node.value


def shown_place(place: Place) -> str:
    return place if isinstance(place, str) else f"{place[0]}:{place[1]}"


def problem_at(place: Place, message: str, remedy: str) -> Problem:
    line = 0 if isinstance(place, str) else place[1]
    return Problem(where=shown_place(place), message=message, remedy=remedy, line=line)
