"""Where control groups are mounted here, and which group the calling process is in.

There may be one tree for everything (cgroup2), one for each controller (the old
hierarchies), or both side by side; cgroups(7).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")


def mounted(controller: str = "") -> tuple[str, Path] | None:
    """The part of a tree that is mounted, and where; None if it is not.

    Without `controller` that is cgroup2, else the old hierarchy of that one.
    """
    with contextlib.suppress(OSError):
        for line in (_PROC / "self" / "mountinfo").read_text().splitlines():
            mount, _, system = line.partition(" - ")
            kind, _, options = system.split(" ", 2)
            wanted = (
                kind == "cgroup" and controller in options.split()[-1].split(",")
                if controller
                else kind == "cgroup2"
            )
            if wanted:
                root, point = mount.split()[3:5]
                return root, Path(point)
    return None


def own(controller: str = "") -> Path | None:
    """The folder of the caller's group, in cgroup2 or in the old hierarchy of `controller`."""
    for controllers, path in _groups("self"):
        if controller in controllers.split(",") if controller else not controllers:
            return _folder(controller, path)
    return None


def of(pid: int) -> list[Path]:
    """The folders of all groups that the process `pid` is in, one of each tree."""
    found = (_folder(controllers.split(",")[0], path) for controllers, path in _groups(str(pid)))
    return [folder for folder in found if folder is not None]


def _groups(process: str) -> Iterator[tuple[str, str]]:
    """The controllers of each tree, "" for cgroup2, and where in it the process is."""
    with contextlib.suppress(OSError, ValueError):
        for line in (_PROC / process / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            yield controllers, path


def _folder(controller: str, path: str) -> Path | None:
    mount = mounted(controller)
    if mount is None:
        return None
    root, point = mount
    with contextlib.suppress(ValueError):
        return point / Path(path).relative_to(root)
    return None
