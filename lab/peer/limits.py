"""What one party may use of something that all share: a rate each, and a number of places each."""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Hashable

MOST_KEYS = 4096
_SUBNET_BITS = 64


def party(address: str) -> str:
    """Who is behind `address`, as far as can be told: itself, of IPv6 its /64.

    A host has all of a /64 to choose its addresses from (RFC 4291, section 2.5.4).
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((int(ip) >> _SUBNET_BITS << _SUBNET_BITS, _SUBNET_BITS)))
    return str(ip)


class Buckets:
    """A token bucket for each key: `burst` at once, and `rate` a second from then on.

    The `most` keys that were used last are remembered; a forgotten one has a
    full bucket again.
    """

    def __init__(self, rate: float, burst: float, most: int = MOST_KEYS) -> None:
        self._rate = rate
        self._burst = burst
        self._most = most
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, key: Hashable, now: float, amount: float = 1.0) -> bool:
        """Take `amount` from the bucket of `key` if it has as much; whether it had."""
        left, since = self._left.pop(key, (self._burst, now))
        left = min(self._burst, left + max(0.0, now - since) * self._rate)
        granted = left >= amount
        self._left[key] = left - amount if granted else left, now
        if len(self._left) > self._most:
            self._left.popitem(last=False)
        return granted

    def fill(self, key: Hashable) -> None:
        """Make the bucket of `key` full."""
        self._left.pop(key, None)

    def __len__(self) -> int:
        return len(self._left)


class Doors:
    """Places for `total` connections, of which one party has `each` at most."""

    def __init__(self, total: int, each: int) -> None:
        self._total = total
        self._each = each
        self._inside: Counter[str] = Counter()

    def enter(self, address: str) -> bool:
        """Whether one more from `address` is let in; then `leave` has to follow."""
        who = party(address)
        if self._inside.total() >= self._total or self._inside[who] >= self._each:
            return False
        self._inside[who] += 1
        return True

    def leave(self, address: str) -> None:
        """One from `address` has gone."""
        who = party(address)
        self._inside[who] -= 1
        if not self._inside[who]:
            del self._inside[who]

    def __len__(self) -> int:
        return self._inside.total()
