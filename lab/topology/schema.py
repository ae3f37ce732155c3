"""The topology file as pydantic models: one class for each mapping in it.

A model holds what a person wrote, in base units, before presets, counts and
names are resolved (`lab.topology.loader` does that).  Descriptions here are
what an editor shows: `lab.topology.jsonschema` makes the JSON Schema of these
classes.  A field that is None was not written.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lab.topology.behaviour import PortPolicy
from lab.topology.fields import (
    AddressField,
    BackendField,
    CommandField,
    CountField,
    CpusField,
    DelayField,
    DependenceField,
    EnvField,
    HairpinField,
    ImageField,
    InboundField,
    IpField,
    LanField,
    LifetimeField,
    LinkEnds,
    LossField,
    MemoryField,
    MomentField,
    MountsField,
    MtuField,
    Nat64Field,
    NodeIpField,
    OutboundField,
    OutcomeField,
    PartitionField,
    PoolingField,
    PortMappingField,
    PortPolicyField,
    PortRange,
    ProxyField,
    RateField,
    RefreshField,
    RegionsField,
    SeedField,
    ServicesField,
    SpanField,
    UnsolicitedField,
)
from lab.topology.linkfields import (
    DisciplineField,
    DistributionField,
    LossesField,
    OrderField,
    QueueField,
    TraceField,
)
from lab.topology.model import INTERNET, Ip


class Form(BaseModel):
    """Base of all mappings in a file: no unknown keys, no conversion of types.

    `terse` is the key that a single word stands for, if one may stand for the
    mapping.
    """

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        arbitrary_types_allowed=True,
        validate_default=False,
        alias_generator=lambda name: name.rstrip("_").replace("_", "-"),
    )
    terse: ClassVar[str] = ""

    @model_validator(mode="before")
    @classmethod
    def _from_terse(cls, value: Any) -> Any:
        if cls.terse and isinstance(value, str | int | float) and not isinstance(value, bool):
            return {cls.terse: value}
        return value


class PortsForm(Form):
    """The port policy of a NAT (RFC 4787, section 4.2)."""

    terse: ClassVar[str] = "policy"

    policy: PortPolicyField = Field(
        PortPolicy.PRESERVE,
        description="How a new mapping chooses its port: the internal one, a random one, the "
        "next one, or one of the subscriber's block.",
    )
    range: PortRange = Field(
        (1024, 65535), description="First and last port to choose from: 1024-65535."
    )
    stride: int = Field(1, ge=1, le=64, description="Step between two ports, with sequential.")
    block: int = Field(0, ge=1, le=64512, description="Ports of each subscriber, with block.")
    parity: bool = Field(
        False, description="Even ports for even ones, odd for odd (RFC 4787, section 4.2.2)."
    )
    overload: bool = Field(
        False,
        description="With preserve: hosts share a port towards different destinations, as behind "
        "Linux.",
    )


class LifetimesForm(Form):
    """How long an idle mapping lives (RFC 4787 REQ-5, RFC 5382 REQ-5)."""

    udp: LifetimeField | None = Field(None, description="An idle UDP mapping. Default 120s.")
    udp_one_way: LifetimeField | None = Field(
        None, description="A UDP mapping by which nothing came in yet. As udp, if absent."
    )
    permission: LifetimeField | None = Field(
        None, description="How long who was sent to by UDP may answer. As the mapping, if absent."
    )
    refresh: RefreshField | None = Field(
        None, description="Whose packets keep UDP mappings and permissions alive. Default both."
    )
    tcp_established: LifetimeField | None = Field(
        None, description="An open connection. Default 2h4m."
    )
    tcp_transitory: LifetimeField | None = Field(
        None, description="A connection that opens or closes. Default 4m."
    )


class NatForm(Form):
    """A NAT: a preset's name, or choices of its own in the words of RFC 4787."""

    terse: ClassVar[str] = "preset"

    preset: str | None = Field(None, description="What the other keys change.")
    mapping: DependenceField | None = Field(
        None, description="What the external port depends on (RFC 4787, section 4.1)."
    )
    filtering: DependenceField | None = Field(
        None, description="Who outside may answer (RFC 4787, section 5)."
    )
    ports: PortsForm | None = Field(None, description="How external ports are chosen.")
    hairpin: HairpinField | None = Field(
        None, description="Whether inside hosts reach each other by external addresses."
    )
    unsolicited: UnsolicitedField | None = Field(
        None, description="What becomes of a packet that no mapping admits."
    )
    lifetimes: LifetimesForm | None = Field(None, description="When idle mappings end.")
    pool: int | None = Field(None, ge=1, le=64, description="How many external addresses it has.")
    pooling: PoolingField | None = Field(
        None, description="One address for all of a host (paired, default), or any (arbitrary)."
    )
    sessions: int | None = Field(
        None, ge=1, le=65_535, description="The most flows that one inside host may have open."
    )


class PortMappingForm(Form):
    """How hosts ask the router for external ports: protocols, or protocols and lifetimes."""

    protocols: PortMappingField = Field(
        default_factory=lambda: ["upnp", "pcp"],
        description="UPnP IGD; PCP and NAT-PMP, which go together.",
    )
    min_lifetime: LifetimeField | None = Field(
        None, description="The shortest lease of PCP. Default 2m."
    )
    max_lifetime: LifetimeField | None = Field(
        None, description="The longest lease of PCP and NAT-PMP. Default 24h."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_protocols(cls, value: Any) -> Any:
        return {"protocols": value} if isinstance(value, bool | str | list) else value


class FirewallForm(Form):
    """A stateful packet filter: a preset's name, or the flows that each direction admits."""

    terse: ClassVar[str] = "preset"

    preset: str | None = Field(None, description="What the other keys change.")
    outbound: OutboundField | None = Field(
        None, description="Flows begun inside. A list admits these and nothing else; absent, all."
    )
    inbound: InboundField | None = Field(
        None, description="Flows begun outside. A list admits these and nothing else; absent, all."
    )
    resolver: bool | None = Field(
        None, description="A name server in the router, which knows the lab's nodes."
    )
    proxy: ProxyField | None = Field(
        None, description="A web proxy in the router, which goes out where the inside may not."
    )
    portal: bool | None = Field(
        None, description="A captive portal: a host passes once it has accepted the portal's page."
    )


class ImpairmentForm(Form):
    """The character of one direction of a link."""

    rate: RateField | None = Field(None, description="How much passes.")
    delay: DelayField | None = Field(None, description="How long a packet takes, one way.")
    jitter: DelayField | None = Field(None, description="How far the delay strays.")
    distribution: DistributionField | None = Field(
        None, description="How jitter is distributed: a word (default uniform) or a table's file."
    )
    correlation: LossField | None = Field(
        None, description="How much of a packet's jitter is that of the packet before."
    )
    order: OrderField | None = Field(
        None, description="Whether jitter may let packets overtake (free) or not (keep, default)."
    )
    loss: LossesField | None = Field(None, description="How many packets are lost, or which.")
    reorder: LossField | None = Field(
        None, description="How many packets overtake: they do not wait for the delay."
    )
    duplicate: LossField | None = Field(None, description="How many packets arrive twice.")
    corrupt: LossField | None = Field(None, description="How many packets have one bit inverted.")
    queue: QueueField | None = Field(
        None, description="How much waits where the rate holds it up. Default 1 bdp."
    )
    discipline: DisciplineField | None = Field(
        None, description="What the queue does before it is full. Default drop-tail."
    )
    trace: TraceField | None = Field(
        None, description="Instead of a rate: a packet-delivery trace of mahimahi's. none for none."
    )


class LinkForm(ImpairmentForm):
    """An access link: a preset's name, or figures for both directions or each.

    What it says holds for each direction; `up` and `down` change it for what
    leaves and what comes.
    """

    terse: ClassVar[str] = "preset"

    preset: str | None = Field(None, description="What the other keys change.")
    mtu: MtuField | None = Field(None, description="Largest packet in bytes. Default 1500.")
    backend: BackendField | None = Field(
        None, description="What carries the impairments: lab chooses (auto) unless told."
    )
    up: ImpairmentForm | None = Field(None, description="What leaves the router or node.")
    down: ImpairmentForm | None = Field(None, description="What comes to the router or node.")


class InternetForm(Form):
    """The core between all networks: a delay, or delay, loss and the rate of an attachment."""

    terse: ClassVar[str] = "delay"

    rate: RateField | None = Field(None, description="How much passes.")
    delay: DelayField | None = Field(None, description="How long a packet takes, one way.")
    loss: LossField | None = Field(None, description="How many packets are lost.")
    regions: RegionsField | None = Field(
        None,
        description="Instead of one delay, the round trips between regions: a matrix by name "
        "(world), a file (./rtt.csv, ./rtt.yaml), or europe: {europe: 8ms, asia: 180ms}.",
    )


class _Attached(Form):
    """What routers and nodes have in common."""

    via: str = Field(INTERNET, description="The router it is attached to, or internet (default).")
    region: str | None = Field(
        None, description="Where it is attached to an internet that has regions."
    )
    link: LinkForm | None = Field(None, description="The link to `via`.")
    firewall: FirewallForm | None = Field(None, description="What it lets pass.")
    address: AddressField | None = Field(
        None, description="Its address there, of IPv4 or IPv6, or one of each; assigned if absent."
    )
    count: CountField | None = Field(
        None,
        description="As many alike, named name-1, name-2, ... Behind a counted router they are "
        "dealt out evenly, in order: with equal counts one to each.",
    )


class RouterForm(_Attached):
    """A router with a LAN behind it."""

    nat: NatForm | None = Field(None, description="How it translates; absent, it does not.")
    port_mapping: PortMappingForm | None = Field(
        None, description="By what hosts inside may ask for external ports; absent, by nothing."
    )
    ip: IpField | None = Field(
        None, description="What its LAN has; absent, what the network has that it is attached to."
    )
    nptv6: bool = Field(
        False,
        description="Its LAN has unique local addresses, which it translates one to one "
        "(RFC 6296).",
    )
    nat64: Nat64Field | None = Field(
        None,
        description="Its LAN, without IPv4, reaches IPv4 by a prefix: true for 64:ff9b::/96 "
        "(RFC 6146), with DNS64.",
    )
    lan: LanField | None = Field(
        None,
        description="The prefix of its LAN, of IPv4 or IPv6 (a /64), or one of each; assigned if "
        "absent.",
    )

    @model_validator(mode="before")
    @classmethod
    def _empty(cls, value: Any) -> Any:
        return {} if value is None else value


class SwitchForm(Form):
    """A network of hosts alone, without a router: they claim their addresses (RFC 3927)."""

    @model_validator(mode="before")
    @classmethod
    def _empty(cls, value: Any) -> Any:
        return {} if value is None else value


class NodeForm(_Attached):
    """A host and what runs in it: the built-in peer, services, or a program of one's own."""

    via: str = Field(description="The router or switch it is attached to, or internet.")
    ip: NodeIpField | None = Field(
        None,
        description="What it has; absent, what the network has that it is attached to. "
        "link-local: an address that it claims itself.",
    )
    peer: bool = Field(False, description="Runs the built-in peer.")
    service: ServicesField | None = Field(
        None,
        description="A built-in service, a list of them, or services with ports of their own: "
        "{relay: {port: 443}}.",
    )
    services: ServicesField | None = Field(None, description="Built-in services.")
    image: ImageField | None = Field(None, description="A container image to run.")
    command: CommandField | None = Field(
        None,
        description="A program to run, as text or as a list of words; in a "
        "process, ./FILE stands beside the topology.",
    )
    env: EnvField | None = Field(
        None, description="Environment variables of the program, besides those of lab."
    )
    mounts: MountsField | None = Field(
        None,
        description="Host paths that the program sees as others: source:target or "
        "source:target:ro; in a process, the target has to exist.",
    )
    memory: MemoryField | None = Field(
        None, description="The most memory that the program may use, such as 256MB."
    )
    cpus: CpusField | None = Field(None, description="How many CPUs the program may use: 0.5, 2.")
    ready: Literal["started", "signal"] = Field(
        "started",
        description="When a program of one's own is ready: once started, or when it says so "
        "(docs/contract.md).",
    )


class ExpectForm(Form):
    """What `lab connect` must find between two peers."""

    from_: str = Field(description="The peer that begins.")
    to: str = Field(description="The peer that is called.")
    direct: OutcomeField | None = Field(
        None, description="Contact at an address that is reachable as it stands."
    )
    reversal: OutcomeField | None = Field(None, description="The callee is asked to call.")
    udp_punch: OutcomeField | None = Field(None, description="UDP hole punching.")
    tcp_punch: OutcomeField | None = Field(None, description="TCP hole punching.")
    udp_predict: OutcomeField | None = Field(None, description="UDP punching by port prediction.")
    tcp_predict: OutcomeField | None = Field(None, description="TCP punching by port prediction.")
    birthday: OutcomeField | None = Field(None, description="UDP punching by birthday probing.")
    lan: OutcomeField | None = Field(None, description="Found on the LAN, without servers.")
    upnp: OutcomeField | None = Field(None, description="A router opens a port: UPnP IGD.")
    nat_pmp: OutcomeField | None = Field(None, description="A router opens a port: NAT-PMP.")
    pcp: OutcomeField | None = Field(None, description="A router opens a port: PCP.")
    ice: OutcomeField | None = Field(None, description="ICE (RFC 8445), all candidates at once.")
    ice_trickle: OutcomeField | None = Field(None, description="ICE, candidates as they come.")
    relay: OutcomeField | None = Field(None, description="Through the relay service.")
    http: OutcomeField | None = Field(None, description="In HTTP, by a web relay.")
    path: Literal["direct", "relayed", "none"] | None = Field(
        None, description="The best path that is found."
    )


class SetForm(LinkForm):
    """What changes: a router's NAT, a firewall, or a link in the words of links."""

    terse: ClassVar[str] = ""

    router: str | None = Field(None, description="A router; with a count, all of them or one.")
    node: str | None = Field(None, description="A node; with a count, all of them or one.")
    nat: NatForm | None = Field(None, description="Its NAT from then on.")
    firewall: FirewallForm | None = Field(None, description="Its firewall from then on.")
    link: LinkEnds | None = Field(
        None,
        description="The two ends of a link: [alice, home]. The other keys say what it is like "
        "from then on; without a preset they change what is declared.",
    )


class MoveForm(Form):
    """A host that roams: it leaves its router or switch, and gets another address elsewhere."""

    node: str = Field(description="The host.")
    to: str = Field(description="The router or switch that it comes to.")
    link: LinkForm | None = Field(None, description="Its link there; absent, as before.")


class HappeningForm(Form):
    """Something that happens while the lab runs; each entry is one thing."""

    at: MomentField = Field(description="When, counted from the moment the lab is up.")
    set_: SetForm | None = Field(None, description="Changes a behaviour.")
    reboot: str | None = Field(None, description="A router that loses all its state.")
    flush: str | None = Field(None, description="A router whose NAT forgets its mappings.")
    down: LinkEnds | None = Field(None, description="A link that is cut: [alice, home].")
    up: LinkEnds | None = Field(None, description="A link that is whole again.")
    stop: str | None = Field(None, description="A node whose program is stopped.")
    start: str | None = Field(None, description="A node whose program is started again.")
    pause: str | None = Field(None, description="A node in which everything holds still.")
    resume: str | None = Field(None, description="A node in which everything goes on.")
    partition: PartitionField | None = Field(
        None,
        description="Groups that can't reach one another: alice, bob / carol. Names are nodes, "
        "routers with all behind them, or regions; one group is kept apart from the rest.",
    )
    heal: Literal[True] | None = Field(None, description="Every partition ends.")
    move: MoveForm | None = Field(
        None, description="A host that leaves its router or switch for another."
    )
    for_: SpanField | None = Field(None, description="How long; then it is undone.")
    every: SpanField | None = Field(None, description="Happens again each time this has passed.")
    times: int | None = Field(None, ge=1, le=1_000_000, description="How often, with every.")
    jitter: SpanField | None = Field(
        None, description="Each time up to so much later, drawn with the seed."
    )


class FileForm(Form):
    """A network for lab: routers, nodes, and the internet between them."""

    name: str | None = Field(None, description="The topology's name; the file's name if absent.")
    description: str = Field("", description="What it shows, in a sentence.")
    seed: SeedField = Field(1, description="Every random choice follows from it.")
    ip: IpField = Field(
        Ip.V4, description="What everything has unless it says otherwise: 4, 6 or dual."
    )
    internet: InternetForm | None = Field(
        None, description="The core. `delay` is from one edge to another, one way."
    )
    routers: dict[str, RouterForm] | None = Field(None, description="Routers by name.")
    switches: dict[str, SwitchForm] | None = Field(
        None, description="Networks without a router, by name."
    )
    nodes: dict[str, NodeForm] | None = Field(None, description="Hosts by name.")
    expect: list[ExpectForm] | None = Field(
        None, description="What connecting peers must find; checked by `lab connect`."
    )
    timeline: list[HappeningForm] | None = Field(
        None, description="What happens while the lab runs."
    )
