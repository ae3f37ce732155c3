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

from lab.fabric.rules.externals import Externals
from lab.fabric.rules.lifetimes import CLOCKED_S, Clock, Span, clock_of, tcp_spans, udp_spans
from lab.fabric.rules.ports import ANY_PORTS, pools_of, searches_of
from lab.topology.behaviour import (
    Dependence,
    Hairpin,
    Nat,
    Pooling,
    Ports,
    Unsolicited,
)

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
    pools = pools_of(nat.ports, subscribers, where)
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
        "conntrack_s": CLOCKED_S,
        "reached_key": _REACHED_KEYS[nat.mapping],
        "by_source": nat.mapping is Dependence.ENDPOINT_INDEPENDENT,
        "by_endpoint": by_endpoint,
        "admits_type": "inet_service . ipv4_addr" + (" . inet_service" if by_endpoint else ""),
        "destination": "ct original ip daddr" + (" . ct original proto-dst" if by_endpoint else ""),
        "outsider": "ct original ip saddr" + (" . ct original proto-src" if by_endpoint else ""),
        "pools": pools,
        "blocks": tuple(pool for pool in pools if pool.host),
        "rest": next((pool for pool in pools if pool.suffix and not pool.host), None),
        "searches": searches_of(nat.ports, pools, where),
        "protocols": tuple(
            _protocol(name, nat, suffix, spans, clock)
            for name, spans, clock in (
                ("udp", udp_spans(nat.lifetimes), clock_of(nat.lifetimes)),
                ("tcp", tcp_spans(nat.lifetimes), None),
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


def _own(protocol: str, ports: Ports) -> str:
    if (ports.first, ports.last) == ANY_PORTS:
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
