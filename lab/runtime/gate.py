"""The gate: a container's program starts only when its network stands.

A container has to exist before its network namespace can be wired, and its
program must not run before that.  So the container starts as a shell that
looks for the program, says that it has got so far, waits, and then becomes the
program: same process, same arguments, same environment.  The shell is the
host's static busybox, bound into the container, so that this works for every
image, one without a shell included.

Two FIFOs in the node's folder carry it: the shell writes to `REACHED` what it
found, and reads `GATE`.  It has `GATE` open before it writes, so whoever
holds the other end may write and let go; and if they die instead, the shell
reads the end of the file and ends too.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import MissingError

if TYPE_CHECKING:
    import asyncio

GATE = ".gate"
REACHED = ".reached"
FOLDER = "/lab"
"""Where a container sees its node's folder."""
SHELL = "/.lab/busybox"
"""Where a container sees the host's busybox."""

ABANDONED = 125
"""Exit code of a gate whose keeper died."""

_CHUNK = 1 << 12
_BUSYBOX = ("/bin/busybox", "/usr/bin/busybox", "/usr/lib/initramfs-tools/bin/busybox")

# Positional arguments: the program and its arguments.  `exec` with a full path,
# because the shell would prefer its own applet to the image's program of the
# same name; `-a`, because the program is to see the name that it was called by.
# The variables that the shell exports by itself are taken back, and the script's
# own have names that no program's environment has.
_SCRIPT = r"""
{unset}
__lab_fail() {{ echo "$2" >&2; echo "$1 $2" >{folder}/{reached}; exit "$1"; }}
__lab_find() {{
  case $1 in
    '') __lab_fail 127 "no program to run: neither the image nor the topology names one" ;;
    */*) [ -e "$1" ] || __lab_fail 127 "$1: not found in the image"
         [ -f "$1" ] && [ -x "$1" ] || __lab_fail 126 "$1: not executable"
         __lab=$1; return ;;
  esac
  IFS=:
  for __lab in ${{PATH:-{path}}}; do
    __lab=${{__lab:-.}}/$1
    [ -f "$__lab" ] && [ -x "$__lab" ] && {{ unset IFS; return; }}
  done
  __lab_fail 127 "$1: not found in the image's PATH"
}}
__lab_find "$1"
exec 8<{folder}/{gate}
echo 0 >{folder}/{reached}
read -r __lab_go <&8 || exit {abandoned}
exec 8<&-
{become}
"""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHELL_EXPORTS = ("PWD", "OLDPWD", "SHLVL", "_")

_ELF_PROGRAM_INTERPRETER = 3


def entrypoint(program: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """The container's entry point: the gate, then `program`.

    `env` is the environment that the program is to have.  A shell passes on
    only variables whose names it can read; the rest are given back by `env`,
    at the price that the program then sees its full path as its name.
    """
    foreign = {name: value for name, value in env.items() if not _NAME.fullmatch(name)}
    become = '__lab_name=$1; shift; exec -a "$__lab_name" "$__lab" "$@"'
    if foreign:
        given = " ".join(_quote(f"{name}={value}") for name, value in sorted(foreign.items()))
        become = f'shift; exec {SHELL} env {given} "$__lab" "$@"'
    invented = [name for name in _SHELL_EXPORTS if name not in env]
    script = _SCRIPT.format(
        unset=f"unset {' '.join(invented)}" if invented else "",
        folder=FOLDER,
        reached=REACHED,
        gate=GATE,
        path=_PATH,
        abandoned=ABANDONED,
        become=become,
    )
    return [SHELL, "sh", "-c", script, "lab", *program]


def make(folder: Path) -> tuple[int, int]:
    """Make both FIFOs in a node's folder and open them: (gate, reached).

    Both descriptors are non-blocking and close on exec.  World-writable where
    the shell writes: a container's program may run as any user.
    """
    opened = []
    for name, mode in ((GATE, 0o644), (REACHED, 0o622)):
        path = folder / name
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        path.chmod(mode)
        opened.append(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
    return opened[0], opened[1]


def hear(reached: int, said: asyncio.Future[bytes]) -> None:
    """Take the shell's word; short enough to come in one piece (pipe(7), PIPE_BUF)."""
    with contextlib.suppress(BlockingIOError):
        data = os.read(reached, _CHUNK)
        if not said.done():
            said.set_result(data)


def let_go(descriptor: int) -> None:
    """Let the program run, and close our end of its gate."""
    # The shell has the other end open: what is written stays until it is read.
    os.write(descriptor, b"go\n")
    os.close(descriptor)


def check_shared(folder: Path, pid: int) -> None:
    """MissingError unless process `pid`, which waits at the gate in `folder`, runs here.

    An engine in a virtual machine has process numbers that mean others, or nothing, here.
    """
    theirs = Path(f"/proc/{pid}/root{FOLDER}/{GATE}")
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        if theirs.samefile(folder / GATE):
            return
    if not Path(f"/proc/{pid}").exists():
        return  # gone already: its exit code will say why
    raise MissingError(
        "the Docker engine does not run on this machine, or sees other files",
        remedy="point DOCKER_HOST at an engine of this machine, or use --runtime process",
    )


def busybox() -> Path:
    """The host's static busybox; MissingError if there is none.

    A busybox that needs the host's libraries would not run inside an image.
    """
    for name in _BUSYBOX:
        path = Path(name)
        if path.is_file() and is_static(path):
            return path
    raise MissingError(
        "containers need a static busybox on this machine, and there is none",
        remedy="install it: apt-get install busybox-static (or use --runtime process)",
    )


def is_static(path: Path) -> bool:
    """Whether an ELF program needs no interpreter, that is, no libraries of its host."""
    with path.open("rb") as stream:
        head = stream.read(64)
        if head[:4] != b"\x7fELF":
            return False
        order = "<" if head[5] == 1 else ">"
        if head[4] == 2:  # 64 bits: e_phoff, e_phentsize, e_phnum
            (offset,) = struct.unpack_from(f"{order}Q", head, 32)
            size, count = struct.unpack_from(f"{order}HH", head, 54)
        else:
            (offset,) = struct.unpack_from(f"{order}I", head, 28)
            size, count = struct.unpack_from(f"{order}HH", head, 42)
        stream.seek(offset)
        table = stream.read(size * count)
    kinds = (struct.unpack_from(f"{order}I", table, i * size)[0] for i in range(count))
    return _ELF_PROGRAM_INTERPRETER not in kinds


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
