"""Claims a link-local address for its host: `python -m lab.peer.lan.claiming eth0 SEED [FIRST]`.

One that starts again finds what it had.  It goes on until SIGTERM, for an
address is to be defended.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from lab.peer.lan.autoip import LinkLocal, address_of


async def claim(interface: str, seed: int, first: str) -> None:
    """Claim and defend, until SIGTERM; OSError without the right to."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    own = LinkLocal(interface, seed, address_of(interface) or first, _say)
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
