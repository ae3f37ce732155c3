"""A timer that epoll waits for; its own timeout has a grain of a millisecond."""

from __future__ import annotations

import ctypes
import os
import time

_TFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_TFD_TIMER_ABSTIME = 1


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


class Timer:
    """A timerfd on the monotonic clock (timerfd_create(2)).

    It wakes an edge-triggered epoll, and is never read.
    """

    __slots__ = ("_reference", "_set", "_set_ns", "_spec", "descriptor")

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor: int = libc.timerfd_create(time.CLOCK_MONOTONIC, _TFD_FLAGS)
        if self.descriptor < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        self._set = libc.timerfd_settime
        self._set.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
        self._spec = _TimerSpec()
        self._reference = ctypes.addressof(self._spec)
        self._set_ns = 0

    def set(self, at_ns: int) -> None:
        """Fire at `at_ns`; at once if that has passed."""
        if at_ns == self._set_ns:
            return
        self._set_ns = at_ns
        value = self._spec.value
        value.seconds, value.nanoseconds = divmod(at_ns, 1_000_000_000)
        self._set(self.descriptor, _TFD_TIMER_ABSTIME, self._reference, None)
