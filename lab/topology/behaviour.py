"""How NATs and firewalls behave, as orthogonal parameters (RFC 4787 words).

Links are in `character`, and programs share the base and a few words with both.
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


# --- programs -------------------------------------------------------------


class Runtime(StrEnum):
    PROCESS = "process"
    DOCKER = "docker"


class Mount(Frozen, frozen=True):
    """A host path that a program sees as another."""

    source: str
    target: str
    read_only: bool = False
