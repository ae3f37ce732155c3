"""Happy eyeballs: the first of several endpoints that a connection can be made to (RFC 8305).

The next one is tried when the one before has failed or has taken its time,
and whoever is first is kept; so a family that leads nowhere costs a quarter
of a second instead of a whole timeout.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from lab.peer.endpoint import Endpoint

ATTEMPT_S = 0.25
"""Connection Attempt Delay (section 5 there)."""

T = TypeVar("T")


def preferred(endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """IPv6 first, else as they are (RFC 6724, section 2.1; RFC 8421, section 4)."""
    return sorted(endpoints, key=lambda endpoint: -endpoint.family)


async def first_connected(
    endpoints: Sequence[Endpoint],
    connect: Callable[[Endpoint], Awaitable[T]],
    discard: Callable[[T], None],
) -> T:
    """What `connect` gives for the first endpoint that it works for; the rest are discarded.

    OSError, that of the endpoint which failed first, if it works for none.
    """
    waiting = list(endpoints)
    running: set[asyncio.Task[T]] = set()
    troubles: list[BaseException] = []
    won: list[T] = []
    try:
        while not won and (waiting or running):
            if waiting:
                running.add(asyncio.ensure_future(_await(connect(waiting.pop(0)))))
            done, running = await asyncio.wait(
                running,
                timeout=ATTEMPT_S if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                trouble = task.exception()
                if trouble is None:
                    won.append(task.result())
                else:
                    troubles.append(trouble)
    finally:
        for task in running:
            task.cancel()
        late = await asyncio.gather(*running, return_exceptions=True)
        won += [result for result in late if not isinstance(result, BaseException)]
        for connection in won[1:]:
            discard(connection)
    if won:
        return won[0]
    raise troubles[0] if troubles else OSError("there is no endpoint to connect to")


async def _await(work: Awaitable[T]) -> T:
    return await work
