"""What several kinds of values have in common: words, bounds, ports, and their JSON Schema.

A validator takes what YAML gave and returns the value in base units, or raises
WrongValueError; the `...Field` types of the forms wrap it for pydantic.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from pydantic import (
    WithJsonSchema,
)

from lab.topology.problems import WrongValueError, one_of, show


def one_word(kind: type[StrEnum], value: Any, more: dict[Any, Any] | None = None) -> Any:
    """The member of `kind` that `value` names, also by a word of `more`."""
    more = more or {}
    if isinstance(value, kind):
        return value
    if isinstance(value, bool | str) and value in more:
        return more[value]
    words = [*kind, *(word for word in more if isinstance(word, str))]
    if value in words:
        return kind(value)
    raise WrongValueError(f"unknown word {show(str(value))}", one_of(str(value), words, "words"))


def between(least: float, most: float, value: Any, what: str, written: Any = None) -> Any:
    """`value` itself; if it is out of bounds, the error quotes what was `written`."""
    if not least <= value <= most:
        shown = show(value if written is None else written)
        raise WrongValueError(f"{shown} is out of bounds", what)
    return value


def whole(value: Any, what: str, remedy: str) -> None:
    """Refuse what is no whole number: YAML's true is none."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise WrongValueError(f"{show(value)} is not {what}", remedy)


def known_keys(value: dict[Any, Any], keys: Sequence[str]) -> None:
    """Refuse a mapping with another key."""
    if unknown := [key for key in value if key not in keys]:
        raise WrongValueError(
            f"unknown key {show(unknown[0])}",
            one_of(str(unknown[0]), keys, "keys"),
            at=(unknown[0],),
        )


def port_number(value: Any, at: tuple[str, ...]) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 65535:
        raise WrongValueError(f"{show(value)} is not a port", "ports are 1 to 65535", at=at)
    return value


def text_schema(description: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "description": description})


def word_schema(kind: type[StrEnum], *more: str | bool) -> WithJsonSchema:
    return WithJsonSchema({"enum": [*(str(word) for word in kind), *more]})
