"""Records of attempts as programs report them, made fit to be kept, shown and counted.

Any program may report attempts (docs/contract.md), and its word is taken for
what it did, not for who it is: which node it runs in and what it is called is
the lab's to say.  What it writes is cut to a size that a thousand of them can
be held in, loses what moves cursors, and is otherwise left as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from lab.topology.outcomes import OUTCOMES

TEXT_LIMIT = 500
"""Letters of a text."""

ITEMS_LIMIT = 200
"""Items of a list: as many as an attempt may have tries."""

KEYS_LIMIT = 48
"""Keys of an object: the record of the contract has half of that."""

KEPT_PER_NODE = 10_000
"""Records of attempts that nobody ordered which are written down; all are counted."""


class Source(StrEnum):
    """How the lab came to know of an attempt."""

    ORDERED = "ordered"
    """A command of the lab asked for it."""
    REPORTED = "reported"
    """The program says so, and nobody else."""


_KEY_LIMIT = 64
_DEPTH = 4
_LARGEST = 2**53
"""What every reader of JSON holds exactly."""
_PATHS = frozenset({"direct", "relayed"})
_OURS = frozenset({"proven", "proof", "distorted"})
"""What is the lab's to say of an attempt, and whoever saw it."""


def accepted(
    record: Mapping[str, Any], *, local: str, program: str, source: Source
) -> dict[str, Any]:
    """`record` as the lab keeps it: bounded, and with what is the lab's to say as the lab knows it.

    A path of which only the program knows is not `proven`.  Outcomes and paths
    that there are not become `failed`, with the reason, and null.
    """
    told = {key: value for key, value in record.items() if key not in _OURS}
    kept: dict[str, Any] = _bounded(told, _DEPTH)
    kept |= {"local": local, "program": program, "source": str(source)}
    if source is Source.REPORTED:
        kept["proven"] = False
    if kept.get("path") not in (None, *_PATHS):
        kept["path"] = None
    outcome = kept.get("outcome")
    if outcome not in OUTCOMES or outcome == "failure":
        kept["outcome"] = "failed"
        kept["reason"] = f"the program reported an outcome that there is not: {outcome!s:.40}"
    return kept


def bounded(told: Mapping[str, Any]) -> dict[str, Any]:
    """Anything that a program tells, bounded as above."""
    kept: dict[str, Any] = _bounded(told, _DEPTH)
    return kept


def _bounded(value: Any, depth: int) -> Any:
    match value:
        case str():
            return "".join(c if c.isprintable() else " " for c in value[:TEXT_LIMIT])
        case bool() | None:
            return value
        case int():
            return value if -_LARGEST <= value <= _LARGEST else None
        case float():
            return value if math.isfinite(value) else None
        case Mapping() if depth:
            items = list(value.items())[:KEYS_LIMIT]
            return {_bounded(str(k)[:_KEY_LIMIT], 0): _bounded(v, depth - 1) for k, v in items}
        case list() | tuple() if depth:
            return [_bounded(item, depth - 1) for item in value[:ITEMS_LIMIT]]
        case _:
            return None
