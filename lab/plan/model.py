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

from lab.topology.behaviour import Firewall, Frozen, Mount, Nat, PortMapping, Runtime
from lab.topology.changes import Activity, Happening, Partition
from lab.topology.character import Backend, Impairment
from lab.topology.model import Expectation, LinkSpec, Topology

# --- links ----------------------------------------------------------------


class End(Frozen, frozen=True):
    """One end of a link: an interface of a node."""

    node: str
    interface: str
    mac: str


class Link(Frozen, frozen=True):
    """A wire between two interfaces; each direction has a character of its own."""

    a: End
    b: End
    a_to_b: Impairment = Impairment()
    b_to_a: Impairment = Impairment()
    mtu: int = 1500
    backend: Backend = Backend.PLAIN
    preset: str = ""
    spec: LinkSpec = LinkSpec()
    """The access link as it was declared or set; `a_to_b` and `b_to_a` have `core` besides."""
    core: Impairment = Impairment()
    """What the internet adds to each direction of an attachment to it."""
    down: bool = False
    """Whether it is cut: nothing enters it any more, in either direction."""
    spliced: bool = False
    """Whether the ferry was put into a wire that was there already: a pair of veths."""

    @property
    def name(self) -> str:
        """Unique in a plan, and stable while both ends keep their names."""
        return f"{self.a.node}.{self.a.interface}--{self.b.node}.{self.b.interface}"

    @property
    def on_veth(self) -> bool:
        """Whether its wire is a pair of veths, whatever carries it now; two TAPs otherwise."""
        return self.spliced or self.backend is not Backend.FERRY


# --- nodes ----------------------------------------------------------------


class NodeKind(StrEnum):
    INTERNET = "internet"
    """The core: forwards between everything attached to it."""
    ROUTER = "router"
    HOST = "host"
    SEGMENT = "segment"
    """A shared Ethernet segment: a bridge in a namespace of its own."""


class Fence(Frozen, frozen=True):
    """Between which ports a core or a segment lets nothing pass, either way."""

    ports: tuple[str, ...]
    others: tuple[str, ...] = ()
    """The ports on the other side of it."""
    prefixes: tuple[str, ...] = ()
    """What `ports` may not send to, where the other side is behind another core."""
    partition: str = ""
    """The partition that asks for it, in words."""


class Interface(Frozen, frozen=True):
    """An interface and its addresses with prefix length ("192.168.1.2/24")."""

    name: str
    addresses: tuple[str, ...] = ()


class Route(Frozen, frozen=True):
    """A route; `destination` is a prefix ("0.0.0.0/0" for the default).

    With neither gateway nor interface, what goes there is refused.
    """

    destination: str
    gateway: str = ""
    interface: str = ""


class Program(Frozen, frozen=True):
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


class Nptv6(Frozen, frozen=True):
    """Subnets inside, each with the one that it is outside (RFC 6296); all of them are /64s."""

    subnets: tuple[tuple[str, str], ...]


class Nat64(Frozen, frozen=True):
    """IPv4 for hosts that have none (RFC 6146)."""

    prefix: str
    """Before an IPv4 address, its address in IPv6 (RFC 6052)."""
    hosts: tuple[tuple[str, str], ...] = ()
    """IPv6 addresses inside, each with the IPv4 address that the router's NAT knows it by."""


class Daemon(Frozen, frozen=True):
    """A real program of some package that runs in a node beside the node's own program.

    To give a node one, put it in `Node.daemons`; nothing else is needed.  It
    runs in the node's network with the host's files, its working directory is a
    folder of its own (`nodes/<node>/<name>` in the state folder), and `{dir}`
    in `command` and in the texts of `files` stands for that folder (`{python}`
    in `command` for the Python that runs lab).  Files named `hosts` and
    `resolv.conf` are what it sees as those of /etc.  It starts
    with the services, before any peer, and again when it or an interface of its
    node changes.  `<node>/<name>` is what `lab status`, `lab logs` and metrics
    call it.  A machine without the executable is told so, with the package's
    name, before anything is made.
    """

    name: str
    """Unique in its node, in letters of a file name."""
    command: tuple[str, ...]
    """It must stay in the foreground: a daemon whose process ends has ended."""
    package: str = ""
    """The Debian package that has the executable `command[0]`."""
    files: tuple[tuple[str, str], ...] = ()
    """Names and texts, written into its folder each time before it starts."""
    ready: tuple[str, ...] = ()
    """Ports that are open when it is ready: `tcp/8888`, `udp/53`; or `tun/nat64`, a device that
    it holds; or `address/eth0`, an interface that has one of IPv4.  Started means ready if there
    are none."""

    def key(self, node: str) -> str:
        """What it is called in `node`: `router/upnpd`."""
        return f"{node}/{self.name}"


class Node(Frozen, frozen=True):
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
    port_mapping: PortMapping | None = None
    """How hosts behind a router's NAT get external ports for themselves."""
    firewall: Firewall | None = None
    firewall6: Firewall | None = None
    """What filters IPv6 where `firewall` is None."""
    delegated: str = ""
    """The IPv6 prefix that is routed to a router."""
    nptv6: Nptv6 | None = None
    nat64: Nat64 | None = None
    program: Program | None = None
    subscribers: tuple[str, ...] = ()
    """Inside addresses behind a router, in order: a port block belongs to each."""
    resolver: str = ""
    """Address of the name server that a firewall above offers; empty if none does."""
    proxy: str = ""
    """Address and port of the web proxy that a firewall above offers ("192.168.1.1:3128")."""
    daemons: tuple[Daemon, ...] = ()
    """What runs besides `program`: port mapping, a web proxy, a resolver."""
    activity: Activity = Activity.RUNNING
    fences: tuple[Fence, ...] = ()
    """What partitions of the lab ask of this core or segment."""

    @property
    def programs(self) -> tuple[str, ...]:
        """The names of what runs here: `router` for its program, `router/upnpd` for a daemon."""
        own = () if self.program is None else (self.name,)
        return (*own, *(daemon.key(self.name) for daemon in self.daemons))


class Plan(Frozen, frozen=True):
    """Everything that has to exist for one lab."""

    lab: str
    nodes: tuple[Node, ...]
    links: tuple[Link, ...]
    seed: int = 0
    description: str = ""
    source: str = ""
    """The topology file it came from."""
    runtime: Runtime = Runtime.PROCESS
    """What built-in programs run as."""
    expect: tuple[Expectation, ...] = ()
    """What the file says that `lab connect` finds."""
    timeline: tuple[Happening, ...] = ()
    """What happens while the lab runs, from the moment it is up."""
    partitions: tuple[Partition, ...] = ()
    """Those that are in force."""
    netem: bool = False
    """Whether the kernel backend can delay and lose packets on this machine."""
    netem_seed: bool = True
    """Whether it can do so by a seed."""
    splice: bool = True
    """Whether the ferry can be put into a wire in use on this machine."""
    topology: Topology | None = None
    """What it was compiled from, with every host where it is now; None if written by hand."""
    notes: tuple[str, ...] = ()
    """What was decided for the user and why (runtime, link backend): printed by `lab up`."""

    @property
    def node_count(self) -> int:
        """How many nodes there are to people: a shared segment is what they are wired by."""
        return sum(node.kind is not NodeKind.SEGMENT for node in self.nodes)

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
