"""Taking a lab's name: the state folder is the claim, and making it is atomic.

The journal comes into it at once: by that it is known for a lab's (`paths.is_labs`).
"""

from __future__ import annotations

import errno

from lab.errors import InputError, LabError, MissingError
from lab.paths import LabPaths, is_labs, state_root


def check_free(name: str) -> None:
    """InputError if a lab of that name exists: what takes long need not begin for nothing."""
    if LabPaths.of(name).root.exists():
        raise _taken(name)


def claim(name: str) -> LabPaths:
    """Make the state folder of a new lab.

    Raises InputError if a lab of that name exists, MissingError if state can't
    be written where it belongs, LabError if the disk is full.
    """
    paths = LabPaths.of(name)
    try:
        state_root().mkdir(mode=0o755, parents=True, exist_ok=True)
        paths.root.mkdir(mode=0o700)
    except FileExistsError:
        if not state_root().is_dir():
            raise MissingError(
                f"{state_root()} is not a folder", remedy="set LAB_STATE_DIR to one that is"
            ) from None
        raise _taken(name) from None
    except OSError as error:
        raise _no_room(paths, error) from error
    try:
        paths.journal.touch()
        (paths.root / "nodes").mkdir()
    except BaseException as error:  # interrupted, too: what was made goes away again
        paths.journal.unlink(missing_ok=True)
        paths.root.rmdir()
        if isinstance(error, OSError):
            raise _no_room(paths, error) from error
        raise
    return paths


def _taken(name: str) -> InputError:
    folder = LabPaths.of(name).root
    if not (folder.is_dir() and is_labs(folder)):
        return InputError(
            f"{folder} is there, and no lab's",
            remedy="choose another name (--name OTHER), or another folder (LAB_STATE_DIR)",
        )
    return InputError(
        f"a lab named {name!r} exists already",
        remedy=f"remove it (lab down {name}) or choose another name (--name OTHER)",
    )


def _no_room(paths: LabPaths, error: OSError) -> LabError:
    """Why the state folder can't be made, and what to do."""
    if error.errno == errno.ENOSPC:
        return LabError(
            f"no space left for the state folder {paths.root}",
            remedy="make room, or set LAB_STATE_DIR to a folder with space",
        )
    return MissingError(
        f"the state folder {paths.root} can't be made: {error.strerror}",
        remedy="set LAB_STATE_DIR to a folder that you can write",
    )
