"""The character of a link: what each direction of it does to packets, and what carries it.

`lab.fabric.links.model` says what the words mean; presets are YAML data on top of
these types, as they are of `lab.topology.behaviour`.
"""

from __future__ import annotations

from enum import StrEnum

from lab.topology.behaviour import Frozen


class Distribution(StrEnum):
    """How jitter is distributed around the delay."""

    UNIFORM = "uniform"
    """Between delay - jitter and delay + jitter."""
    NORMAL = "normal"
    """With the jitter as its standard deviation."""
    PARETO = "pareto"
    """Of the same deviation, with the long tail of late packets that real paths have."""
    TABLE = "table"
    """As a file in the format of tc's distributions says."""


class Order(StrEnum):
    """Whether jitter may let packets overtake one another."""

    KEEP = "keep"
    FREE = "free"


class Discipline(StrEnum):
    """What a queue does before it is full."""

    DROP_TAIL = "drop-tail"
    CODEL = "codel"
    """RFC 8289: drops at the head when packets wait too long."""
    FQ_CODEL = "fq_codel"
    """RFC 8290: a CoDel queue for each flow, served in turn."""


class QueueUnit(StrEnum):
    """What the length of a queue is measured in."""

    BDP = "bdp"
    """Bandwidth-delay products: `lab.fabric.links.queue` says of which round trip."""
    PACKETS = "packets"
    BYTES = "bytes"


class Queue(Frozen, frozen=True):
    """How much waits before the transmitter, the packet in transmission included."""

    length: float = 1.0
    unit: QueueUnit = QueueUnit.BDP


class DataFile(Frozen, frozen=True):
    """A file that a link's behaviour is read from, by whoever carries the link."""

    path: str
    """Absolute."""
    digest: str
    """SHA-256 of what it held when the topology was read, so that a change of it is one of the
    topology."""


class Bursts(Frozen, frozen=True):
    """Bursty loss: a Gilbert-Elliott chain of a good and a bad state (Gilbert 1960, Elliott 1963).

    A packet is lost with the probability of the state, and then the state may
    change.  The chain begins in the good state.
    """

    p: float
    """Probability to go from good to bad."""
    r: float
    """Probability to go from bad to good: the mean stay in the bad state is 1/r packets."""
    good: float = 0.0
    """Loss in the good state (1-k in Elliott's paper)."""
    bad: float = 1.0
    """Loss in the bad state (1-h)."""

    @property
    def share(self) -> float:
        """How much is lost in the long run."""
        if not self.p:
            return self.good
        in_bad = self.p / (self.p + self.r)
        return in_bad * self.bad + (1 - in_bad) * self.good


class LossPattern(Frozen, frozen=True):
    """Of every `of` packets, those at these places (from 1, ascending) are lost."""

    lost: tuple[int, ...]
    of: int


class Impairment(Frozen, frozen=True):
    """The character of one direction of a link; `lab.fabric.links.model` says what it means.

    A packet is lost if `loss`, `bursts` or `pattern` says so.
    """

    rate_bit: int = 0
    """Bits per second; 0 for unlimited."""
    delay_us: int = 0
    """One way, microseconds."""
    jitter_us: int = 0
    """How far the delay of a packet strays, microseconds; `distribution` says what that means.
    No delay is less than zero."""
    distribution: Distribution = Distribution.UNIFORM
    table: DataFile | None = None
    """The distribution, with `table`."""
    correlation: float = 0.0
    """How much of a packet's stray is that of the packet before, 0 to 1."""
    order: Order = Order.KEEP
    loss: float = 0.0
    """Probability that a packet is lost, 0 to 1, independent of its neighbours."""
    bursts: Bursts | None = None
    pattern: LossPattern | None = None
    reorder: float = 0.0
    """Probability that a packet overtakes: that it does not wait for the delay."""
    duplicate: float = 0.0
    """Probability that a packet arrives twice."""
    corrupt: float = 0.0
    """Probability that one bit of a packet's payload is inverted."""
    queue: Queue = Queue()
    discipline: Discipline = Discipline.DROP_TAIL
    trace: DataFile | None = None
    """When packets may leave, instead of a rate: a packet-delivery trace of mahimahi's."""

    @property
    def files(self) -> tuple[DataFile, ...]:
        """What has to be read to carry or to judge it."""
        return tuple(file for file in (self.table, self.trace) if file is not None)

    @property
    def none(self) -> bool:
        """Whether this direction is a plain wire."""
        return not (self.limited or self.beyond_rate)

    @property
    def beyond_rate(self) -> bool:
        """Whether there is more to it than a transmitter: what takes netem, in the kernel."""
        return bool(self.delay_us or self.jitter_us or self.lossy or self.altering)

    @property
    def limited(self) -> bool:
        """Whether there is a transmitter, and so a queue."""
        return bool(self.rate_bit or self.trace)

    @property
    def lossy(self) -> bool:
        """Whether packets are lost other than by a full queue."""
        return bool(self.loss or self.bursts or self.pattern)

    @property
    def altering(self) -> bool:
        """Whether packets are reordered on purpose, doubled or damaged."""
        return bool(self.reorder or self.duplicate or self.corrupt)

    @property
    def random(self) -> bool:
        """Whether what happens to a packet is drawn by lot."""
        return bool(self.loss % 1 or self.bursts or self.jitter_us or self.altering)

    @property
    def loss_share(self) -> float:
        """How much is lost in the long run, whatever the kind of loss."""
        bursts = self.bursts.share if self.bursts else 0.0
        pattern = len(self.pattern.lost) / self.pattern.of if self.pattern else 0.0
        return round(1 - (1 - self.loss) * (1 - bursts) * (1 - pattern), 12)


class Backend(StrEnum):
    """What carries a link's impairments."""

    PLAIN = "plain"
    """A bare veth pair: nothing to impair."""
    KERNEL = "kernel"
    """A pair of veths with netem or TBF."""
    FERRY = "ferry"
    """Two TAP devices joined by a user-space process."""
