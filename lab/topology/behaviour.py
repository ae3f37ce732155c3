"""How NATs, firewalls and links behave, as orthogonal parameters (RFC 4787 words).

Presets (`lab/topology/presets/`) are YAML data on top of these types; nothing
below the topology knows a preset's name.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Frozen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of the data between layers: immutable, hashable, JSON-ready."""


# --- behaviour of routers -------------------------------------------------


class Dependence(StrEnum):
    """What a NAT's mapping or filtering depends on (RFC 4787, sections 4.1 and 5)."""

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"


class PortPolicy(StrEnum):
    """How a new mapping chooses its external port (RFC 4787, section 4.2)."""

    PRESERVE = "preserve"
    """The internal port; another one only if it is taken."""
    RANDOM = "random"
    SEQUENTIAL = "sequential"
    BLOCK = "block"
    """A block of ports for each subscriber (RFC 6888, RFC 7422)."""


class Hairpin(StrEnum):
    """Whether an inside host reaches another by its external endpoint (RFC 4787, section 6)."""

    OFF = "off"
    EXTERNAL_SOURCE = "external-source"
    INTERNAL_SOURCE = "internal-source"


class Pooling(StrEnum):
    """Which of a NAT's addresses a mapping gets (RFC 4787, section 4.1)."""

    PAIRED = "paired"
    """One for all mappings of an inside host (REQ-2)."""
    ARBITRARY = "arbitrary"
    """Any, for each mapping anew."""


class Unsolicited(StrEnum):
    """What becomes of an inbound packet that no mapping admits."""

    DROP = "drop"
    REJECT = "reject"
    """ICMP administratively prohibited."""
    RST = "rst"
    """TCP gets a reset; UDP is dropped."""
    ACCEPT = "accept"
    """The router takes it for its own and answers as a host without such a service.  It
    remembers the flow, which costs a mapping towards that endpoint its port."""


class Refresh(StrEnum):
    """Whose packets keep a UDP mapping alive (RFC 4787 REQ-6)."""

    BOTH = "both"
    OUTBOUND = "outbound"
    INBOUND = "inbound"


class Ports(Frozen, frozen=True):
    """The port policy of a NAT with its parameters; ports are inclusive."""

    policy: PortPolicy = PortPolicy.PRESERVE
    first: int = 1024
    last: int = 65535
    stride: int = 1
    """Step between two mappings, with `sequential`."""
    block: int = 0
    """Ports per subscriber, with `block`."""
    parity: bool = False
    """Whether even ports get even ones and odd ports odd ones (RFC 4787, section 4.2.2)."""
    overload: bool = False
    """With `preserve`: hosts may share a port towards different destinations, as behind Linux;
    RFC 4787 REQ-3 forbids it."""


class Lifetimes(Frozen, frozen=True):
    """How long an idle mapping lives, in seconds (RFC 4787 REQ-5, RFC 5382 REQ-5)."""

    udp_s: int = 120
    udp_one_way_s: int = 0
    """Until something comes in, which with Linux counts from the third second; 0 for `udp_s`."""
    permission_s: int = 0
    """How long who was sent to may answer, by UDP; 0 for as long as the mapping."""
    refresh: Refresh = Refresh.BOTH
    """Which packets renew mappings and permissions of UDP."""
    tcp_established_s: int = 7440
    tcp_transitory_s: int = 240


class Nat(Frozen, frozen=True):
    """A NAT as four independent choices (RFC 4787); presets are data on top."""

    mapping: Dependence = Dependence.ENDPOINT_INDEPENDENT
    filtering: Dependence = Dependence.ADDRESS_AND_PORT_DEPENDENT
    ports: Ports = Ports()
    hairpin: Hairpin = Hairpin.OFF
    unsolicited: Unsolicited = Unsolicited.DROP
    lifetimes: Lifetimes = Lifetimes()
    pool: int = 1
    """External addresses.  A port belongs to one mapping whatever its address."""
    pooling: Pooling = Pooling.PAIRED
    sessions: int = 0
    """Most flows of one inside host at a time (RFC 6888 REQ-4); 0 for no limit."""
    preset: str = ""
    """The name it was written by, for people; behaviour never depends on it."""


class PortMapping(Frozen, frozen=True):
    """By which protocols hosts inside ask their NAT for an external port, and for how long."""

    upnp: bool = False
    """UPnP IGD (WANIPConnection:2), which hosts find by SSDP."""
    pcp: bool = False
    """PCP (RFC 6887) and NAT-PMP (RFC 6886), which share a port."""
    min_lifetime_s: int = 120
    """The shortest lease that PCP grants (RFC 6887, section 15)."""
    max_lifetime_s: int = 86400
    """The longest lease that PCP and NAT-PMP grant (RFC 6887, section 15)."""


class Verdict(StrEnum):
    ACCEPT = "accept"
    DROP = "drop"
    REJECT = "reject"


PortSpan = tuple[int, int]
"""First and last port, inclusive."""


class Rule(Frozen, frozen=True):
    """One line of a firewall: the first that matches decides."""

    verdict: Verdict
    protocol: str = "any"
    """`tcp`, `udp`, `icmp`, `any`, or `established` (packets of flows admitted before)."""
    ports: tuple[PortSpan, ...] = ()
    """Destination ports; none for all."""
    remote: str = ""
    """Address or prefix on the far side; empty for all."""


class Direction(Frozen, frozen=True):
    """What one direction admits: rules in order, then the default."""

    default: Verdict = Verdict.ACCEPT
    rules: tuple[Rule, ...] = ()


class Proxy(Frozen, frozen=True):
    """A web proxy in the router (RFC 9110, section 3.7), for who is inside.

    It goes out by itself, past the default of `outbound`; what a rule refuses
    is refused to the proxy too.
    """

    port: int = 3128
    connect: tuple[int, ...] = (443,)
    """Ports to which it opens tunnels (CONNECT, RFC 9110 section 9.3.6); none for no tunnels."""


class Firewall(Frozen, frozen=True):
    """A stateful packet filter: replies to an admitted flow always pass.

    `outbound` is from the LAN to the WAN on a router, and from the program to
    the network on a host; `inbound` the other way, for flows begun outside.

    A router's firewall may have servers of its own for who is inside.  A
    host's firewall with `resolver` or `proxy` admits what leads to the ones of
    the router above it.
    """

    outbound: Direction = Direction()
    inbound: Direction = Direction()
    resolver: bool = False
    """A name server in the router, which knows the lab's nodes by name."""
    proxy: Proxy | None = None
    portal: bool = False
    """A captive portal (RFC 8952): nothing passes for a host until it has accepted."""
    preset: str = ""


# --- links ----------------------------------------------------------------


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


# --- programs -------------------------------------------------------------


class Runtime(StrEnum):
    PROCESS = "process"
    DOCKER = "docker"


class Mount(Frozen, frozen=True):
    """A host path that a program sees as another."""

    source: str
    target: str
    read_only: bool = False
