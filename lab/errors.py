"""Errors that a person is meant to read.

Raised where the fact is known, printed in one place (`lab.cli.main`).  Every
class carries the exit code of the command that it ends; every instance says
what happened and what to do about it.
"""

from __future__ import annotations

from typing import ClassVar


class LabError(Exception):
    """The lab failed (exit code 4).

    `message` says what happened, `remedy` what a person can do about it, and
    `where` is the `file:line` that caused it, if there is one.
    """

    exit_code: ClassVar[int] = 4
    kind: ClassVar[str] = "failed"

    def __init__(self, message: str, *, remedy: str = "", where: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.where = where

    def __str__(self) -> str:
        head = f"{self.where}: {self.message}" if self.where else self.message
        return f"{head}\n  {self.remedy}" if self.remedy else head


class AnswerNoError(LabError):
    """The question was answered, and the answer is no (exit code 1)."""

    exit_code = 1
    kind = "no"


class InputError(LabError):
    """What was typed or written in a file is wrong (exit code 2)."""

    exit_code = 2
    kind = "input"


class MissingError(LabError):
    """The machine lacks something that the command needs (exit code 3)."""

    exit_code = 3
    kind = "missing"


_BY_KIND = {cls.kind: cls for cls in (LabError, AnswerNoError, InputError, MissingError)}


def error_from_wire(data: dict[str, str]) -> LabError:
    """The error that `error_to_wire` described; used across the agent's socket."""
    cls = _BY_KIND.get(data.get("kind", ""), LabError)
    return cls(
        data.get("message", "unknown error"),
        remedy=data.get("remedy", ""),
        where=data.get("where", ""),
    )


def error_to_wire(error: BaseException) -> dict[str, str]:
    """A JSON-ready description of `error` (any exception) for the agent's socket."""
    if isinstance(error, LabError):
        return {
            "kind": error.kind,
            "message": error.message,
            "remedy": error.remedy,
            "where": error.where,
        }
    return {"kind": LabError.kind, "message": f"{type(error).__name__}: {error}"}
