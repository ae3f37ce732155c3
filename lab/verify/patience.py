"""Waiting by a clock that stands still while this program does not run.

A machine that paused kept back what is waited for, too: that nothing came
meanwhile says nothing about the network.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Sequence

SLICE_S = 0.05
"""The longest that is waited at a time, and so the most that a pause counts."""
_LEAST_S = 1e-6
"""Less is what adding up slices leaves."""


class Patience:
    """So many seconds of waiting, in slices; each is heard out, however late it began.

    `while left := patience.left(): ...` waits for `left` at most each time.
    """

    def __init__(self, seconds: float) -> None:
        self._whole = seconds
        self._slice = 0.0
        self._since = 0.0

    def left(self) -> float:
        """How long to wait now, seconds; 0 when it is over.

        The time since the last call counts, but not for more than that call gave.
        """
        now = time.monotonic()
        self._whole -= min(now - self._since, self._slice)
        self._since = now
        self._slice = min(self._whole, SLICE_S) if self._whole >= _LEAST_S else 0.0
        return self._slice


def ready(sockets: Sequence[socket.socket], seconds: float) -> list[socket.socket]:
    """Those of `sockets` that have something to read, as soon as one has; none after `seconds`."""
    patience = Patience(seconds)
    while left := patience.left():
        if found := select.select(sockets, [], [], left)[0]:
            return found
    return []
