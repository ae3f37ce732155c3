"""Verifying a lab: its links, then every NAT and firewall at once, each in a thread of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from msgspec.structs import replace

from lab.paths import LabPaths
from lab.plan.model import Link, Node, NodeKind, Plan
from lab.verify import firewall, host, ipv6, nat, peers, portmap, sharing, site, site6
from lab.verify.current import ChangedError, steadily
from lab.verify.lifetimes import LIMIT_S, Clocks
from lab.verify.links.measure import measure
from lab.verify.links.toll import Read
from lab.verify.probe import Probe
from lab.verify.report import IPV4, IPV6, Finding, LinkFinding, PeerFinding, Report, Unmeasured
from lab.verify.trial import Trial

_AT_ONCE = 24
"""Nodes measured together."""
_CHANGED = "it changed each time while it was measured"


@dataclass(slots=True)
class _Found:
    findings: list[Finding] = field(default_factory=list)
    peers: list[PeerFinding] = field(default_factory=list)
    unmeasured: list[Unmeasured] = field(default_factory=list)

    @property
    def right(self) -> bool:
        """Whether nothing differs, and everything was measured."""
        alright = all(one.ok for one in self.findings) and all(one.ok for one in self.peers)
        return alright and not self.unmeasured


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """Which links to measure, and how."""

    chosen: Callable[[Link], bool] = lambda _: True
    slow: bool = False
    read: Read = lambda: None
    """How the machine fares that carries them."""


def verify(
    plan: Plan,
    paths: LabPaths,
    nodes: Sequence[str] | None = None,
    *,
    slow: bool = False,
    limit_s: float = LIMIT_S,
    links: LinkOptions | None = None,
    now: Callable[[], Plan] | None = None,
) -> Report:
    """Measure every NAT and firewall of a running lab against `plan`, or those of `nodes`.

    `slow` adds what takes its time: lifetimes and what refreshes them, up to
    `limit_s` seconds; a longer life is followed that far.  `links` says which
    links are measured besides; none are without it.  `now` gives the plan that
    is in force then, for labs that change meanwhile.  Raises LabError if
    a node of the plan is not there, MissingError without the privilege.
    """
    began = time.monotonic()
    current = now or (lambda: plan)
    about_links, lost = _links(plan, paths, links, current) if links else ([], [])
    if links:
        plan = current()
    chosen = [node for node in plan.nodes if nodes is None or node.name in nodes]
    tasks: list[tuple[Node, Callable[[Plan, Node], _Found]]] = []
    for node in chosen:
        if node.kind is NodeKind.HOST:
            if node.firewall is not None:
                tasks.append((node, partial(_host, paths)))
        elif node.nat or node.firewall or ipv6.translates_or_filters(node):
            tasks.append((node, partial(_router, paths, limit_s if slow else 0.0)))
    if peers.servers_of(plan):
        known = {node.name for node in peers.peers_of(plan)}
        asked = [node for node in chosen if node.name in known]
        tasks += [(node, partial(_peer, paths)) for node in asked]
    threads = len(tasks) if slow else min(len(tasks), _AT_ONCE)
    found = _Found(unmeasured=lost)
    with ThreadPoolExecutor(max(threads, 1), thread_name_prefix="verify") as pool:
        for done in [pool.submit(_steadily, current, plan, *task) for task in tasks]:
            part = done.result()
            found.findings += part.findings
            found.peers += part.peers
            found.unmeasured += part.unmeasured
    return Report(
        lab=plan.lab,
        findings=tuple(found.findings),
        peers=tuple(found.peers),
        links=tuple(about_links),
        unmeasured=tuple(found.unmeasured),
        seconds=round(time.monotonic() - began, 3),
    )


def _steadily(
    now: Callable[[], Plan], plan: Plan, node: Node, task: Callable[[Plan, Node], _Found]
) -> _Found:
    """What `task` finds of a node, by the plan that is in force."""

    def measure(plan: Plan) -> _Found:
        there = [one for one in plan.nodes if one.name == node.name]
        return task(plan, there[0]) if there else _Found()

    try:
        return steadily(now, plan, measure, lambda found: found.right)
    except ChangedError:
        return _Found(unmeasured=[Unmeasured(node=node.name, why=_CHANGED)])


def _links(
    plan: Plan, paths: LabPaths, options: LinkOptions, now: Callable[[], Plan]
) -> tuple[list[LinkFinding], list[Unmeasured]]:
    """What is found of links; those that seem wrong are measured again if the lab changed."""
    found: dict[str, list[LinkFinding]] = {}
    lost: dict[str, str] = {}

    def look(plan: Plan) -> bool:
        """Measure what there is and was not yet found right."""
        links = [link for link in plan.links if options.chosen(link)]
        right = {name for name, parts in found.items() if all(one.ok for one in parts)}
        there = {link.name for link in links}
        for name in {*found} - there:
            del found[name]
        parts, gone = measure(
            [link for link in links if link.name not in right],
            paths,
            slow=options.slow,
            read=options.read,
        )
        found.update({one.name: [] for one in parts})
        for one in parts:
            found[one.name].append(one)
        lost.clear()
        lost.update(gone)
        return not gone and all(one.ok for one in parts)

    try:
        steadily(now, plan, look, lambda right: right)
    except ChangedError:
        for name in [name for name, parts in found.items() if not all(one.ok for one in parts)]:
            lost[found.pop(name)[0].link] = _CHANGED
    return (
        [one for parts in found.values() for one in parts],
        [Unmeasured(node=link, why=why) for link, why in lost.items()],
    )


def _router(paths: LabPaths, limit_s: float, plan: Plan, node: Node) -> _Found:
    found = _Found()
    try:
        if ipv6.has_ipv4(node) and (node.nat or node.firewall):
            found.findings += _router4(plan, paths, node, limit_s)
        found.findings += ipv6.findings(plan, paths, node)
    except site.UnreachableError as reason:
        found.unmeasured.append(Unmeasured(node=node.name, why=str(reason), meant=True))
    return found


def _router4(plan: Plan, paths: LabPaths, node: Node, limit_s: float) -> Iterator[Finding]:
    where = site.of_router(plan, node)
    with Probe(where, paths) as probe:
        if node.nat is not None:
            for protocol in ("udp", "tcp"):
                trial = Trial(probe, node.nat, protocol)
                yield from nat.findings(trial)
                yield from sharing.findings(trial)
        if node.firewall is not None:
            yield from firewall.findings(probe, node.firewall)
        if node.nat is not None:
            yield from portmap.findings(plan, paths, where)
        if node.nat is not None and limit_s:
            yield from Clocks(probe, node.nat, limit_s).findings()


def _host(paths: LabPaths, plan: Plan, node: Node) -> _Found:
    found = _Found()
    if node.firewall is None:
        return found
    places = {IPV4: site.of_host, IPV6: site6.of_host6}
    families = [family for family in places if host.address(node, family)]
    for family in families:
        try:
            where = places[family](plan, node)
        except site.UnreachableError as reason:
            found.unmeasured.append(Unmeasured(node=node.name, why=str(reason), meant=True))
            continue
        for one in host.findings(where, paths, node.firewall):
            found.findings.append(replace(one, family=family))
    return found


def _peer(paths: LabPaths, plan: Plan, node: Node) -> _Found:
    way = {node.name, *(router.name for router in site.way_out(plan, node.name))}
    if any(link.down and link.a.node in way for link in plan.links):
        why = "its way to the STUN server is down"
        return _Found(unmeasured=[Unmeasured(node=node.name, why=why, meant=True)])
    return _Found(peers=list(peers.measure(plan, paths, node)))
