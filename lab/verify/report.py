"""What verification found: declared beside observed, as data."""

from __future__ import annotations

from enum import StrEnum

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


class Report(Frozen, frozen=True):
    """All findings of one lab."""

    lab: str
    findings: tuple[Finding, ...] = ()
    peers: tuple[PeerFinding, ...] = ()
    unmeasured: tuple[tuple[str, str], ...] = ()
    """Nodes that could not be measured, and why."""
    seconds: float = 0.0

    @property
    def differences(self) -> tuple[Finding | PeerFinding, ...]:
        """What is not as declared."""
        found = (one for one in self.findings if not one.ok)
        return (*found, *(one for one in self.peers if not one.ok))

    @property
    def ok(self) -> bool:
        """Whether everything that was measured is as declared."""
        return not self.differences
