"""Containers or processes: the decision and its reason.

Everything needed for containers is looked at here, so that nothing is missing
when the first one is made.
"""

from __future__ import annotations

from dataclasses import dataclass

from lab.errors import InputError, LabError, MissingError
from lab.runtime import bases, gate, images
from lab.runtime.docker import Engine
from lab.topology.behaviour import Runtime

AUTO = "auto"
CHOICES = (AUTO, Runtime.DOCKER.value, Runtime.PROCESS.value)
"""What `--runtime` may say."""


@dataclass(frozen=True, slots=True)
class Choice:
    """How built-in programs run on this machine, and why."""

    runtime: Runtime
    reason: str
    """The end of a sentence: "no container engine answers"."""
    peer_image: str
    """The image of the built-in programs; it may have to be built (`images.ensure`)."""
    containers: bool
    """Whether containers can run at all: for programs that name an image of their own."""
    to_build: bool = False
    """Whether the peer image must be built before a container can run it."""


def choose(wanted: str) -> Choice:
    """Decide for `--runtime wanted`.

    `auto` takes containers where an engine answers and the peer image exists
    or can be built.  Raises MissingError if `docker` is demanded and the
    machine can't, InputError for an unknown word.
    """
    if wanted not in CHOICES:
        raise InputError(f"unknown runtime {wanted!r}", remedy=f"one of {', '.join(CHOICES)}")
    if wanted == Runtime.PROCESS:
        return _processes("--runtime process asks for it", _containers_possible())
    engine = Engine.demand() if wanted == Runtime.DOCKER else Engine.connect()
    if engine is None:
        return _processes("no container engine answers", containers=False)
    with engine:
        try:
            gate.busybox()
        except MissingError as error:
            if wanted == Runtime.DOCKER:
                raise
            return _processes(error.message, containers=False)
        asked = "--runtime docker asks for it" if wanted == Runtime.DOCKER else ""
        name = images.peer_image()
        if engine.has_image(name):
            reason = asked or "a container engine answers and has the peer image"
            return Choice(Runtime.DOCKER, reason, name, containers=True)
        if wanted == Runtime.DOCKER or bases.can_build():
            reason = asked or "a container engine answers and the peer image can be built"
            return Choice(Runtime.DOCKER, reason, name, containers=True, to_build=True)
    return _processes(
        "the container engine has no peer image (build it: lab image build)", containers=True
    )


def _processes(reason: str, containers: bool) -> Choice:
    try:
        name = images.peer_image()
    except (LabError, OSError):  # an installation without what images are made of
        name = ""
    return Choice(Runtime.PROCESS, reason, name, containers=containers)


def _containers_possible() -> bool:
    try:
        gate.busybox()
    except MissingError:
        return False
    engine = Engine.connect()
    if engine is None:
        return False
    engine.close()
    return True
