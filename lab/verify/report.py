"""What verification found: declared beside observed, as data."""

from __future__ import annotations

from enum import StrEnum

from msgspec.structs import replace

from lab.plan.words import plural
from lab.topology.behaviour import Frozen

IPV4, IPV6, NAT64 = "IPv4", "IPv6", "NAT64"


class Dimension(StrEnum):
    """What one line of a report is about; RFC 4787's words where it has one."""

    MAPPING = "mapping"
    FILTERING = "filtering"
    PORTS = "ports"
    OVERLOADING = "overloading"
    POOLING = "pooling"
    SESSIONS = "sessions"
    HAIRPIN = "hairpin"
    UNSOLICITED = "unsolicited"
    OUTBOUND = "firewall out"
    INBOUND = "firewall in"
    LIFETIME = "lifetime"
    TWO_WAY = "lifetime, two-way"
    PERMISSION = "lifetime, permission"
    ESTABLISHED = "lifetime, established"
    TRANSITORY = "lifetime, transitory"
    REFRESH = "refresh"
    PREFIX = "prefix"
    PORT_MAPPING = "port mapping"
    CLASS = "class"


class Finding(Frozen, frozen=True):
    """One dimension of one node, for one protocol."""

    node: str
    dimension: Dimension
    protocol: str
    """`udp`, `tcp`, `icmp`, that of port mapping, or empty where there is no difference."""
    declared: str
    observed: str
    ok: bool
    detail: str = ""
    """What a person wants to know of a difference."""
    family: str = IPV4
    """What it was measured in: `IPv4`, `IPv6`, or `NAT64` for IPv4 by way of that."""
    distorted: bool = False
    """It seems to differ, and the machine lost packets meanwhile that may be why."""


class PeerFinding(Frozen, frozen=True):
    """What a STUN client inside a node says about the way out of it."""

    node: str
    declared: str
    """RFC 3489's class of all that stands between the node and the server."""
    observed: str
    mapping: str
    """As RFC 5780 finds it."""
    filtering: str
    declared_mapping: str
    declared_filtering: str
    family: str = IPV4
    """`IPv4` or `IPv6`."""
    behind: tuple[str, ...] = ()
    """The routers on the way that translate or filter, from inside out."""

    @property
    def ok(self) -> bool:
        return (self.declared, self.declared_mapping, self.declared_filtering) == (
            self.observed,
            self.mapping,
            self.filtering,
        )


class LinkDimension(StrEnum):
    """What one line of a report about a link is about."""

    DELAY = "delay"
    JITTER = "jitter"
    CORRELATION = "correlation"
    LOSS = "loss"
    BURSTS = "length of bursts"
    PATTERN = "pattern of losses"
    REORDERING = "reordering"
    DUPLICATION = "duplication"
    CORRUPTION = "corruption"
    RATE = "rate"
    QUEUE = "queue"
    MTU = "mtu"


class LinkVerdict(StrEnum):
    """Whether a link is as declared."""

    AS_DECLARED = "as declared"
    DIFFERS = "differs"
    DISTORTED = "distorted"
    """It seems to differ, and the machine did not keep up, or others used the link."""
    UNMEASURED = "not measured"
    """No probe could tell; `detail` says why."""


class LinkFinding(Frozen, frozen=True):
    """One dimension of one direction of a link."""

    link: str
    """Its ends, as `lab link show` has them."""
    name: str
    """What the plan calls it, which is unique."""
    way: str
    """`up`, from the first end to the second, or `down`."""
    dimension: LinkDimension
    declared: str
    observed: str
    unit: str
    """Of the figures: `s`, `bit/s`, `packets`, `bytes`, or `share`."""
    declared_value: float | None
    """None for no limit."""
    observed_value: float | None
    """None with what was not measured."""
    low: float | None
    """With `high` the interval that the truth lies in."""
    high: float | None
    samples: int
    """Frames from which it was told."""
    verdict: LinkVerdict
    detail: str = ""

    @property
    def ok(self) -> bool:
        """Whether it is not known to differ."""
        return self.verdict is not LinkVerdict.DIFFERS


class Unmeasured(Frozen, frozen=True):
    """A node or a link that could not be measured at all."""

    node: str
    """Of a link: its ends, as in its findings."""
    why: str
    meant: bool = False
    """The plan has it so: what leads there is down, or there is no place to measure from."""


class Report(Frozen, frozen=True):
    """All findings of one lab."""

    lab: str
    findings: tuple[Finding, ...] = ()
    peers: tuple[PeerFinding, ...] = ()
    links: tuple[LinkFinding, ...] = ()
    unmeasured: tuple[Unmeasured, ...] = ()
    seconds: float = 0.0

    @property
    def differences(self) -> tuple[Finding | PeerFinding | LinkFinding, ...]:
        """What is not as declared."""
        found: tuple[Finding | PeerFinding | LinkFinding, ...] = (
            *self.findings,
            *self.peers,
            *self.links,
        )
        told = (one for one in found if not (isinstance(one, Finding) and one.distorted))
        return tuple(one for one in told if not one.ok)

    @property
    def distorted(self) -> tuple[Finding | LinkFinding, ...]:
        """What could not be told, as the machine or others stood in the way."""
        return (
            *(one for one in self.findings if one.distorted),
            *(one for one in self.links if one.verdict is LinkVerdict.DISTORTED),
        )

    @property
    def failed(self) -> tuple[Unmeasured, ...]:
        """What should have been measured, and nothing is known of it."""
        return tuple(one for one in self.unmeasured if not one.meant)

    @property
    def ok(self) -> bool:
        """Whether everything is as declared, and nothing failed to be measured."""
        return not self.differences and not self.failed


def excused(report: Report, overflows: int) -> Report:
    """`report` of a time in which the neighbour table was full `overflows` times.

    All namespaces share that table, and packets are lost while it is full: what
    seems to differ then may be as declared.
    """
    if not overflows:
        return report
    why = f"the machine's neighbour table was full {plural(overflows, 'time')}"
    return replace(
        report,
        findings=tuple(
            one if one.ok else replace(one, distorted=True, detail=why) for one in report.findings
        ),
        links=tuple(
            one if one.ok else replace(one, verdict=LinkVerdict.DISTORTED, detail=why)
            for one in report.links
        ),
    )
