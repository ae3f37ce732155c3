"""What was written to a member and has not arrived: kept until it has, or is of no use.

A connection whose NAT has restarted is dead, and neither end knows it before
one of them sends.  What was written to it meanwhile would be lost with it.  So
the service keeps what TCP has not seen acknowledged, writes it to the member's
next connection, and tells who sent it that it is late, has arrived, or never
will; not so of what is too old by then, or one of too many.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

LATE_S = 1.0
"""After so long without an acknowledgement the sender is told: a lost segment takes less."""
KEEP_S = 10.0
"""An attempt takes no longer unless told to, so what is older is not delivered any more."""
MOST = 32
"""Kept for one member; the oldest give way."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """One frame that a member sent to another."""

    sender: str
    key: bytes
    """The sender's, whose name may be another's by and by."""
    frame: bytes
    at: float
    """When it was sent."""
    end: int = 0
    """How many bytes the connection had been given with it."""


class Parcels:
    """Those of one connection, oldest first."""

    def __init__(self) -> None:
        self.written = 0
        """Bytes that the connection was given."""
        self._kept: deque[Parcel] = deque(maxlen=MOST)

    def __iter__(self) -> Iterator[Parcel]:
        return iter(tuple(self._kept))

    def add(self, parcel: Parcel) -> None:
        """It has just been written, and counted in `written`."""
        self._kept.append(replace(parcel, end=self.written))

    def acknowledged(self, unread: int) -> None:
        """All but the last `unread` bytes have arrived."""
        while self._kept and self._kept[0].end <= self.written - unread:
            self._kept.popleft()
