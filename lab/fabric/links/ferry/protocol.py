"""What the agent and the ferry say to each other, over a SOCK_SEQPACKET socket pair.

One request, one reply, in order.  The two descriptors of an attached link and
the file that holds statistics travel as SCM_RIGHTS.
"""

from __future__ import annotations

import msgspec

from lab.plan.model import Link
from lab.topology.behaviour import Frozen

MESSAGE_BYTES = 65536
"""No request or reply is longer: names and numbers; statistics go in a file."""

FINEST_SHIFT = 10
"""The finest bucket of the lateness histogram: 2 to the power of this many nanoseconds."""

BUCKETS = 24


# --- requests -------------------------------------------------------------


class Request(Frozen, frozen=True, tag=True):
    """Base of what the ferry is asked."""


class Attach(Request, frozen=True):
    """Carry this link; the descriptors of its ends `a` and `b` come along."""

    link: Link


class Shape(Request, frozen=True):
    """Give a link that is carried the impairments of `link`."""

    link: Link


class Detach(Request, frozen=True):
    """Close both devices of a link; they vanish."""

    name: str


class Drain(Request, frozen=True):
    """Close the descriptor that comes along, one end of a pipe, once nothing is on a link.

    That is when what its devices hold now has been fetched and delivered.
    """

    name: str


class Statistics(Request, frozen=True):
    """Say what was carried; the answer is a file with `FerryStats` in it."""


AnyRequest = Attach | Shape | Detach | Drain | Statistics


# --- replies --------------------------------------------------------------


class DirectionStats(Frozen, frozen=True):
    """What one direction of a link has carried since it was attached."""

    packets: int = 0
    """Delivered."""
    bytes: int = 0
    """Delivered, Ethernet headers included."""
    lost: int = 0
    """Dropped by chance, as the link's loss demands."""
    overflowed: int = 0
    """Dropped because the queue before the transmitter was full."""
    early: int = 0
    """Dropped by CoDel or fq_codel before the queue was full."""
    duplicated: int = 0
    """Sent twice."""
    corrupted: int = 0
    """Delivered with one bit inverted."""
    reordered: int = 0
    """Let overtake: they did not wait for the delay."""
    refused: int = 0
    """Due, but the receiving interface would not take them (it is down)."""
    waiting: int = 0
    """On their way right now."""


class LinkStats(Frozen, frozen=True):
    """Both directions of one link."""

    name: str
    a_to_b: DirectionStats
    b_to_a: DirectionStats
    alive: bool = True
    """Whether both devices are still there."""


class Lateness(Frozen, frozen=True):
    """How long after their time frames left, as a histogram.

    `counts[i]` frames were less than `bounds_s()[i]` seconds late (and not
    less than the bound before); the last bucket has no upper bound.
    """

    counts: tuple[int, ...] = (0,) * BUCKETS
    total_ns: int = 0
    """Sum over all frames."""
    worst_ns: int = 0

    @staticmethod
    def bounds_s() -> tuple[float, ...]:
        """Upper bounds of all buckets but the last, in seconds: powers of two of 1.024 us."""
        return tuple((1 << (FINEST_SHIFT + i)) / 1e9 for i in range(BUCKETS - 1))

    def quantile_s(self, share: float) -> float:
        """The bound below which at least `share` (0 to 1) of the frames were late."""
        wanted = share * sum(self.counts)
        seen = 0
        for count, bound_s in zip(self.counts, self.bounds_s(), strict=False):
            seen += count
            if seen >= wanted:
                return bound_s
        return self.worst_ns / 1e9


class FerryStats(Frozen, frozen=True):
    """Everything that the ferry knows about itself."""

    links: tuple[LinkStats, ...] = ()
    lateness: Lateness = Lateness()
    cpu_s: float = 0.0
    """Processor time used since the start."""
    wakeups: int = 0
    real_time: bool = False
    """Whether the kernel granted real-time scheduling."""


class Done(Frozen, frozen=True, tag=True):
    """The request was carried out."""


class Failed(Frozen, frozen=True, tag=True):
    """The request was not carried out, and nothing has changed."""

    message: str
    remedy: str = ""


AnyReply = Done | Failed

_ENCODER = msgspec.msgpack.Encoder()


def encode(message: Request | AnyReply | FerryStats) -> bytes:
    """`message` as bytes."""
    return _ENCODER.encode(message)
