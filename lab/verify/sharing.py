"""What the hosts behind one NAT share: its addresses, its ports, and a number of flows."""

from __future__ import annotations

from collections.abc import Iterator

from lab.peer.endpoint import Endpoint
from lab.topology.behaviour import Dependence, Pooling, PortPolicy, Verdict
from lab.verify import expect
from lab.verify.probe import OUTSIDE
from lab.verify.report import Dimension, Finding
from lab.verify.trial import Trial

_MAPPINGS = 12
"""Mappings of each host from which pooling is told."""
_MOST_FLOWS = 2048
"""Flows that a probe makes at most."""
_BEYOND = 4
"""Flows beyond a limit that are to fail."""


def findings(trial: Trial) -> Iterator[Finding]:
    """Those of pooling, overloading and session limits that this NAT can be asked."""
    if not trial.destinations:
        return
    if trial.nat.pool > 1:
        yield _pooling(trial)
    if trial.nat.ports.policy is PortPolicy.PRESERVE and len(trial.probe.hosts) > 1:
        other = next((to for to in trial.destinations if to != trial.destinations[0]), None)
        if other is not None:
            yield _overloading(trial, other)
    # The limit is one for all protocols.
    if trial.protocol == "udp" and 0 < trial.nat.sessions <= _MOST_FLOWS and trial.begin():
        yield _sessions(trial, trial.nat.sessions)


def _pooling(trial: Trial) -> Finding:
    """How many external addresses the mappings of one host have (RFC 4787, REQ-2)."""
    limited = trial.begin()
    hosts = (not limited and trial.site.node.subscribers[:2]) or trial.probe.hosts
    addresses = []
    for host in hosts:
        sends = [
            trial.probe.out(trial.protocol, Endpoint(host, trial.fresh()), trial.destinations[0])
            for _ in range(min(_MAPPINGS, trial.nat.sessions or _MAPPINGS))
        ]
        seen = trial.probe.external(trial.protocol, sends)
        addresses.append({each.address for each in seen if each})
    paired = all(len(found) == 1 for found in addresses)
    return trial.finding(
        Dimension.POOLING,
        str(trial.nat.pooling),
        str(Pooling.PAIRED if paired else Pooling.ARBITRARY),
        "; ".join(
            f"{host} as {', '.join(sorted(found))}"
            for host, found in zip(hosts, addresses, strict=True)
        ),
    )


def _overloading(trial: Trial, other: Endpoint) -> Finding:
    """Whether two hosts have one port towards different destinations (RFC 4787, REQ-3)."""
    trial.begin()
    port = trial.fresh()
    one = trial.open(Endpoint(trial.probe.hosts[0], port), trial.destinations[0])
    two = trial.open(Endpoint(trial.probe.hosts[1], port), other)
    words = {True: "towards other destinations", False: "none"}
    return trial.finding(
        Dimension.OVERLOADING,
        words[trial.nat.ports.overload],
        words[one is not None and one == two],
        f"both have {one}",
    )


def _sessions(trial: Trial, limit: int) -> Finding:
    """How many flows one host has at a time (RFC 6888, REQ-4)."""
    count = limit + _BEYOND
    host, to = trial.probe.hosts[0], trial.destinations[0]
    ports = range(20000, 20000 + count)
    anywhere = all(
        expect.verdict(trial.outbound, trial.protocol, port, to.address) is Verdict.ACCEPT
        for port in ports
    )
    if anywhere and trial.nat.mapping is not Dependence.ADDRESS_AND_PORT_DEPENDENT:
        # One mapping has them all.
        source = Endpoint(host, trial.fresh())
        ways = [(source, Endpoint(to.address, port)) for port in ports]
    else:
        ways = [(Endpoint(host, trial.probe.port()), to) for _ in ports]
    sends = [trial.probe.out(trial.protocol, *way) for way in ways]
    outcomes = trial.probe.exchange(sends, range(limit))
    passed = sum(outcome.on(OUTSIDE) is not None for outcome in outcomes)
    return trial.finding(
        Dimension.SESSIONS, f"{limit}", f"more than {limit}" if passed > limit else f"{passed}"
    )
