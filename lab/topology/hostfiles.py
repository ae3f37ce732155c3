"""What a node's program is given of this machine: its mounts, and what a process executes.

Relative names are meant from the topology's folder.  What is certainly not
there, or no program, is said with its line before anything is made; names that
are looked for on a PATH or in an image are not looked for here, nor is what
only the owner of a folder can see.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from lab.topology.behaviour import Mount
from lab.topology.document import Document
from lab.topology.forms.node import NodeForm
from lab.topology.problems import WrongValueError, show

_EXECUTABLE = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH
_RELATIVE = "correct the name, or make it; ./FILE stands beside the topology"


def mount_from(folder: Path, mount: Mount) -> Mount:
    """`mount` with its source absolute."""
    written = os.path.expanduser(mount.source)  # noqa: PTH111 - Path's raises for unknown users
    return Mount(source=_from(folder, written), target=mount.target, read_only=mount.read_only)


def command_from(folder: Path, words: Sequence[str]) -> tuple[str, ...]:
    """What this machine is to run, with files that are named beside the topology absolute."""
    beside = ("./", "../")
    return tuple(_from(folder, word) if word.startswith(beside) else word for word in words)


def check_host_files(document: Document, name: str, form: NodeForm) -> None:
    """Report what the program of the node `name` is to be given and is not on this machine."""
    loc = ("nodes", name)
    folder = Path(document.source).parent
    mounts = form.mounts or []
    # A process has the machine's files, and mounts over them; an image brings its own.
    process = form.command is not None and not form.image
    for place, mount in enumerate(mounts):
        try:
            _check_source(folder, mount)
            if process and not _covered(mount.target, mounts[:place]):
                _check_target(mount.target)
        except WrongValueError as error:
            document.refuse((*loc, "mounts", place), error)
    if process and form.command:
        try:
            _check_program(folder, form.command[0], mounts)
        except WrongValueError as error:
            document.refuse((*loc, "command"), error)


def _check_source(folder: Path, mount: Mount) -> None:
    if _absent(mount_from(folder, mount).source):
        raise WrongValueError(f"there is no {show(mount.source)} to mount", _RELATIVE)


def _check_target(path: str) -> None:
    if _absent(path):
        raise WrongValueError(
            f"there is no {show(path)} to mount over",
            "a process has mounts only over what is there: make it, or use an image",
        )


def _check_program(folder: Path, word: str, mounts: Sequence[Mount]) -> None:
    (path,) = command_from(folder, [word])
    if not path.startswith("/") or _covered(path, mounts):
        return
    if _absent(path):
        raise WrongValueError(f"there is no program {show(word)}", _RELATIVE)
    if not _executable(path):
        raise WrongValueError(
            f"{show(word)} can't be executed", f"name a program, or make it one: chmod +x {word}"
        )


def _covered(path: str, mounts: Sequence[Mount]) -> bool:
    """Whether what stands there may come by one of the mounts."""
    return any(Path(path).is_relative_to(mount.target) for mount in mounts)


def _absent(path: str) -> bool:
    """Whether nothing is there, for certain."""
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def _executable(path: str) -> bool:
    """Whether somebody may execute what is there; True where that can't be seen."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return True
    return stat.S_ISREG(mode) and bool(mode & _EXECUTABLE)


def _from(folder: Path, written: str) -> str:
    """`written` as seen from `folder`, absolute."""
    return os.path.abspath(folder / written)  # noqa: PTH100 - Path's follows links, and may raise
