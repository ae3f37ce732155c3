"""How long a NAT's mappings live: by conntrack where it can, by clocks of the rule set else."""

from __future__ import annotations

from dataclasses import dataclass

from lab.topology.behaviour import (
    Lifetimes,
    Refresh,
)

CLOCKED_S = 1
"""How long conntrack knows a flow whose lifetime it does not keep."""


@dataclass(frozen=True, slots=True)
class Span:
    """A lifetime and the chain that grants it."""

    name: str
    seconds: int


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
    if clock_of(lifetimes):
        udp = one_way = CLOCKED_S
    transitory = str(lifetimes.tcp_transitory_s)
    states = ("syn_sent", "syn_recv", "fin_wait", "close_wait", "last_ack", "time_wait")
    return (
        ("netfilter/nf_conntrack_udp_timeout", str(one_way)),
        ("netfilter/nf_conntrack_udp_timeout_stream", str(udp)),
        ("netfilter/nf_conntrack_tcp_be_liberal", "1"),
        ("netfilter/nf_conntrack_tcp_timeout_established", str(lifetimes.tcp_established_s)),
        *((f"netfilter/nf_conntrack_tcp_timeout_{state}", transitory) for state in states),
    )


def udp_spans(lifetimes: Lifetimes) -> tuple[Span, ...]:
    """The lifetimes of UDP mappings, from the first to the last."""
    one_way = lifetimes.udp_one_way_s or lifetimes.udp_s
    if one_way == lifetimes.udp_s:
        return (Span("idle", lifetimes.udp_s),)
    return (Span("one_way", one_way), Span("two_way", lifetimes.udp_s))


def clock_of(lifetimes: Lifetimes) -> Clock | None:
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


def tcp_spans(lifetimes: Lifetimes) -> tuple[Span, ...]:
    """The lifetimes of TCP mappings, from the first to the last."""
    if lifetimes.tcp_established_s <= lifetimes.tcp_transitory_s:
        return (Span("transitory", lifetimes.tcp_transitory_s),)
    # The state of a connection shows in how long conntrack grants it.
    return (
        Span("transitory", lifetimes.tcp_transitory_s),
        Span("established", lifetimes.tcp_established_s),
    )
