"""What the hosts behind one NAT share: its addresses, its ports, and a number of flows."""

from __future__ import annotations

from collections.abc import Iterator

from lab.peer.endpoint import Endpoint
from lab.topology.behaviour import Dependence, Pooling, PortPolicy, Verdict
from lab.verify import expect
from lab.verify.nat import NatProbe
from lab.verify.probe import OUTSIDE
from lab.verify.report import Dimension, Finding

_MAPPINGS = 12
"""Mappings of each host from which pooling is told."""
_MOST_FLOWS = 2048
"""Flows that a probe makes at most."""
_BEYOND = 4
"""Flows beyond a limit that are to fail."""


def findings(nat: NatProbe) -> Iterator[Finding]:
    """Those of pooling, overloading and session limits that this NAT can be asked."""
    if not nat.destinations:
        return
    if nat.nat.pool > 1:
        yield _pooling(nat)
    if nat.nat.ports.policy is PortPolicy.PRESERVE and len(nat.probe.hosts) > 1:
        other = next((to for to in nat.destinations if to != nat.destinations[0]), None)
        if other is not None:
            yield _overloading(nat, other)
    # The limit is one for all protocols.
    if nat.protocol == "udp" and 0 < nat.nat.sessions <= _MOST_FLOWS and nat.begin():
        yield _sessions(nat, nat.nat.sessions)


def _pooling(nat: NatProbe) -> Finding:
    """How many external addresses the mappings of one host have (RFC 4787, REQ-2)."""
    limited = nat.begin()
    hosts = (not limited and nat.site.node.subscribers[:2]) or nat.probe.hosts
    addresses = []
    for host in hosts:
        sends = [
            nat.probe.out(nat.protocol, Endpoint(host, nat.fresh()), nat.destinations[0])
            for _ in range(min(_MAPPINGS, nat.nat.sessions or _MAPPINGS))
        ]
        seen = nat.probe.external(nat.protocol, sends)
        addresses.append({each.address for each in seen if each})
    paired = all(len(found) == 1 for found in addresses)
    return nat.finding(
        Dimension.POOLING,
        str(nat.nat.pooling),
        str(Pooling.PAIRED if paired else Pooling.ARBITRARY),
        "; ".join(
            f"{host} as {', '.join(sorted(found))}"
            for host, found in zip(hosts, addresses, strict=True)
        ),
    )


def _overloading(nat: NatProbe, other: Endpoint) -> Finding:
    """Whether two hosts have one port towards different destinations (RFC 4787, REQ-3)."""
    nat.begin()
    port = nat.fresh()
    one = nat.open(Endpoint(nat.probe.hosts[0], port), nat.destinations[0])
    two = nat.open(Endpoint(nat.probe.hosts[1], port), other)
    words = {True: "towards other destinations", False: "none"}
    return nat.finding(
        Dimension.OVERLOADING,
        words[nat.nat.ports.overload],
        words[one is not None and one == two],
        f"both have {one}",
    )


def _sessions(nat: NatProbe, limit: int) -> Finding:
    """How many flows one host has at a time (RFC 6888, REQ-4)."""
    count = limit + _BEYOND
    host, to = nat.probe.hosts[0], nat.destinations[0]
    ports = range(20000, 20000 + count)
    anywhere = all(
        expect.verdict(nat.outbound, nat.protocol, port, to.address) is Verdict.ACCEPT
        for port in ports
    )
    if anywhere and nat.nat.mapping is not Dependence.ADDRESS_AND_PORT_DEPENDENT:
        # One mapping has them all.
        source = Endpoint(host, nat.fresh())
        ways = [(source, Endpoint(to.address, port)) for port in ports]
    else:
        ways = [(Endpoint(host, nat.probe.port()), to) for _ in ports]
    sends = [nat.probe.out(nat.protocol, *way) for way in ways]
    outcomes = nat.probe.exchange(sends, range(limit))
    passed = sum(outcome.on(OUTSIDE) is not None for outcome in outcomes)
    return nat.finding(
        Dimension.SESSIONS, f"{limit}", f"more than {limit}" if passed > limit else f"{passed}"
    )
