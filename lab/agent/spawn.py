"""Starting an agent from the command line.

The agent is started before its lab is known, so that its imports overlap with
the reading of the topology.  Until `begin` it owns nothing and ends as soon as
the command line does.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lab.agent import client
from lab.errors import LabError
from lab.paths import LabPaths


@dataclass(slots=True)
class NewAgent:
    """An agent that waits for its first order on a socket of its own."""

    process: subprocess.Popen[bytes]
    sock: socket.socket

    def begin(self, paths: LabPaths, order: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Give it a lab and a first order; yields as `client.ask` does.

        While the order runs, the agent takes the end of this connection as the
        wish to have everything removed.  So it stays open if the order comes to
        no good end: who removes the lab then is alone with that.
        """
        try:
            yield from client.stream(self.sock, order | {"root": str(paths.root)})
        except (EOFError, ConnectionError) as error:
            raise LabError(
                f"the agent of lab {paths.lab!r} ended while it built the lab",
                remedy="its log says why",
            ) from error
        self.sock.close()

    def dismiss(self) -> None:
        """It is not needed after all."""
        self.sock.close()
        self.process.wait()


def last_words(paths: LabPaths) -> list[str]:
    """The last lines of the agent's log, which goes away with a lab that did not come up."""
    try:
        return paths.agent_log.read_text(errors="replace").strip().splitlines()[-15:]
    except OSError:
        return []


def spawn() -> NewAgent:
    """Start an agent in a session of its own: it survives the terminal."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "lab.agent", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=None,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            cwd="/",
            env=_environment(),
        )
    return NewAgent(process, ours)


def _environment() -> dict[str, str]:
    """The agent's environment: ours, with the package findable from any folder."""
    import lab  # noqa: PLC0415 - only for its place

    root = os.path.dirname(os.path.dirname(os.path.abspath(lab.__file__)))  # noqa: PTH100, PTH120 - pathlib is slower here and adds nothing
    path = os.environ.get("PYTHONPATH")
    return os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{path}" if path else root}
