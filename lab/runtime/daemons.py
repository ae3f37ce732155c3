"""Daemons of nodes: real programs from packages, beside a node's own program.

The agent starts them through the zygote like any command.  What is special
about them is here: their files, whether this machine
has them, and how to see that one is ready without its help.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from lab.errors import LabError, MissingError
from lab.paths import LabPaths
from lab.plan.model import Daemon, Node

READY_DEADLINE_S = 30.0
"""How long a daemon may take to open its ports."""

DIR = "{dir}"
"""Stands for the daemon's folder in its command and files."""
PYTHON = "{python}"
"""Stands for the Python that runs lab, for a daemon that is a module of it."""
_MODULE = (PYTHON, "-m")
"""What the command of such a daemon begins with."""

_ADMINISTRATORS = "/usr/local/sbin:/usr/sbin:/sbin"
_LOOK_AGAIN_S = 0.005
_LISTENING = {"tcp": "0A", "udp": "07"}
"""The state of an unconnected socket in /proc/net, by protocol (TCP_LISTEN, TCP_CLOSE)."""


def search_path(path: str) -> str:
    """`path` and the folders of administrators' programs, which not everybody's PATH has."""
    return f"{path}:{_ADMINISTRATORS}"


def demand(nodes: Iterable[Node]) -> None:
    """Raise MissingError, with the package to install, if a daemon's executable is not here."""
    path = search_path(os.environ.get("PATH", os.defpath))
    for node in nodes:
        for daemon in node.daemons:
            if daemon.command[0] != PYTHON and not shutil.which(daemon.command[0], path=path):
                package = daemon.package or daemon.command[0]
                raise MissingError(
                    f"router or node {node.name!r} runs {daemon.command[0]}, "
                    "which is not installed here",
                    remedy=f"apt-get install {package}",
                )


def is_module(daemon: Daemon) -> bool:
    """Whether the daemon is a module of lab, which its arguments follow in its command."""
    return daemon.command[: len(_MODULE)] == _MODULE


def write_files(paths: LabPaths, node: str, daemon: Daemon) -> tuple[str, ...]:
    """Write the daemon's files into its folder; its command, ready to be executed."""
    folder = paths.node(daemon.key(node))
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in daemon.files:
        (folder / name).write_text(text.replace(DIR, str(folder)))
    known = {PYTHON: sys.executable}
    return tuple(known.get(word, word.replace(DIR, str(folder))) for word in daemon.command)


async def listening(pid: int, ports: tuple[str, ...], ended: asyncio.Event) -> bool:
    """Wait until all `ports` are open where `pid` is; False if `ended` is set before.

    The kernel tells nobody that a socket began to listen, so it is asked until
    it is so.  Raises LabError with the ports that are closed after 30 s.
    """
    missing = ports
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(READY_DEADLINE_S):
            while not ended.is_set():
                missing = tuple(port for port in missing if not _open(pid, port))
                if not missing:
                    return True
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_AGAIN_S):
                        await ended.wait()
            return False
    raise LabError(f"it did not open {', '.join(missing)} in {READY_DEADLINE_S:.0f} s")


def _open(pid: int, port: str) -> bool:
    protocol, _, number = port.partition("/")
    if protocol == "tun":
        return _attached(pid, number)
    if protocol == "address":
        return _addressed(pid, number)
    wanted = f"{int(number):04X}"
    for table in (protocol, f"{protocol}6"):
        try:
            lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            # sl, local address, remote address, state, ...
            local, _, state = line.split()[1:4]
            if state == _LISTENING[protocol] and local.rpartition(":")[2] == wanted:
                return True
    return False


def _addressed(pid: int, interface: str) -> bool:
    """Whether the interface has an IPv4 address: there is a route to the network of each."""
    try:
        routes = Path(f"/proc/{pid}/net/route").read_text().splitlines()[1:]
    except OSError:
        return False
    return any(route.split()[0] == interface for route in routes)


def _attached(pid: int, device: str) -> bool:
    """Whether the process itself holds that TUN device."""
    try:
        for descriptor in Path(f"/proc/{pid}/fdinfo").iterdir():
            if f"iff:\t{device}\n" in descriptor.read_text():
                return True
    except OSError:
        pass  # It ended, or closed that file, while we looked.
    return False
