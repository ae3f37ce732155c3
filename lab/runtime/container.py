"""What a container of a lab is given: its name, its labels, its mounts, what it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lab.paths import LabPaths
from lab.plan.model import Program
from lab.runtime import gate

LABEL_LAB = "peerlab.lab"
LABEL_STATE = "peerlab.state"
LABEL_NODE = "peerlab.node"

_NANO = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Image:
    """What a container needs to know of its image."""

    identifier: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    user: str


def container_name(paths: LabPaths, node: str) -> str:
    """The name of the node's container, as `docker ps` shows it."""
    return f"{paths.lab}.{node}"


def program_line(image: Image, program: Program) -> tuple[str, ...]:
    """What the container runs: the image's entry point, then the topology's command or its own."""
    return image.entrypoint + (program.command or image.command)


def container_config(
    paths: LabPaths, node: str, program: Program, image: Image, busybox: str
) -> dict[str, Any]:
    """The body of the create call: a container without a network, waiting at its gate."""
    folder = paths.node(node)
    given = {"LAB_NAME": paths.lab, "LAB_NODE": node} | dict(program.env)
    given["LAB_DIR"] = gate.FOLDER
    mounts = [
        _mount(str(folder), gate.FOLDER),
        _mount(busybox, gate.SHELL, read_only=True),
        _mount(str(folder / "hosts"), "/etc/hosts"),
        _mount(str(folder / "resolv.conf"), "/etc/resolv.conf"),
    ]
    mounts += [_mount(m.source, m.target, read_only=m.read_only) for m in program.mounts]
    return {
        "Image": image.identifier,
        "Hostname": node,
        "Entrypoint": gate.entrypoint(program_line(image, program), dict(image.env) | given),
        "Cmd": [],
        "Env": [f"{name}={value}" for name, value in sorted(given.items())],
        "Labels": {**lab_labels(paths), LABEL_NODE: node},
        "HostConfig": {
            "NetworkMode": "none",
            "Mounts": mounts,
            "Memory": program.memory_bytes,
            "NanoCpus": round(program.cpus * _NANO),
            "RestartPolicy": {"Name": "no"},
        },
    }


def lab_labels(paths: LabPaths) -> dict[str, str]:
    """What makes a container one of the lab's."""
    return {LABEL_LAB: paths.lab, LABEL_STATE: str(paths.root)}


def _mount(source: str, target: str, *, read_only: bool = False) -> dict[str, Any]:
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}
