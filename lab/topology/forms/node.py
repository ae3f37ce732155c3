"""A node in a file."""

from __future__ import annotations

from typing import Literal

from pydantic import (
    Field,
)

from lab.topology.forms.attached import AttachedForm, NodeIpField
from lab.topology.forms.program import (
    CommandField,
    CpusField,
    EnvField,
    ImageField,
    MemoryField,
    MountsField,
    ServicesField,
)


class NodeForm(AttachedForm):
    """A host and what runs in it: the built-in peer, services, or a program of one's own."""

    via: str = Field(description="The router or switch it is attached to, or internet.")
    ip: NodeIpField | None = Field(
        None,
        description="What it has; absent, what the network has that it is attached to. "
        "link-local: an address that it claims itself.",
    )
    peer: bool = Field(False, description="Runs the built-in peer.")
    service: ServicesField | None = Field(
        None,
        description="A built-in service, a list of them, or services with ports of their own: "
        "{relay: {port: 443}}.",
    )
    services: ServicesField | None = Field(None, description="Built-in services.")
    image: ImageField | None = Field(None, description="A container image to run.")
    command: CommandField | None = Field(
        None,
        description="A program to run, as text or as a list of words; in a "
        "process, ./FILE stands beside the topology.",
    )
    env: EnvField | None = Field(
        None, description="Environment variables of the program, besides those of lab."
    )
    mounts: MountsField | None = Field(
        None,
        description="Host paths that the program sees as others: source:target or "
        "source:target:ro; in a process, the target has to exist.",
    )
    memory: MemoryField | None = Field(
        None, description="The most memory that the program may use, such as 256MB."
    )
    cpus: CpusField | None = Field(None, description="How many CPUs the program may use: 0.5, 2.")
    ready: Literal["started", "signal"] = Field(
        "started",
        description="When a program of one's own is ready: once started, or when it says so "
        "(docs/contract.md).",
    )
