"""Whether the machine kept up while something was measured on it, and measuring again if not.

A link can't be on time on a machine that stands still: a guest whose host has
other things to do, a processor that is somebody else's for a while.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import Self

_PERIOD_S = 0.005
TURNS = 5


class Watch:
    """Notes when a processor ran nothing for a while: on each, a thread wakes all the time."""

    def __init__(self, least_s: float) -> None:
        """What is shorter than `least_s` is no pause."""
        self._least_s = least_s
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._look, args=(cpu,), daemon=True)
            for cpu in sorted(os.sched_getaffinity(0))
        ]
        self.pauses_s: list[float] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def __str__(self) -> str:
        if not self.pauses_s:
            return f"the machine never paused for {self._least_s * 1e3:.0f} ms"
        longest = max(self.pauses_s) * 1e3
        return f"the machine paused {len(self.pauses_s)} times, for up to {longest:.0f} ms"

    def _look(self, cpu: int) -> None:
        # Of this thread alone; a processor may be gone or forbidden by now.
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, {cpu})
        before = time.monotonic()
        while not self._over.is_set():
            time.sleep(_PERIOD_S)
            now = time.monotonic()
            if now - before - _PERIOD_S >= self._least_s:
                self.pauses_s.append(now - before - _PERIOD_S)
            before = now


def measured(check: Callable[[], None], least_s: float, *, again: bool) -> None:
    """Call `check`, and with `again` anew while it fails and the machine paused meanwhile.

    A pause is one of `least_s` or more.  Raises the last AssertionError, with what the
    machine did.
    """
    for turn in range(1, TURNS + 1):
        watch = Watch(least_s)
        try:
            with watch:
                check()
        except AssertionError as error:
            if again and watch.pauses_s and turn < TURNS:
                continue
            error.add_note(f"turn {turn}: {watch}")
            raise
        return
