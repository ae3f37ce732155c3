"""A NAT's independent choices as the words and numbers of its nftables table.

The mechanism is one for all of RFC 4787.  A mapping is an entry of a map from
a key to an external port, and mapping behaviours differ in the key alone: the
inside endpoint, with the destination's address, with the whole destination.
An external port belongs to at most one mapping, which the second map records.
A flow without a mapping draws ports by the policy until it has claimed one
that nobody holds.  So a mapping is the same one for as long as it lives, and
no two mappings share a port: by construction, not by the luck of a hash.

iptables alone can't say this: its SNAT chooses a port that is free *towards
one destination*, so two hosts with one source port share it, and the second
loses endpoint independence (RFC 4787, REQ-3 and section 4.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lab.errors import InputError
from lab.topology.behaviour import (
    Dependence,
    Hairpin,
    Lifetimes,
    Nat,
    Pooling,
    PortPolicy,
    Ports,
    Refresh,
    Unsolicited,
)

_ANY_PORTS = (1024, 65535)
_LARGEST_STRIDE = 64
_CLOCKED_S = 1
"""How long conntrack knows a flow whose lifetime it does not keep."""
_LARGE_POOL = 4096
"""Ports from which drawing at random practically always finds a free one."""

_INSIDE = "ct original ip saddr . ct original proto-src"
_KEYS = {
    Dependence.ENDPOINT_INDEPENDENT: (
        "by_source",
        _INSIDE,
        "ipv4_addr . inet_service",
    ),
    Dependence.ADDRESS_DEPENDENT: (
        "by_address",
        f"{_INSIDE} . ct original ip daddr",
        "ipv4_addr . inet_service . ipv4_addr",
    ),
    Dependence.ADDRESS_AND_PORT_DEPENDENT: (
        "by_flow",
        f"{_INSIDE} . ct original ip daddr . ct original proto-dst",
        "ipv4_addr . inet_service . ipv4_addr . inet_service",
    ),
}

_REACHED = "ct reply ip saddr . ct reply proto-src"
"""The inside endpoint of a flow that began outside."""
_REACHED_KEYS = {
    Dependence.ENDPOINT_INDEPENDENT: _REACHED,
    Dependence.ADDRESS_DEPENDENT: f"{_REACHED} . ct original ip saddr",
    Dependence.ADDRESS_AND_PORT_DEPENDENT: (
        f"{_REACHED} . ct original ip saddr . ct original proto-src"
    ),
}


@dataclass(frozen=True, slots=True)
class Span:
    """A lifetime and the chain that grants it."""

    name: str
    seconds: int


@dataclass(frozen=True, slots=True)
class Protocol:
    """One transport protocol's maps; TCP and UDP have nothing in common but the rules."""

    name: str
    mappings: str
    """Map: key of the mapping to external port."""
    inside: str
    """Map: external port to inside endpoint."""
    claims: str
    """Set: external ports being claimed now, so that two flows can't claim one at once."""
    admits: str
    """Set: external port and outside endpoint or address; empty if nothing asks it."""
    spans: tuple[Span, ...]
    own: str
    """What a packet must match to keep its inside port."""
    inbound: bool
    """Whether flows may begin outside: otherwise only replies come in, which conntrack knows."""
    wan_gate: str | None
    """The condition on a flow from outside; None where none may begin there."""
    lan_gate: str
    """The same for a hairpinned flow."""
    sent: str
    """The mapping's key in a packet from inside, before conntrack has seen it."""
    lapsed: str
    """What a packet from outside matches if its mapping or permission is none any more."""
    clock: Clock | None = None
    """What keeps time where conntrack can't: its timers know one lifetime and both directions."""

    @property
    def taken(self) -> str:
        """Set: flows that begin outside and end in the router; only if it accepts them."""
        return f"{self.name}_taken"

    @property
    def recent(self) -> str:
        """Set: external ports that are mapped or were a moment ago; only with a clock."""
        return f"{self.name}_recent"

    @property
    def answered(self) -> str:
        """Set: external ports by which something came in; only with a clock."""
        return f"{self.name}_answered"

    @property
    def known(self) -> str:
        """Set: keys of flows that conntrack knows; only where what goes out renews nothing."""
        return f"{self.name}_known"

    @property
    def first_s(self) -> int:
        """How long a mapping lives that no packet has refreshed, in seconds."""
        return self.spans[0].seconds


@dataclass(frozen=True, slots=True)
class Clock:
    """Lifetimes kept by the maps alone; conntrack forgets each flow after a second.

    A flow that goes on then begins anew, and finds its mapping and permission
    as long as these live.
    """

    one_way_s: int
    two_way_s: int
    permission_s: int
    outbound: str
    """What a packet going out does to entries: `update` renews them, `add` only makes them."""
    inbound: str
    """The same for one coming in; empty for nothing."""

    @property
    def told_apart(self) -> bool:
        """Whether a mapping lives longer once something came in."""
        return self.one_way_s < self.two_way_s

    @property
    def recent_s(self) -> int:
        """How long after a mapping's last packet conntrack may still know a flow of it."""
        return self.two_way_s + 2

    def permit_s(self, seconds: int) -> int:
        """The permission's lifetime where the mapping gets `seconds`."""
        return min(self.permission_s or seconds, seconds)


@dataclass(frozen=True, slots=True)
class Pool:
    """A range of external ports, inclusive, for one inside host or for all."""

    first: int
    last: int
    host: str = ""
    suffix: str = ""

    @property
    def count(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Level:
    """A chain that jumps to another a number of times."""

    name: str
    times: int
    target: str


@dataclass(frozen=True, slots=True)
class Search:
    """How a free port is looked for: at random, or counting up by a stride."""

    draw: str
    """The chain that makes one draw."""
    generator: str
    meaning: str
    levels: tuple[Level, ...]
    stride: int = 1
    parity: bool = False
    """Whether pairs of ports are drawn, of which the inside port's parity chooses one."""

    @property
    def shift(self) -> int:
        """The generator counts in host order: shifted by 16, its lower half lands in the port."""
        return 17 if self.parity else 16

    @property
    def name(self) -> str:
        """The chain that draws until a port is claimed or patience ends."""
        return self.levels[0].name

    def count(self, pool: Pool) -> int:
        """How many values the generator has: a multiple of the stride, so that it wraps evenly."""
        if self.parity:
            return max((pool.last + 1) // 2 - (pool.first + 1) // 2, 1)
        return max(pool.count // self.stride, 1) * self.stride

    def offset(self, pool: Pool) -> int:
        """The generator's smallest value: the first draw counts `stride` times to `first`."""
        if self.parity:
            return (pool.first + 1) // 2
        return pool.first - (self.stride - 1)


@dataclass(frozen=True, slots=True)
class Externals:
    """A NAT's outside addresses, and which one a mapping has."""

    addresses: tuple[str, ...]
    paired: bool
    subscribers: tuple[str, ...]

    @property
    def match(self) -> str:
        """Any of them, as nft writes it."""
        return self.addresses[0] if self.single else f"{{ {', '.join(self.addresses)} }}"

    @property
    def single(self) -> bool:
        """Whether there is one only."""
        return len(self.addresses) == 1

    @property
    def numbered(self) -> tuple[tuple[int, str], ...]:
        """The addresses and their places in the pool."""
        return tuple(enumerate(self.addresses))

    @property
    def hosts(self) -> tuple[tuple[str, int], ...]:
        """Each known inside host and the place of its address, dealt out in turn."""
        return tuple(
            (host, index % len(self.addresses)) for index, host in enumerate(self.subscribers)
        )

    def hash(self, port: str) -> str:
        """The place of the address that an external port goes with."""
        return f"jhash {port} mod {len(self.addresses)} seed 1"

    def chosen(self, protocol: str) -> tuple[str, ...]:
        """What follows `snat to`, one rule each; the first that knows the packet decides."""
        if self.single:
            return self.addresses
        if not self.paired:
            places = ", ".join(f"{place} : {address}" for place, address in self.numbered)
            return (f"{self.hash(f'{protocol} sport')} map {{ {places} }}",)
        return (*self.by_host, self.addresses[0])

    @property
    def by_host(self) -> tuple[str, ...]:
        """The address of a known host; nothing if none is known."""
        if not self.hosts:
            return ()
        pairs = ", ".join(f"{host} : {self.addresses[place]}" for host, place in self.hosts)
        return (f"ip saddr map {{ {pairs} }}",)


def words(
    nat: Nat, *, externals: tuple[str, ...], subscribers: tuple[str, ...], where: str = ""
) -> dict[str, Any]:
    """What the nft templates need to know about `nat`.

    Raises InputError for a port policy that no ports satisfy; `where` names
    the router in its text.
    """
    suffix, key, key_type = _KEYS[nat.mapping]
    hairpin = nat.hairpin is not Hairpin.OFF
    by_endpoint = nat.filtering is Dependence.ADDRESS_AND_PORT_DEPENDENT
    pools = _pools(nat.ports, subscribers, where)
    return {
        "nat": nat,
        "ports": nat.ports,
        "external": externals[0],
        "externals": Externals(externals, nat.pooling is Pooling.PAIRED, subscribers),
        "hairpin": nat.hairpin if hairpin else "",
        "key": key,
        "key_type": key_type,
        "endpoint": _INSIDE,
        "reached": _REACHED,
        "conntrack_s": _CLOCKED_S,
        "reached_key": _REACHED_KEYS[nat.mapping],
        "by_source": nat.mapping is Dependence.ENDPOINT_INDEPENDENT,
        "by_endpoint": by_endpoint,
        "admits_type": "inet_service . ipv4_addr" + (" . inet_service" if by_endpoint else ""),
        "destination": "ct original ip daddr" + (" . ct original proto-dst" if by_endpoint else ""),
        "outsider": "ct original ip saddr" + (" . ct original proto-src" if by_endpoint else ""),
        "pools": pools,
        "blocks": tuple(pool for pool in pools if pool.host),
        "rest": next((pool for pool in pools if pool.suffix and not pool.host), None),
        "searches": _searches(nat.ports, pools, where),
        "protocols": tuple(
            _protocol(name, nat, suffix, spans, clock)
            for name, spans, clock in (
                ("udp", _udp(nat.lifetimes), _clock(nat.lifetimes)),
                ("tcp", _tcp(nat.lifetimes), None),
            )
        ),
        "takes": nat.unsolicited is Unsolicited.ACCEPT,
    }


def _protocol(
    name: str, nat: Nat, suffix: str, spans: tuple[Span, ...], clock: Clock | None
) -> Protocol:
    by_endpoint = nat.filtering is Dependence.ADDRESS_AND_PORT_DEPENDENT
    # Behind the strictest filter only replies come in, and conntrack knows those.
    replies_only = by_endpoint and clock is None
    inbound = not replies_only or nat.hairpin is not Hairpin.OFF
    admits = ""
    if inbound and nat.filtering is not Dependence.ENDPOINT_INDEPENDENT:
        admits = f"{name}_admits_{'endpoint' if by_endpoint else 'address'}"
    return Protocol(
        name=name,
        mappings=f"{name}_{suffix}",
        inside=f"{name}_inside",
        claims=f"{name}_claims",
        admits=admits,
        spans=spans,
        own=_own(name, nat.ports),
        inbound=inbound,
        wan_gate=None if replies_only else _gate(name, admits, nat.filtering, hairpin=False),
        lan_gate=_gate(name, admits, nat.filtering, hairpin=True),
        sent=_sent(name, nat.mapping),
        lapsed=_lapsed(name, admits, nat.filtering),
        clock=clock,
    )


def sysctls(lifetimes: Lifetimes) -> tuple[tuple[str, str], ...]:
    """The settings of conntrack in a namespace that make `lifetimes` true.

    UDP's two are equal unless told apart: the kernel's "stream" one begins to
    count only with two-way traffic older than 2 s.

    A NAT passes all valid sequences of TCP packets (RFC 5382, REQ-2) and does
    not count octets: a host whose SYN was refused by ICMP, and that then
    answers the other's SYN, does so with numbers that a stateful firewall
    would take for nobody's.
    """
    udp, one_way = lifetimes.udp_s, lifetimes.udp_one_way_s or lifetimes.udp_s
    if _clock(lifetimes):
        udp = one_way = _CLOCKED_S
    transitory = str(lifetimes.tcp_transitory_s)
    states = ("syn_sent", "syn_recv", "fin_wait", "close_wait", "last_ack", "time_wait")
    return (
        ("netfilter/nf_conntrack_udp_timeout", str(one_way)),
        ("netfilter/nf_conntrack_udp_timeout_stream", str(udp)),
        ("netfilter/nf_conntrack_tcp_be_liberal", "1"),
        ("netfilter/nf_conntrack_tcp_timeout_established", str(lifetimes.tcp_established_s)),
        *((f"netfilter/nf_conntrack_tcp_timeout_{state}", transitory) for state in states),
    )


def _udp(lifetimes: Lifetimes) -> tuple[Span, ...]:
    one_way = lifetimes.udp_one_way_s or lifetimes.udp_s
    if one_way == lifetimes.udp_s:
        return (Span("idle", lifetimes.udp_s),)
    return (Span("one_way", one_way), Span("two_way", lifetimes.udp_s))


def _clock(lifetimes: Lifetimes) -> Clock | None:
    """The clock that `lifetimes` need; None where conntrack keeps them."""
    if lifetimes.refresh is Refresh.BOTH and not lifetimes.permission_s:
        return None
    return Clock(
        one_way_s=lifetimes.udp_one_way_s or lifetimes.udp_s,
        two_way_s=lifetimes.udp_s,
        permission_s=lifetimes.permission_s,
        outbound="add" if lifetimes.refresh is Refresh.INBOUND else "update",
        inbound="" if lifetimes.refresh is Refresh.OUTBOUND else "update",
    )


def _tcp(lifetimes: Lifetimes) -> tuple[Span, ...]:
    if lifetimes.tcp_established_s <= lifetimes.tcp_transitory_s:
        return (Span("transitory", lifetimes.tcp_transitory_s),)
    # The state of a connection shows in how long conntrack grants it.
    return (
        Span("transitory", lifetimes.tcp_transitory_s),
        Span("established", lifetimes.tcp_established_s),
    )


def _own(protocol: str, ports: Ports) -> str:
    if (ports.first, ports.last) == _ANY_PORTS:
        return ""
    return f"{protocol} sport {ports.first}-{ports.last} "


def _gate(name: str, admits: str, filtering: Dependence, *, hairpin: bool) -> str:
    """The condition in front of DNAT.

    A hairpinned packet comes from the external address, which is also where
    it goes to, and carries its external port by then.
    """
    address = "ip daddr" if hairpin else "ip saddr"
    match filtering:
        case Dependence.ENDPOINT_INDEPENDENT:
            return ""
        case Dependence.ADDRESS_DEPENDENT:
            return f"{name} dport . {address} @{admits} "
        case Dependence.ADDRESS_AND_PORT_DEPENDENT:
            return f"{name} dport . {address} . {name} sport @{admits} "


def _sent(name: str, mapping: Dependence) -> str:
    inside = f"ip saddr . {name} sport"
    match mapping:
        case Dependence.ENDPOINT_INDEPENDENT:
            return inside
        case Dependence.ADDRESS_DEPENDENT:
            return f"{inside} . ip daddr"
        case Dependence.ADDRESS_AND_PORT_DEPENDENT:
            return f"{inside} . ip daddr . {name} dport"


def _lapsed(name: str, admits: str, filtering: Dependence) -> str:
    match filtering:
        case Dependence.ENDPOINT_INDEPENDENT:
            return f"{name} dport != @{name}_inside"
        case Dependence.ADDRESS_DEPENDENT:
            return f"{name} dport . ip saddr != @{admits}"
        case Dependence.ADDRESS_AND_PORT_DEPENDENT:
            return f"{name} dport . ip saddr . {name} sport != @{admits}"


def _searches(ports: Ports, pools: tuple[Pool, ...], where: str) -> tuple[Search, ...]:
    """The searches to make in turn."""
    if ports.policy is PortPolicy.SEQUENTIAL:
        if not 1 <= ports.stride <= _LARGEST_STRIDE:
            raise InputError(
                f"stride {ports.stride} of the port sequence is out of range",
                remedy=f"Give a stride from 1 to {_LARGEST_STRIDE}.",
                where=where,
            )
        # Replaced rules count from the start again, past all ports still held.
        return (_upward("rise", "flight", "stretch", stride=ports.stride),)
    if min(pool.count for pool in pools) >= _LARGE_POOL:
        return (_at_random(16, parity=ports.parity),)
    # In a small pool luck may fail while ports are left; counting finds them.
    return (
        _at_random(8, parity=ports.parity),
        _upward("flight", "stretch", parity=ports.parity),
    )


def _at_random(draws: int, *, parity: bool) -> Search:
    levels = (Level("draws", draws, "draw"),)
    return Search("draw", "random", "any that is free", levels, parity=parity)


def _upward(*levels: str, stride: int = 1, parity: bool = False) -> Search:
    """Eight draws for one level, 64 for two, 512 for three."""
    targets = (*levels[1:], "step")
    return Search(
        "step",
        "inc",
        "the next that is free",
        tuple(Level(name, 8, target) for name, target in zip(levels, targets, strict=True)),
        stride,
        parity,
    )


def _pools(ports: Ports, subscribers: tuple[str, ...], where: str) -> tuple[Pool, ...]:
    if not 1 <= ports.first <= ports.last <= 65535:
        raise InputError(
            f"no external ports from {ports.first} to {ports.last}",
            remedy="Give a first and a last port with 1 <= first <= last <= 65535.",
            where=where,
        )
    if ports.policy is not PortPolicy.BLOCK or not subscribers:
        return (Pool(ports.first, ports.last),)
    available = ports.last - ports.first + 1
    block = ports.block or available // len(subscribers)
    if block < 1 or block * len(subscribers) > available:
        raise InputError(
            f"{len(subscribers)} subscribers with {max(block, 1)} ports each need more than "
            f"the {available} ports from {ports.first} to {ports.last}",
            remedy="Make the blocks smaller, the range larger, or the subscribers fewer.",
            where=where,
        )
    pools = [
        Pool(
            ports.first + index * block,
            ports.first + (index + 1) * block - 1,
            host=host,
            suffix=f"_{index}",
        )
        for index, host in enumerate(subscribers)
    ]
    if pools[-1].last < ports.last:
        pools.append(Pool(pools[-1].last + 1, ports.last, suffix="_rest"))
    return tuple(pools)
