"""What is known of a running lab's programs and agent: what status and metrics show.

Which node, of which kind, with which addresses and NAT, is the plan's to say;
these types add what only the running lab knows.  They travel over the agent's
socket as JSON (`to_wire`, `programs_from_wire`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from lab.plan.model import Program
from lab.topology.behaviour import Frozen, Runtime

BUILT_IN = "lab"
"""What the built-in program is called beside others (`program_label`)."""

_SCRIPT = re.compile(r"[^\s-]\S*\.[a-z]{1,4}")


class Stage(StrEnum):
    """How far a program has come."""

    STARTING = "starting"
    """Its process exists; it has not said that it is ready."""
    READY = "ready"
    PAUSED = "paused"
    """It holds still by order."""
    EXITED = "exited"
    """It ended by itself, with `ProgramState.exit_code`."""
    FAILED = "failed"
    """It could not be started, or did not become ready in time; `reason` says why."""


class ProgramState(Frozen, frozen=True):
    """The program of one node, or one of its daemons, at one moment."""

    node: str
    """For a daemon, `<node>/<name>`."""
    runtime: Runtime
    state: Stage = Stage.STARTING
    program: str = ""
    """In words: roles, image or command (`program_words`)."""
    label: str = ""
    """What metrics call it (`program_label`)."""
    pid: int | None = None
    """Of its process, or of a container's first process, seen from the host."""
    exit_code: int | None = None
    """With `exited`; the negative signal number if a signal ended it."""
    reason: str = ""
    """With `failed`: one sentence for a person; with `exited`: its last line, or what killed it."""
    exceeded: str = ""
    """With `exited`: the limit for which the kernel killed it, such as "memory limit (64 MB)"."""
    started_at: float = 0.0
    """Seconds since the epoch; 0 if it never started."""

    @property
    def up(self) -> bool:
        """Whether it can do its work."""
        return self.state is Stage.READY

    def uptime_s(self, now: float) -> float:
        """Seconds since it started; 0 for one that does not run."""
        alive = self.state in (Stage.STARTING, Stage.READY, Stage.PAUSED)
        return max(now - self.started_at, 0.0) if alive and self.started_at else 0.0


class AgentState(Frozen, frozen=True):
    """The background process of a lab; `pid` is None if it is dead."""

    pid: int | None = None
    started_at: float = 0.0
    """Seconds since the epoch; 0 if not known."""
    metrics: str = ""
    """Where the exporter answers: "http://127.0.0.1:41823/metrics"."""

    def uptime_s(self, now: float) -> float:
        """Seconds since it started; 0 if it is dead."""
        return max(now - self.started_at, 0.0) if self.pid and self.started_at else 0.0


def program_words(program: Program, *, brief: bool = False) -> str:
    """What `program` is, in few words: its roles, else its image, else its command.

    `brief` leaves out the folders in which the command's files are.
    """
    if program.roles:
        return ", ".join(program.roles)
    names = (_name_of(word) for word in program.command)
    return program.image or " ".join(names if brief else program.command)


def _name_of(word: str) -> str:
    """The last part of an absolute path; what is none stays as it is."""
    return word.rpartition("/")[2] or word if word.startswith("/") else word


def program_label(program: Program) -> str:
    """What metrics call `program`: `lab` for the built-in one, else its image or its file's name.

    Where an interpreter runs a script (`python3 call.py`), that is the script.
    """
    if program.roles:
        return BUILT_IN
    if program.image:
        return program.image
    script = (word for word in program.command if _SCRIPT.fullmatch(word))
    return next(script, program.command[0]).rpartition("/")[2]


def to_wire(programs: Mapping[str, ProgramState]) -> dict[str, Any]:
    """`programs` as JSON-ready data; `programs_from_wire` reads it."""
    return {node: msgspec.to_builtins(state) for node, state in programs.items()}


def programs_from_wire(data: Mapping[str, Any]) -> dict[str, ProgramState]:
    """The states that `to_wire` wrote; msgspec.ValidationError if they are not."""
    return msgspec.convert(dict(data), dict[str, ProgramState])
