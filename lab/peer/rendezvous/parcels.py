"""What was written to a member and has not arrived: kept until it has, or is of no use.

A connection whose NAT has restarted is dead, and neither end knows it before
one of them sends.  What was written to it meanwhile would be lost with it.  So
the service keeps what TCP has not seen acknowledged, writes it to the member's
next connection, and tells who sent it that it is late, has arrived, or never
will: what is too old by then, or one of too many, does not.

Whoever fills a place fills it for itself: of what has not arrived at one member,
each sender has its own share, and where all together have too much it is the
sender with the most that loses.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

LATE_S = 1.0
"""After so long without an acknowledgement the sender is told: a lost segment takes less."""
KEEP_S = 10.0
"""Few attempts take longer, so what is older is not delivered any more."""
MOST = 32
"""Kept for one member whose connection has gone."""
EACH = 16
"""Of these, of one sender: some attempts' offers, and what is said beside them."""
ROOM = 256 * 1024
"""Bytes that a member may leave unread before others' words to it are lost."""
SHARE = ROOM // 4
"""Of these, of one sender: so that its words are lost before those of others."""

BACK = "back"
LOST = "lost"
TOO_OLD = "too-old"
TOO_MANY = "too-many"


@dataclass(frozen=True, slots=True)
class Parcel:
    """One frame that a member sent to another."""

    sender: str
    key: bytes
    """The sender's, whose name may be another's by and by."""
    frame: bytes
    at: float
    """When it was sent."""
    number: int = 0
    """The sender's own, by which it is told what becomes of it."""
    end: int = 0
    """How many bytes the connection had been given with it."""


class Parcels:
    """Those of one connection, oldest first."""

    def __init__(self) -> None:
        self.written = 0
        """Bytes that the connection was given."""
        self._under_way: deque[Parcel] = deque()
        self._octets: Counter[bytes] = Counter()

    def __iter__(self) -> Iterator[Parcel]:
        return iter(tuple(self._under_way))

    def admit(self, parcel: Parcel) -> bool:
        """Whether there is room for it in the sender's share; then it is about to be written."""
        size = len(parcel.frame)
        if self._octets[parcel.key] + size > SHARE or self._octets.total() + size > ROOM:
            return False
        self._octets[parcel.key] += size
        return True

    def add(self, parcel: Parcel) -> None:
        """It was admitted, has just been written, and counted in `written`."""
        self._under_way.append(replace(parcel, end=self.written))

    def acknowledged(self, unread: int) -> None:
        """All but the last `unread` bytes have arrived."""
        while self._under_way and self._under_way[0].end <= self.written - unread:
            arrived = self._under_way.popleft()
            self._octets[arrived.key] -= len(arrived.frame)
            if not self._octets[arrived.key]:
                del self._octets[arrived.key]


class Kept:
    """Those for a member that is away, oldest first."""

    def __init__(self) -> None:
        self._kept: list[Parcel] = []

    def __iter__(self) -> Iterator[Parcel]:
        return iter(tuple(self._kept))

    def add(self, parcel: Parcel) -> Parcel | None:
        """Keep one more; what gives way to it, if anything.

        That is its own sender's oldest, unless there are `MOST` and another
        sender has more of them.
        """
        self._kept.append(parcel)
        counts = Counter(one.key for one in self._kept)
        own, most = counts[parcel.key], max(counts.values())
        if own <= EACH and len(self._kept) <= MOST:
            return None
        greedy = own > EACH or own == most
        for place, one in enumerate(self._kept):
            if one.key == parcel.key if greedy else counts[one.key] == most:
                return self._kept.pop(place)
        return None

    def expire(self, now: float) -> list[Parcel]:
        """Keep no more what is too old; that."""
        old = [one for one in self._kept if now - one.at >= KEEP_S]
        self._kept = [one for one in self._kept if now - one.at < KEEP_S]
        return old
