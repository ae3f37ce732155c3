"""What runs in a node, and the environment that it is told its world by."""

from __future__ import annotations

from collections.abc import Iterator

from lab.errors import InputError, MissingError
from lab.plan import coturn
from lab.plan.machine import Machine
from lab.plan.model import Program
from lab.plan.services import SERVICES, Services
from lab.topology.behaviour import Runtime
from lab.topology.model import NodeSpec, Topology

_ROLES = (*SERVICES, "peer")


def program_of(
    spec: NodeSpec,
    *,
    lab: str,
    machine: Machine,
    services: Services,
) -> Program | None:
    """The program of a node, None if it has none.

    Raises InputError for a contradiction in the file, MissingError for a
    container where the machine has no engine.
    """
    roles = _roles(spec)
    if not (roles or spec.image or spec.command):
        return None
    runtime = machine.runtime if roles else Runtime.DOCKER if spec.image else Runtime.PROCESS
    environment = services.environment(lab, spec, roles) | _own_environment(spec)
    if spec.image and not machine.containers:
        raise MissingError(
            f"{spec.name} is the image {spec.image}, and containers cannot be used here"
            + (f": {machine.runtime_reason}" if machine.runtime_reason else ""),
            remedy=(
                "Start a container engine (`lab doctor` says what is missing) and leave "
                "`--runtime` at auto, or give the node a `command` instead of an image."
            ),
            where=spec.where,
        )
    return Program(
        runtime=runtime,
        roles=roles,
        image=machine.peer_image if roles and runtime is Runtime.DOCKER else spec.image,
        command=spec.command,
        env=tuple(sorted(environment.items())),
        mounts=spec.mounts,
        memory_bytes=spec.memory_bytes,
        cpus=spec.cpus,
        ready_signal=bool(roles) or spec.ready_signal,
        stage=0 if spec.services else 1,
    )


def notes(topology: Topology, machine: Machine) -> Iterator[str]:
    """What was decided about runtimes, for people."""
    if any(spec.peer or spec.services for spec in topology.nodes):
        what = "containers" if machine.runtime is Runtime.DOCKER else "processes"
        reason = f": {machine.runtime_reason}" if machine.runtime_reason else ""
        yield f"built-in programs run as {what}{reason}"
    yield from _ignored(topology, machine)


def _ignored(topology: Topology, machine: Machine) -> Iterator[str]:
    """What a process is asked to keep to and can't."""
    asked: dict[str, list[str]] = {}
    for spec in topology.nodes:
        built_in = bool(spec.peer or spec.services)
        if spec.image or (built_in and machine.runtime is Runtime.DOCKER):
            continue
        # The built-in program sees the machine's files as they are.
        values = {
            "memory": spec.memory_bytes and "memory" not in machine.limits,
            "cpus": spec.cpus and "cpus" not in machine.limits,
            "mounts": built_in and spec.mounts,
        }
        for key, value in values.items():
            if value:
                asked.setdefault(key, []).append(spec.name)
    for key, names in asked.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        who = ", ".join(names[:3]) + more
        why = "that takes a container, and this is a process"
        if key != "mounts":
            why = "no control group here limits a process (`lab doctor`)"
        yield f"`{key}` has no effect on {who}: {why}"


def _roles(spec: NodeSpec) -> tuple[str, ...]:
    # A real server is a daemon and no role of the built-in program.
    wanted = {*spec.services, *(["peer"] if spec.peer else [])} - {coturn.SERVICE}
    roles = tuple(role for role in _ROLES if role in wanted)
    if unknown := sorted(wanted - set(_ROLES)):
        raise InputError(
            f"{spec.name} has the service {unknown[0]}, which there is not",
            remedy=f"The services are {', '.join(SERVICES)}.",
            where=spec.where,
        )
    if roles and (spec.image or spec.command):
        raise InputError(
            f"{spec.name} has both a built-in program ({', '.join(roles)}) and one of its own",
            remedy="Keep `peer` and `service`, or `image` and `command`.",
            where=spec.where,
        )
    return roles


def _own_environment(spec: NodeSpec) -> dict[str, str]:
    for key, _ in spec.env:
        if key.startswith("LAB_"):
            raise InputError(
                f"{spec.name} sets {key}, but names that begin with LAB_ belong to the contract",
                remedy="Give the variable another name; docs/contract.md lists those there are.",
                where=spec.where,
            )
    return dict(spec.env)
