"""Operations and plans in words: what `--dry-run`, `--verbose` and `lab up` print."""

from __future__ import annotations

from lab.plan import words
from lab.plan.linklocal import CLAIMED, claims_address
from lab.plan.model import Fence, Link, Node, NodeKind, Plan
from lab.plan.names import DEFAULT_ROUTE, DEFAULT_ROUTE6
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
from lab.topology.behaviour import Runtime
from lab.topology.character import Backend

_MANY = 5
"""A node with more interfaces than this is not described by their addresses."""


def describe(operation: AnyOperation) -> str:
    """One line that says what `operation` does; lines of many operations align."""
    match operation:
        case StopProgram(node=name, program=program):
            return _line("stop", name, words.program(program))
        case StopDaemon(node=name, daemon=daemon):
            return _line("stop", f"{name}/{daemon.name}", " ".join(daemon.command))
        case DeleteLink(link=link):
            return _line("unlink", _ends(link))
        case DeleteNode(node=node):
            return _line("delete", node.name, _kind(node))
        case CreateNode(node=node):
            return _line("create", node.name, _kind(node))
        case CreateLink(link=link):
            return _line("link", f"{_ends(link):<40}", words.link(link) or "plain wire")
        case ShapeLink(link=link):
            return _line("shape", f"{_ends(link):<40}", words.link(link) or "plain wire")
        case ConfigureNode(before=before, after=after):
            return _line("configure", after.name, _configuration(before, after))
        case LoadRules(node=node):
            return _line("rules", node.name, _rules(node))
        case ResetNode(node=node):
            return _line("reset", node.name, "flows and mappings forgotten")
        case FenceNode(node=node):
            apart = "; ".join(map(_fence, node.fences))
            return _line("fence", node.name, apart or "everything passes")
        case PauseNode(node=node):
            return _line("pause", node.name, ", ".join(node.programs))
        case ResumeNode(node=node):
            return _line("resume", node.name, ", ".join(node.programs))
        case StartDaemon(node=name, daemon=daemon):
            return _line("start", f"{name}/{daemon.name}", " ".join(daemon.command))
        case StartProgram(node=name, program=program):
            return _line("start", name, words.program(program))
    raise TypeError(f"not an operation: {operation!r}")


def summary(plan: Plan) -> str:
    """What a plan consists of: `4 routers, 4 hosts, 8 links (6 by ferry), 4 programs`."""
    kinds = [node.kind for node in plan.nodes]
    ferried = sum(link.backend is Backend.FERRY for link in plan.links)
    programs = sum(node.program is not None for node in plan.nodes)
    counted = (
        (kinds.count(NodeKind.ROUTER), "router", ""),
        (kinds.count(NodeKind.HOST), "host", ""),
        (kinds.count(NodeKind.SEGMENT), "shared segment", ""),
        (len(plan.links), "link", f" ({ferried} by ferry)" if ferried else ""),
        (programs, "program", ""),
        (sum(len(node.daemons) for node in plan.nodes), "daemon", ""),
    )
    parts = (words.plural(count, noun) + more for count, noun, more in counted if count)
    return ", ".join(parts) or "nothing"


def _line(verb: str, what: str, details: str = "") -> str:
    return f"{verb:<10}{what:<16}{'  ' if details else ''}{details}".rstrip()


def _ends(link: Link) -> str:
    return f"{link.a.node}.{link.a.interface} -- {link.b.node}.{link.b.interface}"


def _kind(node: Node) -> str:
    if node.kind is NodeKind.SEGMENT:
        return "shared segment"
    if node.program and node.program.runtime is Runtime.DOCKER:
        return f"host, container of {node.program.image}"
    return "the core network" if node.kind is NodeKind.INTERNET else str(node.kind)


def _configuration(before: Node | None, after: Node) -> str:
    """The addresses and routes; of a node that stays, those that come and go."""
    had = {} if before is None else {each.name: each.addresses for each in before.interfaces}
    changed = [each for each in after.interfaces if had.get(each.name) != each.addresses]
    gone = had.keys() - {each.name for each in after.interfaces}
    routes_before = set() if before is None else set(before.routes)
    routes = [route for route in after.routes if route not in routes_before]
    lost = len(routes_before - set(after.routes))
    parts = []
    if after.kind is NodeKind.SEGMENT and changed:
        parts.append(words.plural(len(changed), "bridge port"))
    elif len(changed) > _MANY:
        parts.append(words.plural(len(changed), "interface"))
    else:
        none = CLAIMED if claims_address(after) else ""
        parts.extend(f"{each.name} {' '.join(each.addresses) or none}".rstrip() for each in changed)
    if gone:
        parts.append(f"without {', '.join(sorted(gone))}")
    if len(routes) > _MANY:
        parts.append(words.plural(len(routes), "route"))
    else:
        for route in routes:
            default = route.destination in (DEFAULT_ROUTE, DEFAULT_ROUTE6)
            to = "default" if default else route.destination
            way = f"via {route.gateway}" if route.gateway else route.interface or "refused"
            parts.append(f"{to} {way}")
    if lost:
        parts.append(f"{words.plural(lost, 'route')} fewer")
    return ", ".join(parts)


def _fence(fence: Fence) -> str:
    return f"{', '.join(fence.ports)} / {', '.join((*fence.others, *fence.prefixes))}"


def _rules(node: Node) -> str:
    parts = []
    if node.nat:
        name = f"{node.nat.preset} " if node.nat.preset else ""
        parts.append(f"{name}NAT: {words.nat(node.nat)}")
    if node.firewall:
        parts.append(f"firewall: {words.firewall(node.firewall)}")
    elif node.firewall6:
        parts.append(f"IPv6 firewall: {words.firewall(node.firewall6)}")
    return "; ".join(parts) or "none"
