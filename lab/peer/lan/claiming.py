"""Claims a link-local address for its host: `python -m lab.peer.lan.claiming eth0 SEED [FIRST]`.

For hosts whose program does not do so itself.  It goes on until SIGTERM, for
an address is to be defended.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from lab.peer.lan.autoip import LinkLocal


async def claim(interface: str, seed: int, first: str) -> None:
    """Claim and defend, until SIGTERM; OSError without the right to."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    own = LinkLocal(interface, seed, first, _say)
    claimed = loop.create_task(own.start())
    ended = loop.create_task(stop.wait())
    try:
        await asyncio.wait((claimed, ended), return_when=asyncio.FIRST_COMPLETED)
        if claimed.done():
            claimed.result()
            await ended
    finally:
        claimed.cancel()
        own.close()


def _say(address: str) -> None:
    print(f"{address} is this host's", flush=True)


if __name__ == "__main__":
    asyncio.run(claim(sys.argv[1], int(sys.argv[2]), (sys.argv[3:] or [""])[0]))
