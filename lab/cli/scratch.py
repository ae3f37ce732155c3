"""Labs for the length of a command: there when they are needed, gone however it ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.paths import LabPaths
    from lab.plan.model import Plan


def scratch_name(purpose: str) -> str:
    """A lab name that nobody else uses."""
    return f"{purpose}-{os.getpid()}"


@contextmanager
def scratch_labs(plans: Sequence[Plan]) -> Iterator[list[LabPaths]]:
    """The labs of `plans`, running; everything of them is removed at the end.

    Interrupting the command or telling it to end removes them too.  Raises as
    `lab up` does.
    """
    from lab.agent.teardown import destroy

    made: list[LabPaths] = []
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for plan in plans:
            _bring_up(plan, made)
        yield made
    finally:
        # From here on there is nothing to interrupt.
        interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for paths in made:
            destroy(paths)
        signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGTERM, before)


def _bring_up(plan: Plan, made: list[LabPaths]) -> None:
    """Make one lab; it is in `made` as soon as anything of it exists."""
    from lab.agent.spawn import spawn
    from lab.cli.claim import claim
    from lab.plan.model import encode

    agent = spawn()
    try:
        made.append(claim(plan.lab))
    except BaseException:
        agent.dismiss()
        raise
    order = {"do": "up", "plan": encode(plan).decode(), "metrics_port": 0}
    for _ in agent.begin(made[-1], order):
        pass
