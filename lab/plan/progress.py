"""What is running while operations are being carried out.

`Running.advance` is the meaning of each operation, without side effects on
anything but the record itself.  It lets a failed apply be undone (diff from
what is running to what was), and it is the yardstick of the property test of
`lab.plan.diff`.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

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
    ResetNode,
    ResumeNode,
    ShapeLink,
    StartDaemon,
    StartProgram,
    StopDaemon,
    StopProgram,
)
from lab.topology.changes import Activity


def without(node: Node, interfaces: Collection[str]) -> Node:
    """`node` as it is when `interfaces` are gone, and their routes with them."""
    if not interfaces:
        return node
    return msgspec.structs.replace(
        node,
        interfaces=tuple(each for each in node.interfaces if each.name not in interfaces),
        routes=tuple(route for route in node.routes if route.interface not in interfaces),
    )


class Running:
    """The nodes and links that exist, updated operation by operation."""

    def __init__(self, plan: Plan) -> None:
        self._frame = msgspec.structs.replace(plan, nodes=(), links=())
        self._nodes: dict[str, Node] = {node.name: node for node in plan.nodes}
        self._links: dict[str, Link] = {link.name: link for link in plan.links}

    @classmethod
    def nothing(cls, plan: Plan) -> Running:
        """The state before anything of `plan` exists."""
        return cls(msgspec.structs.replace(plan, nodes=(), links=()))

    def plan(self) -> Plan:
        """What exists now, as a plan."""
        return msgspec.structs.replace(
            self._frame,
            nodes=tuple(self._nodes.values()),
            links=tuple(self._links.values()),
        )

    def advance(self, operation: AnyOperation) -> None:
        """Take note that `operation` was carried out."""
        match operation:
            case CreateNode(node=node):
                self._nodes[node.name] = Node(name=node.name, kind=node.kind)
            case DeleteNode(node=node):
                for link in tuple(self._links.values()):
                    if node.name in {link.a.node, link.b.node}:
                        self._cut(link)
                del self._nodes[node.name]
            case CreateLink(link=link) | ShapeLink(link=link):
                self._links[link.name] = link
            case DeleteLink(link=link):
                self._cut(link)
            case ConfigureNode(after=after):
                now = self._nodes[after.name]
                self._nodes[after.name] = msgspec.structs.replace(
                    after,
                    nat=now.nat,
                    port_mapping=now.port_mapping,
                    firewall=now.firewall,
                    subscribers=now.subscribers,
                    program=now.program,
                    daemons=now.daemons,
                    activity=now.activity,
                    fences=now.fences,
                )
            case LoadRules(node=node):
                self._replace(
                    node.name,
                    nat=node.nat,
                    port_mapping=node.port_mapping,
                    firewall=node.firewall,
                    subscribers=node.subscribers,
                )
            case ResetNode():
                pass  # What it forgets is no part of a plan.
            case FenceNode(node=node):
                self._replace(node.name, fences=node.fences)
            case PauseNode(node=node):
                self._replace(node.name, activity=Activity.PAUSED)
            case ResumeNode(node=node):
                self._replace(node.name, activity=Activity.RUNNING)
            case StartProgram(node=name, program=program):
                self._begin(name)
                self._replace(name, program=program)
            case StopProgram(node=name):
                self._replace(name, program=None)
            case StartDaemon(node=name, daemon=daemon):
                self._begin(name)
                self._replace(name, daemons=(*self._nodes[name].daemons, daemon))
            case StopDaemon(node=name, daemon=daemon):
                left = (each for each in self._nodes[name].daemons if each != daemon)
                self._replace(name, daemons=tuple(left))

    def _cut(self, link: Link) -> None:
        del self._links[link.name]
        for end in (link.a, link.b):
            if end.node in self._nodes:
                self._nodes[end.node] = without(self._nodes[end.node], {end.interface})

    def _begin(self, name: str) -> None:
        """Something starts in a node; what had been stopped is not running beside it."""
        if self._nodes[name].activity is Activity.STOPPED:
            self._replace(name, activity=Activity.RUNNING, program=None, daemons=())

    def _replace(self, name: str, **changes: object) -> None:
        self._nodes[name] = msgspec.structs.replace(self._nodes[name], **changes)
