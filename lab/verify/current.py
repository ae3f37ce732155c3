"""Measuring a lab that changes meanwhile: what seems wrong is measured again, as it is then."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from lab.errors import LabError
from lab.plan.model import Plan

Found = TypeVar("Found")

_TRIES = 8


class ChangedError(Exception):
    """The lab changed each time."""


def steadily(
    now: Callable[[], Plan],
    plan: Plan,
    measure: Callable[[Plan], Found],
    is_right: Callable[[Found], bool],
) -> Found:
    """What `measure` finds of the lab as it is planned at the time.

    What is wrong while the plan changed is measured again by the new plan;
    while a timeline is played also once if the plan seems to be the same, as a
    change is made before it is written down.  Raises what `measure` raises if
    nothing changed meanwhile, and ChangedError if something did each time.
    """
    for number in range(_TRIES):
        wrong: LabError | OSError | None = None
        try:
            found = measure(plan)
        except (LabError, OSError) as error:
            # Also OSError: an address that somebody took along, a socket on an interface that went.
            wrong = error
        else:
            if is_right(found):
                return found
        former, plan = plan, now()
        if plan == former and (number or not plan.timeline):
            if wrong is not None:
                raise wrong
            return found
    raise ChangedError
