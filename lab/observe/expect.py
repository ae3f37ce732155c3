"""What a topology file says that `lab connect` finds, held against what it found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lab.topology.model import Expectation
from lab.topology.outcomes import CONNECTED

FAILURE = "failure"
"""In an expectation: any outcome but success."""

PATH = "path"
_NO_PATH = "none"
_BEST_FIRST = ("direct", "relayed")


def best_path(records: Sequence[Mapping[str, Any]]) -> str:
    """The best path that some attempt found: `direct`, `relayed` or `none`."""
    found = {record.get("path") for record in records if record.get("outcome") in CONNECTED}
    return next((path for path in _BEST_FIRST if path in found), _NO_PATH)


def differences(
    expectations: Sequence[Expectation],
    local: str,
    remote: str,
    records: Sequence[Mapping[str, Any]],
) -> list[str]:
    """Where `records` of `local` connecting to `remote` contradict what was expected, in words.

    Techniques that were not tried contradict nothing, and the best path is
    judged only if every technique that the expectation names was tried.
    """
    found = {str(record.get("technique")): str(record.get("outcome")) for record in records}
    wrong = []
    for expectation in expectations:
        if (expectation.local, expectation.remote) != (local, remote):
            continue
        techniques = {key for key, _ in expectation.outcomes if key != PATH}
        for key, wanted in expectation.outcomes:
            if key == PATH:
                seen = best_path(records) if techniques <= set(found) else wanted
            else:
                seen = found.get(key, wanted)
            fails_as_wanted = wanted == FAILURE and seen not in CONNECTED
            if seen != wanted and not fails_as_wanted:
                wrong.append(f"{key}: expected {wanted}, found {seen}")
    return wrong
