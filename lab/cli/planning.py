"""From a topology file to a plan for this machine: what the commands share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.plan.machine import Machine
    from lab.plan.model import Plan
    from lab.topology.model import Topology


def probe_machine(runtime: str, *, build: bool = False) -> Machine:
    """What this machine can do, with `runtime` as `--runtime` says it.

    With `build`, the peer's image is built if it is wanted and missing, which
    is said, as it takes its time.  Raises MissingError when a runtime is
    demanded that is not there.
    """
    from lab.cli.terminal import say
    from lab.fabric.links import bpf, kernel
    from lab.plan.machine import Machine
    from lab.runtime import images, limits
    from lab.runtime.choose import choose
    from lab.runtime.docker import Engine

    choice = choose(runtime)
    if build and choice.to_build:
        with Engine.demand() as engine:
            images.ensure(engine, say)
    return Machine(
        netem=kernel.supported(),
        netem_seed=kernel.seeded(),
        splice=bpf.supported(),
        containers=choice.containers,
        limits=tuple(limits.trees()),
        runtime=choice.runtime,
        runtime_reason=choice.reason,
        peer_image=choice.peer_image,
    )


def load_file(topology: str, overrides: Sequence[str], seed: int | None = None) -> Topology:
    """The topology in a file, or the shipped one of that name; InputError for what is wrong."""
    import os

    import msgspec

    from lab.topology.loader import load

    if seed is not None:
        overrides = (*overrides, f"seed={seed}")
    loaded = load(topology, overrides)
    return msgspec.structs.replace(loaded, source=os.path.abspath(loaded.source))  # noqa: PTH100 - the name as written, links and all


def plan_anywhere(topology: Topology) -> Plan:
    """The plan of `topology` whatever this machine can do: to check, draw and predict by.

    Raises InputError for what is wrong in the topology.
    """
    from lab.plan.compile import compile_topology
    from lab.plan.machine import Machine

    return compile_topology(topology, Machine(containers=True))


def plan_file(
    topology: str,
    *,
    overrides: Sequence[str] = (),
    runtime: str = "auto",
    name: str | None = None,
    seed: int | None = None,
    build: bool = False,
) -> Plan:
    """The plan of a topology file or of a shipped topology's name.

    Raises InputError for what is wrong in the file or with `name`, MissingError
    for what this machine can't do.
    """
    from lab.errors import InputError
    from lab.plan.compile import compile_topology
    from lab.topology.names import NAME, NAME_HELP

    # It becomes the name of a folder, of namespaces and of containers.
    if name is not None and not NAME.fullmatch(name):
        raise InputError(f"--name: {name!r} can't be a name", remedy=NAME_HELP)
    loaded = load_file(topology, overrides, seed)
    if build:
        from lab.cli.claim import check_free

        check_free(name or loaded.name)
    built_in = any(node.peer or node.services for node in loaded.nodes)
    return compile_topology(loaded, probe_machine(runtime, build=build and built_in), lab=name)
