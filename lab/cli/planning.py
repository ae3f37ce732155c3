"""From a topology file to a plan for this machine: what up, apply and graph share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.plan.machine import Machine
    from lab.plan.model import Plan


def probe_machine(runtime: str) -> Machine:
    """What this machine can do, with `runtime` as `--runtime` says it.

    Raises MissingError when a runtime is demanded that is not there.
    """
    from lab.fabric.links import kernel  # noqa: PLC0415 - heavy
    from lab.plan.machine import Machine  # noqa: PLC0415 - heavy
    from lab.runtime.choose import choose  # noqa: PLC0415 - heavy

    chosen = choose(runtime)
    return Machine(
        netem=kernel.supported(),
        runtime=chosen.runtime,
        runtime_reason=chosen.reason,
        peer_image=chosen.peer_image,
    )


def plan_file(
    topology: str,
    *,
    overrides: Sequence[str] = (),
    runtime: str = "auto",
    name: str | None = None,
    seed: int | None = None,
    previous: Plan | None = None,
) -> Plan:
    """The plan of a topology file or of a shipped topology's name.

    Raises InputError for what is wrong in the file, MissingError for what this
    machine can't do.
    """
    from lab.plan.compile import compile_topology  # noqa: PLC0415 - heavy
    from lab.topology.loader import load  # noqa: PLC0415 - heavy

    if seed is not None:
        overrides = (*overrides, f"seed={seed}")
    loaded = load(topology, overrides)
    return compile_topology(loaded, probe_machine(runtime), lab=name, previous=previous)
