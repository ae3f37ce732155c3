"""What the readers of several families are fed with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from functools import cache
from typing import Any

from lab.peer.endpoint import Endpoint
from lab.peer.identity import Identity

Target = Callable[[bytes], object]

HERE, THERE = Endpoint("192.0.2.1", 3478), Endpoint("198.51.100.7", 4000)
RELAYED = Endpoint("192.0.2.1", 50000)
IDENTITY = Identity.create()


def pieces(data: bytes) -> Iterator[bytes]:
    """`data` as a stream may bring it: the first byte says in how long pieces."""
    size = data[0] + 1 if data else 1
    for at in range(1, len(data), size):
        yield data[at : at + size]


def run(task: Coroutine[Any, Any, object]) -> None:
    """Have a loop do this; what it has for us to do later is never done."""
    _loop().run_until_complete(task)


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()
