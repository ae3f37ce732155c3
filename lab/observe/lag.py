"""How late this machine wakes a thread that waits for a timer.

A peer that should send at t sends at t plus this lag, so a lag near the delays
that a lab emulates distorts it.  What is wanted is the lag of the machine, not
of this interpreter: a thread that was woken in time may still wait for the
global lock.  timerfd tells the two apart.  A read of an interval timer returns
how many intervals passed since it expired, counted in the kernel the moment
the reader runs (timerfd_create(2)); with a short interval that number is the
lag.  The kernel arms such a timer again only when it is read, so a short
interval costs nothing.
"""

from __future__ import annotations

import ctypes
import os
import struct
import threading

from lab.observe.histogram import Counting, Histogram

PERIOD_S = 0.05
"""Between two measurements: 20 wake-ups a second cost nothing and miss little."""

RESOLUTION_S = 20e-6

BOUNDS_S = (
    *(0.00005, 0.0001, 0.0002, 0.0005),
    *(0.001, 0.002, 0.005),
    *(0.01, 0.02, 0.05),
    *(0.1, 0.2, 0.5, 1.0),
)
"""Upper bounds of the histogram's buckets, in seconds; one more is open."""

_TFD_CLOEXEC = 0o2000000
_CLOCK_MONOTONIC = 1


class LagMeter:
    """A thread that measures the lag until it is closed.

    `reading` is the histogram so far.
    """

    def __init__(self) -> None:
        self._lags = Counting(BOUNDS_S)
        self._closed = threading.Event()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._timer = self._libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_CLOEXEC)
        if self._timer < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._thread = threading.Thread(target=self._measure, name="lag-meter", daemon=True)
        self._thread.start()

    def reading(self) -> Histogram:
        """Everything measured since the start, in seconds."""
        return self._lags.reading()

    def close(self) -> None:
        """Stop measuring; returns when the thread has ended."""
        self._closed.set()
        self._thread.join()
        os.close(self._timer)

    def _measure(self) -> None:
        while not self._closed.is_set():
            self._arm()
            (intervals,) = struct.unpack("=Q", os.read(self._timer, 8))
            self._lags.add((intervals - 1) * RESOLUTION_S)

    def _arm(self) -> None:
        # struct itimerspec: it_interval, it_value, each seconds and nanoseconds.
        spec = struct.pack("=qqqq", 0, round(RESOLUTION_S * 1e9), 0, round(PERIOD_S * 1e9))
        if self._libc.timerfd_settime(self._timer, 0, spec, None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")
