"""Where a NAT's next port will be, from the ones that it gave before (RFC 5128, section 3.6).

Several STUN endpoints are asked from one local port, one after the other.  A
NAT that keeps its mappings shows all of them the same port.  One that counts
upward (or downward) shows a port for each, some step apart, and the next
destination will get the one after.  Ports that other flows of the same NAT
take in between make gaps, which are multiples of the step; the next port may
then be any of the next few, which is what the window is for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from lab.peer.endpoint import Endpoint

FARTHEST = 512
"""A larger distance between two ports is no step but chance."""
FIRST_PORT, LAST_PORT = 1024, 65535


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a NAT showed, and what follows."""

    seen: tuple[Endpoint, ...]
    """One for each endpoint that was asked and answered, in the order of asking."""
    step: int | None
    """0 if the mapping stays; None if no step can be made out."""

    def next(self, window: int) -> tuple[Endpoint, ...]:
        """Where the other peer should send, likeliest first; `window` at most."""
        if not self.seen:
            return ()
        last = list(dict.fromkeys(self.seen))[-1]
        if not self.step:
            # Without a step, what was seen last is as good as anything.
            return (last,)
        ports = (last.port + self.step * count for count in range(1, window + 1))
        return tuple(Endpoint(last.address, p) for p in ports if FIRST_PORT <= p <= LAST_PORT)

    @property
    def words(self) -> str:
        """For a sentence: what the NAT does."""
        if not self.seen:
            return "shows nothing"
        ports = ", ".join(str(endpoint.port) for endpoint in self.seen)
        if self.step is None:
            return f"gives ports without a step that could be learned ({ports})"
        if self.step == 0:
            return f"keeps its mapping ({ports.split(',')[0]})"
        return f"gives ports in steps of {self.step} ({ports})"


def forecast(seen: Sequence[Endpoint]) -> Forecast:
    """What can be said of a NAT that showed these endpoints, in this order."""
    distinct = list(dict.fromkeys(seen))
    if len(distinct) < 2:
        return Forecast(tuple(seen), 0)
    if len({endpoint.address for endpoint in distinct}) > 1:
        return Forecast(tuple(seen), None)
    distances = [b.port - a.port for a, b in pairwise(distinct)]
    up = all(0 < distance <= FARTHEST for distance in distances)
    down = all(-FARTHEST <= distance < 0 for distance in distances)
    if not (up or down):
        return Forecast(tuple(seen), None)
    step = math.gcd(*distances)
    # A step is seen at least once as such; what has a divisor only in common is chance.
    if step not in map(abs, distances):
        return Forecast(tuple(seen), None)
    return Forecast(tuple(seen), step if up else -step)
