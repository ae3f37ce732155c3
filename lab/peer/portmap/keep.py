"""A lease kept for as long as it is needed: renewed at half of its life, then given back."""

from __future__ import annotations

import asyncio
import contextlib

from lab.peer.portmap.ask import Client
from lab.peer.portmap.lease import Lease, PortmapError

RETRY_S = 1.0
"""Between two tries to renew."""
RELEASE_S = 2.0


class Kept:
    """A lease under care; made by `keep`."""

    def __init__(self, client: Client, lease: Lease, lifetime_s: int) -> None:
        self.lease = lease
        self.renewals = 0
        self.trouble = ""
        """Why the last renewal failed; "" if it did not."""
        self._client = client
        self._lifetime_s = lifetime_s
        self._task = asyncio.get_running_loop().create_task(self._renew())

    async def release(self) -> None:
        """Give the port back; a router that does not answer will forget it by itself."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(PortmapError, OSError, TimeoutError):
            async with asyncio.timeout(RELEASE_S):
                await self._client.release(self.lease)

    async def _renew(self) -> None:
        while self.lease.lifetime_s:
            # A timer and not a wait for something else: RFC 6887, section 11.2.1.
            await asyncio.sleep(RETRY_S if self.trouble else max(0.5, self.lease.lifetime_s / 2))
            lease = self.lease
            try:
                again = await self._client.map(
                    lease.protocol, lease.internal_port, self._lifetime_s
                )
            except (PortmapError, OSError) as error:
                self.trouble = str(error)
                continue
            self.trouble = ""
            self.renewals += 1
            self.lease = again


async def keep(client: Client, protocol: int, port: int, lifetime_s: int) -> Kept:
    """Ask for a port and keep it; PortmapError if it is not granted."""
    lease = await client.map(protocol, port, lifetime_s)
    return Kept(client, lease, lifetime_s)
