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

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lab.errors import InputError
from lab.topology.behaviour import Dependence, Hairpin, Lifetimes, Nat, PortPolicy, Ports

_ANY_PORTS = (1024, 65535)
_LARGEST_STRIDE = 64
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

    @property
    def first_s(self) -> int:
        """How long a mapping lives that no packet has refreshed, in seconds."""
        return self.spans[0].seconds


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

    @property
    def name(self) -> str:
        """The chain that draws until a port is claimed or patience ends."""
        return self.levels[0].name

    def count(self, pool: Pool) -> int:
        """How many values the generator has: a multiple of the stride, so that it wraps evenly."""
        return max(pool.count // self.stride, 1) * self.stride

    def offset(self, pool: Pool) -> int:
        """The generator's smallest value: the first draw counts `stride` times to `first`."""
        return pool.first - (self.stride - 1)


def words(
    nat: Nat, *, external: str, subscribers: tuple[str, ...], where: str = ""
) -> dict[str, Any]:
    """What the nft templates need to know about `nat`.

    Raises InputError for a port policy that no ports satisfy; `where` names
    the router in its text.
    """
    suffix, key, key_type = _KEYS[nat.mapping]
    hairpin = nat.hairpin is not Hairpin.OFF
    by_endpoint = nat.filtering is Dependence.ADDRESS_AND_PORT_DEPENDENT
    # Behind the strictest filter only replies come in, and conntrack knows those.
    gated = not by_endpoint or hairpin
    keeps_permits = gated and nat.filtering is not Dependence.ENDPOINT_INDEPENDENT
    pools = _pools(nat.ports, subscribers, where)
    return {
        "nat": nat,
        "ports": nat.ports,
        "external": external,
        "hairpin": nat.hairpin if hairpin else "",
        "key": key,
        "key_type": key_type,
        "endpoint": _INSIDE,
        "by_source": nat.mapping is Dependence.ENDPOINT_INDEPENDENT,
        "by_endpoint": by_endpoint,
        "admits_type": "inet_service . ipv4_addr" + (" . inet_service" if by_endpoint else ""),
        "destination": "ct original ip daddr" + (" . ct original proto-dst" if by_endpoint else ""),
        "caller": "ct original ip saddr" + (" . ct original proto-src" if by_endpoint else ""),
        "inbound_flows": gated,
        "wan_gate": None if by_endpoint else _gate(nat.filtering, hairpin=False),
        "lan_gate": _gate(nat.filtering, hairpin=True),
        "pools": pools,
        "blocks": tuple(pool for pool in pools if pool.host),
        "rest": next((pool for pool in pools if pool.suffix and not pool.host), None),
        "searches": _searches(nat.ports, pools, where),
        "protocols": tuple(
            Protocol(
                name=name,
                mappings=f"{name}_{suffix}",
                inside=f"{name}_inside",
                claims=f"{name}_claims",
                admits=f"{name}_admits_{'endpoint' if by_endpoint else 'address'}"
                if keeps_permits
                else "",
                spans=spans,
                own=_own(name, nat.ports),
            )
            for name, spans in (("udp", _udp(nat.lifetimes)), ("tcp", _tcp(nat.lifetimes)))
        ),
    }


def sysctls(lifetimes: Lifetimes) -> tuple[tuple[str, str], ...]:
    """The conntrack timeouts of a namespace that make `lifetimes` true.

    UDP's two are equal: the kernel's "stream" one begins to count only with
    two-way traffic older than 2 s, and a mapping has one timer.
    """
    transitory = str(lifetimes.tcp_transitory_s)
    states = ("syn_sent", "syn_recv", "fin_wait", "close_wait", "last_ack", "time_wait")
    return (
        ("netfilter/nf_conntrack_udp_timeout", str(lifetimes.udp_s)),
        ("netfilter/nf_conntrack_udp_timeout_stream", str(lifetimes.udp_s)),
        ("netfilter/nf_conntrack_tcp_timeout_established", str(lifetimes.tcp_established_s)),
        *((f"netfilter/nf_conntrack_tcp_timeout_{state}", transitory) for state in states),
    )


def _udp(lifetimes: Lifetimes) -> tuple[Span, ...]:
    return (Span("idle", lifetimes.udp_s),)


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


def _gate(filtering: Dependence, *, hairpin: bool) -> Callable[[Protocol], str]:
    """The condition in front of DNAT.

    A hairpinned packet comes from the external address, which is also where
    it goes to, and carries its external port by then.
    """
    address = "ip daddr" if hairpin else "ip saddr"

    def condition(protocol: Protocol) -> str:
        match filtering:
            case Dependence.ENDPOINT_INDEPENDENT:
                return ""
            case Dependence.ADDRESS_DEPENDENT:
                return f"{protocol.name} dport . {address} @{protocol.admits} "
            case Dependence.ADDRESS_AND_PORT_DEPENDENT:
                sport = f"{protocol.name} sport"
                return f"{protocol.name} dport . {address} . {sport} @{protocol.admits} "

    return condition


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
        return (_at_random(16),)
    # In a small pool luck may fail while ports are left; counting finds them.
    return (_at_random(8), _upward("flight", "stretch"))


def _at_random(draws: int) -> Search:
    return Search("draw", "random", "any that is free", (Level("draws", draws, "draw"),))


def _upward(*levels: str, stride: int = 1) -> Search:
    """Eight draws for one level, 64 for two, 512 for three."""
    targets = (*levels[1:], "step")
    return Search(
        "step",
        "inc",
        "the next that is free",
        tuple(Level(name, 8, target) for name, target in zip(levels, targets, strict=True)),
        stride,
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
