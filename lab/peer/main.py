"""The program inside a node: its roles in one event loop (docs/contract.md)."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from lab.peer.events import emit
from lab.peer.node import Node
from lab.peer.rendezvous.client import RendezvousError
from lab.peer.settings import Settings, SettingsError, UnsupportedRoleError, from_environment

UNSUPPORTED = 127


def run() -> int:
    """Serve until SIGTERM; the exit code.

    Reads the environment of the contract, writes JSON lines to standard
    output.  0 after SIGTERM or SIGINT, 1 if a role cannot be served, 2 if the
    environment is wrong, 127 if a role is not supported.
    """
    try:
        settings = from_environment(os.environ)
    except UnsupportedRoleError as error:
        return _fail(str(error), UNSUPPORTED)
    except SettingsError as error:
        return _fail(str(error), 2)
    try:
        return asyncio.run(_serve(settings))
    except (OSError, RendezvousError, SettingsError) as error:
        return _fail(str(error), 1)
    except KeyboardInterrupt:
        return 0


def _fail(reason: str, code: int) -> int:
    emit("failed", reason=reason)
    print(f"lab.peer: {reason}", file=sys.stderr, flush=True)
    return code


async def _serve(settings: Settings) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    node = Node(settings)
    try:
        start, stopped = loop.create_task(node.start()), loop.create_task(stop.wait())
        await asyncio.wait((start, stopped), return_when=asyncio.FIRST_COMPLETED)
        if start.done():
            start.result()
            emit("ready", roles=list(settings.roles))
            await stopped
        start.cancel()
        return 0
    finally:
        await node.close()
