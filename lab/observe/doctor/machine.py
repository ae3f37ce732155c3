"""How large a lab this machine carries, and what is left here of earlier ones."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Mapping
from pathlib import Path

from lab.observe.doctor.check import Check, Level, found_or
from lab.paths import NETNS_DIR, LabPaths, labs_in, state_root
from lab.runtime import limits

_SYSCTL = Path("/proc/sys")

_LIMITS = (
    (
        "kernel/pid_max",
        32768,
        "processes and threads: a node's program is one or more",
    ),
    ("user/max_net_namespaces", 4096, "a node is a namespace"),
    (
        "net/ipv4/neigh/default/gc_thresh3",
        8192,
        "neighbours, of all namespaces together: a link needs two; beyond it packets are lost",
    ),
    ("net/netfilter/nf_conntrack_max", 65536, "connections that each NAT can keep track of"),
)
"""Kernel limits: name, what is enough for a thousand nodes, what it limits."""

_FILES = 4096
_MEMORY_BYTES = 1 << 30
_STATE_BYTES = 64 << 20


def checks() -> Iterator[Check]:
    """Limits, the state folder, and labs that nobody looks after."""
    yield _open_files()
    for name, enough, why in _LIMITS:
        limit = _sysctl(name, enough, why)
        if limit is not None:
            yield limit
    yield _memory()
    yield program_limits(limits.trees())
    yield state_folder(state_root())
    yield from leftovers(state_root(), NETNS_DIR)


def _open_files() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = hard == resource.RLIM_INFINITY
    enough = unlimited or hard >= _FILES
    return Check(
        group="limits",
        name="open files",
        level=found_or(Level.WARNING, enough),
        found=f"{soft}, at most {'unlimited' if unlimited else hard}",
        why="two for each user-space link, and some for each program",
        remedy="" if enough else f"ulimit -Hn {_FILES} before lab is started",
    )


def _sysctl(name: str, enough: int, why: str) -> Check | None:
    try:
        value = int((_SYSCTL / name).read_text())
    except (OSError, ValueError):
        return None  # this kernel has no such limit, or the module isn't loaded
    dotted = name.replace("/", ".")
    return Check(
        group="limits",
        name=dotted,
        level=found_or(Level.WARNING, value >= enough),
        found=str(value),
        why=why,
        remedy="" if value >= enough else f"sysctl -w {dotted}={enough} (for large labs)",
    )


def _memory() -> Check:
    text = Path("/proc/meminfo").read_text()
    line = next(line for line in text.splitlines() if line.startswith("MemAvailable:"))
    free = int(line.split()[1]) * 1024
    return Check(
        group="limits",
        name="memory",
        level=found_or(Level.WARNING, free >= _MEMORY_BYTES),
        found=f"{free / (1 << 30):.1f} GiB available",
        why="a process peer takes about 4 MiB, a container more",
        remedy="" if free >= _MEMORY_BYTES else "stop something, or keep labs small",
    )


def program_limits(trees: Mapping[str, limits.Tree]) -> Check:
    """By which control groups `memory:` and `cpus:` of process programs are kept, if at all."""
    found = ", ".join(
        f"{key} by {'cgroup2' if tree.unified else 'cgroup v1'}" for key, tree in trees.items()
    )
    lacking = [key for key in (limits.MEMORY, limits.CPUS) if key not in trees]
    if lacking:
        found = "; ".join(filter(None, (found, f"no control group for {' and '.join(lacking)}")))
    return Check(
        group="limits",
        name="limits of programs",
        level=found_or(Level.WARNING, not lacking),
        found=found,
        why="`memory:` and `cpus:` of programs that are processes; containers have the engine's",
        remedy=(
            ""
            if not lacking
            else "as root: echo '+memory +cpu' > "
            "/sys/fs/cgroup/cgroup.subtree_control, or use containers"
        ),
    )


def state_folder(root: Path) -> Check:
    """Whether the folder `root` (or the first one above it that exists) can be written."""
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    writable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    free = 0
    if writable:
        space = os.statvfs(existing)
        free = space.f_bavail * space.f_frsize
    good = writable and free >= _STATE_BYTES
    return Check(
        group="limits",
        name="state folder",
        level=found_or(Level.MISSING, good),
        found=f"{root}, {free >> 20} MiB free" if writable else f"{existing} can't be written",
        why="what a lab consists of is written down before it is made",
        remedy="" if good else "free space there, or set LAB_STATE_DIR to another folder",
    )


def leftovers(root: Path, names: Path) -> Iterator[Check]:
    """Labs in `root` whose agent is dead, and namespaces in `names` that look like a lab's.

    A namespace of no lab in `root` is reported and no more: the state folder
    says what is ours, and a name proves nothing.
    """
    labs = labs_in(root)
    dead = [lab for lab in labs if not locked(LabPaths(root / lab).agent_lock)]
    for lab in dead:
        yield Check(
            group="labs",
            name=lab,
            level=Level.WARNING,
            found="its agent is dead, or it never came up",
            why="its network still takes memory",
            remedy=f"lab down {lab}",
        )
    namespaces = sorted(entry.name for entry in names.iterdir()) if names.is_dir() else []
    # A lab's name may contain dots, so the node is what follows the last one.
    strange = [name for name in namespaces if "." in name and name.rpartition(".")[0] not in labs]
    if strange:
        shown = ", ".join(strange[:3]) + (" …" if len(strange) > 3 else "")
        yield Check(
            group="labs",
            name="unknown namespaces",
            level=Level.WARNING,
            found=f"{len(strange)} named like a lab's, but of no lab in {root}: {shown}",
            why="they may be of a lab with another LAB_STATE_DIR, or not of lab at all",
            remedy=f"if nobody needs them: ip netns delete {strange[0]}",
        )
    if not dead and not strange:
        found = f"{len(labs)} running, nothing left behind" if labs else "nothing left behind"
        yield Check(group="labs", name="earlier labs", found=found)


def locked(path: Path) -> bool:
    """Whether some process holds a lock on `path`, found without touching the lock."""
    try:
        status = path.stat()
    except OSError:
        return False
    where = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    held = (line.split() for line in Path("/proc/locks").read_text().splitlines())
    return any(where in fields for fields in held)
