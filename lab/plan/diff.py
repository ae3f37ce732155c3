"""The smallest change from one plan to another, as typed operations.

What did not change is not touched: its programs run on, its connections and
NAT mappings live on.  Three things spread a change further than its cause:

- a container owns its namespace, so a changed container program replaces the
  node;
- an interface disappears with its link, and addresses, routes and bridge
  membership with the interface, so what a replaced link led to is configured
  again;
- a deleted namespace takes its veth links along, at some moment of the
  kernel's choosing.  Where one end stays, or where the ferry holds the link,
  the link is therefore deleted first and by name.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from lab.plan.model import Link, Node, Plan
from lab.plan.operations import (
    AnyOperation,
    ConfigureNode,
    CreateLink,
    CreateNode,
    DeleteLink,
    DeleteNode,
    FenceNode,
    LoadRules,
    PauseNode,
    ResumeNode,
    ShapeLink,
    StartDaemon,
    StartProgram,
    StopDaemon,
    StopProgram,
    phase,
)
from lab.plan.portmap import DAEMON as PORT_MAPPER
from lab.plan.progress import without
from lab.topology.behaviour import Runtime
from lab.topology.changes import Activity
from lab.topology.character import Backend


def diff(running: Plan | None, desired: Plan | None) -> tuple[AnyOperation, ...]:
    """The operations that bring `running` to `desired`, in the order of their phases.

    None is a lab that has nothing; equal plans give no operations.  In a
    `ConfigureNode`, `before` is what the node has left when its turn comes:
    without the interfaces whose link this same change replaces or removes.
    """
    return tuple(sorted(_Change(running, desired).operations(), key=phase))


class _Change:
    """The two plans side by side."""

    def __init__(self, running: Plan | None, desired: Plan | None) -> None:
        self.before = {node.name: node for node in running.nodes} if running else {}
        self.after = {node.name: node for node in desired.nodes} if desired else {}
        self.links_before = {link.name: link for link in running.links} if running else {}
        self.links_after = {link.name: link for link in desired.links} if desired else {}
        self.stays = {
            name
            for name, node in self.after.items()
            if name in self.before and not _replaced(self.before[name], node)
        }
        self.links_stay = {
            name
            for name, link in self.links_after.items()
            if name in self.links_before
            and self._between_staying(link)
            and _same_wire(self.links_before[name], link)
        }
        self.cut: dict[str, set[str]] = {}
        for name, link in self.links_before.items():
            if name not in self.links_stay:
                for end in (link.a, link.b):
                    self.cut.setdefault(end.node, set()).add(end.interface)

    def operations(self) -> Iterator[AnyOperation]:
        """All operations, those of one phase in the order of the plans."""
        yield from self._removals()
        yield from self._links()
        for name, node in self.after.items():
            if name not in self.stays:
                yield CreateNode(node=node)
                yield ConfigureNode(after=node)
                if _has_rules(node):
                    yield LoadRules(node=node)
                if node.fences:
                    yield FenceNode(node=node)
                yield from _start(node)
                if node.activity is Activity.PAUSED:
                    yield PauseNode(node=node)
            else:
                yield from self._staying(self.before[name], node)

    def _removals(self) -> Iterator[AnyOperation]:
        for name, node in self.before.items():
            if name not in self.stays:
                yield from _stop(node)
                yield DeleteNode(node=node)
        for name, link in self.links_before.items():
            if name not in self.links_stay:
                half_stays = link.a.node in self.stays or link.b.node in self.stays
                if half_stays or link.backend is Backend.FERRY:
                    yield DeleteLink(link=link)

    def _links(self) -> Iterator[AnyOperation]:
        for name, link in self.links_after.items():
            if name not in self.links_stay:
                yield CreateLink(link=link)
            elif link != self.links_before[name]:
                yield ShapeLink(link=link)

    def _staying(self, before: Node, after: Node) -> Iterator[AnyOperation]:
        if before.fences != after.fences:
            yield FenceNode(node=after)
        was_paused = before.activity is Activity.PAUSED
        before, after = _at_work(before), _at_work(after)
        if was_paused and after.activity is Activity.RUNNING:
            yield ResumeNode(node=before)
        left = without(before, self.cut.get(before.name, set()))
        if _network(left) != _network(after):
            yield ConfigureNode(before=left, after=after)
        # What a daemon bound to an interface or joined through it goes with the interface.
        same = () if left != before else set(before.daemons) & set(after.daemons)
        # The port mapping daemon starts with its table empty: what it knew is gone.
        empty = after.port_mapping is not None and any(
            daemon.name == PORT_MAPPER and daemon not in same for daemon in after.daemons
        )
        if (_has_rules(before) or _has_rules(after)) and (empty or _rules(before) != _rules(after)):
            known = _has_rules(before) and not empty
            yield LoadRules(node=after, before=before if known else None)
        if before.program != after.program:
            if before.program:
                yield StopProgram(node=before.name, program=before.program)
            if after.program:
                yield StartProgram(node=after.name, program=after.program)
        for daemon in before.daemons:
            if daemon not in same:
                yield StopDaemon(node=before.name, daemon=daemon)
        for daemon in after.daemons:
            if daemon not in same:
                yield StartDaemon(node=after.name, daemon=daemon)
        anew = before.program != after.program or not set(after.daemons) <= set(same)
        if after.activity is Activity.PAUSED and (anew or not was_paused):
            yield PauseNode(node=after)

    def _between_staying(self, link: Link) -> bool:
        return link.a.node in self.stays and link.b.node in self.stays


def _at_work(node: Node) -> Node:
    """`node` with what runs in it: nothing, where that was stopped."""
    stopped = node.activity is Activity.STOPPED
    return replace(node, program=None, daemons=()) if stopped else node


def _stop(node: Node) -> Iterator[AnyOperation]:
    node = _at_work(node)
    if node.program:
        yield StopProgram(node=node.name, program=node.program)
    for daemon in node.daemons:
        yield StopDaemon(node=node.name, daemon=daemon)


def _start(node: Node) -> Iterator[AnyOperation]:
    node = _at_work(node)
    for daemon in node.daemons:
        yield StartDaemon(node=node.name, daemon=daemon)
    if node.program:
        yield StartProgram(node=node.name, program=node.program)


def _replaced(before: Node, after: Node) -> bool:
    """Whether the namespace itself has to be another one."""
    if before.kind is not after.kind:
        return True
    container = any(
        program is not None and program.runtime is Runtime.DOCKER
        for program in (before.program, after.program)
    )
    if not container:
        return False
    # A container that was stopped keeps its namespace, but another one can't enter it.
    began = before.activity is Activity.STOPPED and after.activity is not Activity.STOPPED
    return began or before.program != after.program


def _same_wire(before: Link, after: Link) -> bool:
    """Whether `before` can become `after` by shaping alone."""
    return (before.a, before.b, before.on_veth) == (after.a, after.b, after.on_veth)


def rewired(before: Plan, after: Plan) -> tuple[Link, ...]:
    """The links of `after` that are in `before`, too, but whose wire has to be another one."""
    known = {link.name: link for link in before.links}
    return tuple(
        link
        for link in after.links
        if link.name in known and not _same_wire(known[link.name], link)
    )


def _network(node: Node) -> tuple[object, ...]:
    """What `ConfigureNode` brings about; the order of interfaces means nothing."""
    return (
        frozenset(node.interfaces),
        frozenset(node.routes),
        node.forwarding,
        node.nat64,
        node.wan,
        node.lan,
    )


def _rules(node: Node) -> tuple[object, ...]:
    """What a rule set is made from."""
    return (
        node.nat,
        node.port_mapping,
        node.firewall,
        node.firewall6,
        node.nptv6,
        node.nat64,
        node.resolver,
        node.proxy,
        node.subscribers,
        node.wan,
        node.lan,
        frozenset(node.interfaces),
    )


def _has_rules(node: Node) -> bool:
    return any((node.nat, node.firewall, node.firewall6, node.nptv6))
