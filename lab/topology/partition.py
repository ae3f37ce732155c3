"""A partition as people write it: groups of names that can't reach one another."""

from __future__ import annotations

from typing import Any

from lab.topology.problems import WrongValueError, show

PARTITION_HELP = "write groups: alice, bob / carol; one group is kept apart from the rest"


def parse_partition(value: Any) -> tuple[tuple[str, ...], ...]:
    """The groups of `alice, bob / carol`, or of a list of lists; WrongValueError if they aren't."""
    groups = value
    if isinstance(value, str):
        groups = [part.replace(",", " ").split() for part in value.split("/")]
    if not isinstance(groups, list) or not groups:
        raise WrongValueError(f"{show(value)} is no partition", PARTITION_HELP)
    for group in groups:
        if not isinstance(group, list) or not all(isinstance(name, str) for name in group):
            raise WrongValueError(f"{show(group)} is no group of names", PARTITION_HELP)
        if not group:
            raise WrongValueError(f"{show(value)} has an empty group", PARTITION_HELP)
    return tuple(tuple(dict.fromkeys(group)) for group in groups)
