"""The network of a lab removed by its journal alone, whatever state it is in.

A namespace may be noted and not made, made and not named, named and not
configured; all are the same here.  Its devices, addresses and rules go with
it.  Programs and containers have to be gone before (`lab.runtime.teardown`):
a process keeps the namespace it is in, though no longer under its name.

Nothing waits for the kernel, which takes namespaces apart in the background
and in batches.  What has to be unique in a lab are the names, and they are
free as soon as the call returns.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from lab.errors import LabError
from lab.fabric import netns
from lab.fabric.journal import NETNS, Entry
from lab.paths import NETNS_DIR

_THREADS = 4
"""They overlap in the kernel's waits, which are most of the time it takes."""


def remove_namespaces(entries: Iterable[Entry]) -> list[str]:
    """Remove the namespaces among `entries`; the names of those that were there.

    Entries of other kinds are left to others.  Raises LabError if one can't be
    removed, after having tried them all.
    """
    names = [entry.name for entry in entries if entry.kind == NETNS and _plain(entry.name)]
    parts = [names[i::_THREADS] for i in range(_THREADS) if names[i::_THREADS]]
    removed: list[str] = []
    failure: LabError | None = None
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="teardown") as pool:
        for gone, error in pool.map(_remove, parts):
            removed += gone
            failure = failure or error
    if failure is not None:
        raise failure
    return sorted(removed)


def _remove(names: Sequence[str]) -> tuple[list[str], LabError | None]:
    gone = []
    failure: LabError | None = None
    for name in names:
        path = NETNS_DIR / name
        if os.path.lexists(path):
            try:
                netns.delete(path)
                gone.append(name)
            except LabError as error:
                failure = failure or error
    return gone, failure


def _plain(name: str) -> bool:
    """Whether `name` stays in its folder: a journal is a file that anybody may have edited."""
    return "/" not in name and name not in ("", ".", "..")
