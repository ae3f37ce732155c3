"""What this machine has and lacks for lab: `lab doctor`.

`kernel` probes features in namespaces that vanish with the probe, `programs`
looks for software, `machine` at limits and at what is left of earlier labs,
`repair` installs.  Nothing here changes the machine but `repair`.
"""

from __future__ import annotations

from collections.abc import Iterator

from lab.observe.doctor import kernel, machine, programs
from lab.observe.doctor.check import Check, Level
from lab.observe.doctor.repair import repair

__all__ = ["Check", "Level", "examine", "repair"]


def examine() -> Iterator[Check]:
    """Every check, in the order in which they are read, as soon as each is known."""
    yield from kernel.checks()
    yield from programs.checks()
    yield from machine.checks()
