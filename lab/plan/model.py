"""The desired state of a lab, as data.

A plan says everything that has to exist and nothing about how to make it:
namespaces, links, addresses, routes, rule sets, programs.  It is made by
`lab.plan.compile` from a topology, compared by `lab.plan.diff`, and carried
out by the agent.  Every type is frozen and travels as JSON (`encode`,
`decode`), so that a plan can be stored, sent, printed and compared.

Addresses are strings in the plan ("203.0.113.2/30"): they were parsed and
checked when the topology was compiled.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

LOOPBACK = "lo"


class Frozen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of everything in a plan: immutable, hashable, JSON-ready."""


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


class Unsolicited(StrEnum):
    """What becomes of an inbound packet that no mapping admits."""

    DROP = "drop"
    REJECT = "reject"
    """ICMP administratively prohibited."""
    RST = "rst"
    """TCP gets a reset; UDP is dropped."""


class Ports(Frozen):
    """The port policy of a NAT with its parameters; ports are inclusive."""

    policy: PortPolicy = PortPolicy.PRESERVE
    first: int = 1024
    last: int = 65535
    stride: int = 1
    """Step between two mappings, with `sequential`."""
    block: int = 0
    """Ports per subscriber, with `block`."""


class Lifetimes(Frozen):
    """How long an idle mapping lives, in seconds (RFC 4787 REQ-5, RFC 5382 REQ-5)."""

    udp_s: int = 120
    tcp_established_s: int = 7440
    tcp_transitory_s: int = 240


class Nat(Frozen):
    """A NAT as four independent choices (RFC 4787); presets are data on top."""

    mapping: Dependence = Dependence.ENDPOINT_INDEPENDENT
    filtering: Dependence = Dependence.ADDRESS_AND_PORT_DEPENDENT
    ports: Ports = Ports()
    hairpin: Hairpin = Hairpin.OFF
    unsolicited: Unsolicited = Unsolicited.DROP
    lifetimes: Lifetimes = Lifetimes()
    preset: str = ""
    """The name it was written by, for people; behaviour never depends on it."""


class Verdict(StrEnum):
    ACCEPT = "accept"
    DROP = "drop"
    REJECT = "reject"


class Rule(Frozen):
    """One line of a firewall: the first that matches decides."""

    verdict: Verdict
    protocol: str = "any"
    """`tcp`, `udp`, `icmp` or `any`."""
    first: int = 0
    last: int = 0
    """Destination ports, inclusive; 0 for all."""
    remote: str = ""
    """Address or prefix on the far side; empty for all."""


class Direction(Frozen):
    """What one direction admits: rules in order, then the default."""

    default: Verdict = Verdict.ACCEPT
    rules: tuple[Rule, ...] = ()


class Firewall(Frozen):
    """A stateful packet filter: replies to an admitted flow always pass.

    `outbound` is from the LAN to the WAN on a router, and from the program to
    the network on a host; `inbound` the other way, for flows begun outside.
    """

    outbound: Direction = Direction()
    inbound: Direction = Direction()
    preset: str = ""


# --- links ----------------------------------------------------------------


class Impairment(Frozen):
    """The character of one direction of a link."""

    rate_bit: int = 0
    """Bits per second; 0 for unlimited."""
    delay_us: int = 0
    """One way, microseconds."""
    loss: float = 0.0
    """Probability that a packet is lost, 0 to 1, independent of its neighbours."""

    @property
    def none(self) -> bool:
        """Whether this direction is a plain wire."""
        return not (self.rate_bit or self.delay_us or self.loss)


class Backend(StrEnum):
    """What carries a link's impairments."""

    PLAIN = "plain"
    """A bare veth pair: nothing to impair."""
    KERNEL = "kernel"
    """veth with netem, TBF or HTB."""
    FERRY = "ferry"
    """Two TAP devices joined by a user-space process."""


class End(Frozen):
    """One end of a link: an interface of a node."""

    node: str
    interface: str
    mac: str


class Link(Frozen):
    """A wire between two interfaces; each direction has a character of its own."""

    a: End
    b: End
    a_to_b: Impairment = Impairment()
    b_to_a: Impairment = Impairment()
    mtu: int = 1500
    backend: Backend = Backend.PLAIN
    preset: str = ""

    @property
    def name(self) -> str:
        """Unique in a plan, and stable while both ends keep their names."""
        return f"{self.a.node}.{self.a.interface}--{self.b.node}.{self.b.interface}"


# --- nodes ----------------------------------------------------------------


class NodeKind(StrEnum):
    INTERNET = "internet"
    """The core: forwards between everything attached to it."""
    ROUTER = "router"
    HOST = "host"
    SEGMENT = "segment"
    """A shared Ethernet segment: a bridge in a namespace of its own."""


class Interface(Frozen):
    """An interface and its addresses with prefix length ("192.168.1.2/24")."""

    name: str
    addresses: tuple[str, ...] = ()


class Route(Frozen):
    """A route; `destination` is a prefix ("0.0.0.0/0" for the default)."""

    destination: str
    gateway: str = ""
    interface: str = ""


class Runtime(StrEnum):
    PROCESS = "process"
    DOCKER = "docker"


class Mount(Frozen):
    """A host path seen inside a container."""

    source: str
    target: str
    read_only: bool = False


class Program(Frozen):
    """What runs in a node: the built-in peer in some roles, or a program of one's own.

    Exactly one of `roles` and (`image` or `command`) is given, except that a
    built-in program that runs as a container has `image` filled in as well.
    """

    runtime: Runtime
    roles: tuple[str, ...] = ()
    """Roles of the built-in program: `peer`, `stun`, `rendezvous`, `relay`."""
    image: str = ""
    command: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    """The whole contract environment and the user's own, sorted; see docs/contract.md."""
    mounts: tuple[Mount, ...] = ()
    memory_bytes: int = 0
    cpus: float = 0.0
    ready_signal: bool = False
    """Whether the program announces readiness; otherwise started means ready."""
    stage: int = 1
    """Programs of stage 0 (services) are ready before those of stage 1 start."""


class Node(Frozen):
    """A network namespace and what is in it."""

    name: str
    kind: NodeKind
    interfaces: tuple[Interface, ...] = ()
    routes: tuple[Route, ...] = ()
    forwarding: bool = False
    wan: str = ""
    """A router's outward interface."""
    lan: str = ""
    """A router's inward interface."""
    nat: Nat | None = None
    firewall: Firewall | None = None
    program: Program | None = None
    subscribers: tuple[str, ...] = ()
    """Inside addresses behind a router, in order: a port block belongs to each."""


class Plan(Frozen):
    """Everything that has to exist for one lab."""

    lab: str
    nodes: tuple[Node, ...]
    links: tuple[Link, ...]
    seed: int = 0
    description: str = ""
    source: str = ""
    """The topology file it came from."""
    notes: tuple[str, ...] = ()
    """What was decided for the user and why (runtime, link backend): printed by `lab up`."""

    def node(self, name: str) -> Node:
        """The node of that name; KeyError if there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)


_ENCODER = msgspec.json.Encoder(order="deterministic")
_DECODER = msgspec.json.Decoder(Plan)


def encode(plan: Plan) -> bytes:
    """`plan` as JSON: equal plans give equal bytes."""
    return _ENCODER.encode(plan)


def decode(data: bytes) -> Plan:
    """The plan that `encode` wrote; msgspec.DecodeError if it is not one."""
    return _DECODER.decode(data)
