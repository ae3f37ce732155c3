"""Verifying a lab: every NAT and firewall at once, each in a thread of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from msgspec.structs import replace

from lab.paths import LabPaths
from lab.plan.model import Node, NodeKind, Plan
from lab.verify import firewall, host, ipv6, peers, portmap, sharing, site, site6
from lab.verify.lifetimes import LIMIT_S, Clocks
from lab.verify.nat import NatProbe
from lab.verify.probe import Probe
from lab.verify.report import IPV4, IPV6, Finding, PeerFinding, Report

_AT_ONCE = 24
"""Nodes measured together."""


@dataclass(slots=True)
class _Found:
    findings: list[Finding] = field(default_factory=list)
    peers: list[PeerFinding] = field(default_factory=list)
    unmeasured: list[tuple[str, str]] = field(default_factory=list)


def verify(
    plan: Plan,
    paths: LabPaths,
    nodes: Sequence[str] | None = None,
    *,
    slow: bool = False,
    limit_s: float = LIMIT_S,
) -> Report:
    """Measure every NAT and firewall of a running lab against `plan`, or those of `nodes`.

    `slow` adds what takes its time: lifetimes and what refreshes them, up to
    `limit_s` seconds; a longer life is followed that far.  Raises LabError if
    a node of the plan is not there, MissingError without the privilege.
    """
    began = time.monotonic()
    chosen = [node for node in plan.nodes if nodes is None or node.name in nodes]
    tasks: list[Callable[[], _Found]] = []
    for node in chosen:
        if node.kind is NodeKind.HOST:
            if node.firewall is not None:
                tasks.append(partial(_host, plan, paths, node))
        elif node.nat or node.firewall or ipv6.translates_or_filters(node):
            tasks.append(partial(_router, plan, paths, node, limit_s if slow else 0.0))
    if peers.servers_of(plan):
        known = {node.name for node in peers.peers_of(plan)}
        asked = [node for node in chosen if node.name in known]
        tasks += [partial(_peer, plan, paths, node) for node in asked]
    threads = len(tasks) if slow else min(len(tasks), _AT_ONCE)
    found = _Found()
    with ThreadPoolExecutor(max(threads, 1), thread_name_prefix="verify") as pool:
        for done in [pool.submit(task) for task in tasks]:
            part = done.result()
            found.findings += part.findings
            found.peers += part.peers
            found.unmeasured += part.unmeasured
    return Report(
        lab=plan.lab,
        findings=tuple(found.findings),
        peers=tuple(found.peers),
        unmeasured=tuple(found.unmeasured),
        seconds=round(time.monotonic() - began, 3),
    )


def _router(plan: Plan, paths: LabPaths, node: Node, limit_s: float) -> _Found:
    found = _Found()
    try:
        if ipv6.has_ipv4(node) and (node.nat or node.firewall):
            found.findings += _router4(plan, paths, node, limit_s)
        found.findings += ipv6.findings(plan, paths, node)
    except site.UnreachableError as reason:
        found.unmeasured.append((node.name, str(reason)))
    return found


def _router4(plan: Plan, paths: LabPaths, node: Node, limit_s: float) -> Iterator[Finding]:
    where = site.of_router(plan, node)
    with Probe(where, paths) as probe:
        if node.nat is not None:
            for protocol in ("udp", "tcp"):
                nat = NatProbe(probe, node.nat, protocol)
                yield from nat.findings()
                yield from sharing.findings(nat)
        if node.firewall is not None:
            yield from firewall.findings(probe, node.firewall)
        if node.nat is not None:
            yield from portmap.findings(plan, paths, where)
        if node.nat is not None and limit_s:
            yield from Clocks(probe, node.nat, limit_s).findings()


def _host(plan: Plan, paths: LabPaths, node: Node) -> _Found:
    found = _Found()
    if node.firewall is None:
        return found
    places = {IPV4: site.of_host, IPV6: site6.of_host6}
    families = [family for family in places if host.address(node, family)]
    for family in families:
        try:
            where = places[family](plan, node)
        except site.UnreachableError as reason:
            found.unmeasured.append((node.name, str(reason)))
            continue
        for one in host.findings(where, paths, node.firewall):
            found.findings.append(replace(one, family=family))
    return found


def _peer(plan: Plan, paths: LabPaths, node: Node) -> _Found:
    return _Found(peers=list(peers.measure(plan, paths, node)))
