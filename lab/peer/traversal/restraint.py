"""How much a peer sends to who may not want it: the pace of probes, and a bound for the silent."""

from __future__ import annotations

from dataclasses import dataclass

from lab.peer.endpoint import Endpoint
from lab.peer.limits import Buckets, party


class Restraint:
    """What this peer sends, over all of its attempts, to addresses that have not answered."""

    RATE = 200.0
    """Packets a second to one address, in the long run."""
    BURST = 4096.0
    """Packets at once: a lucky guess takes half of that (`lab.peer.traversal.birthday`)."""

    def __init__(self) -> None:
        self._buckets = Buckets(self.RATE, self.BURST)

    def allows(self, remote: Endpoint, now: float, packets: int = 1) -> bool:
        """Whether so many may be sent to `remote` now; they are counted as sent."""
        return self._buckets.take(party(remote.address), now, packets)

    def answered(self, remote: Endpoint) -> None:
        """Begin anew with `remote`: an authentic answer says that packets are welcome there."""
        self._buckets.fill(party(remote.address))


@dataclass(frozen=True, slots=True)
class Pace:
    """How often probes are sent, in seconds; jitter is the share that is drawn at random."""

    interval: float = 0.05
    jitter: float = 0.0
