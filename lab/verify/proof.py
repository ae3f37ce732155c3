"""Whether a path is where a peer says that it is: read from the routers, not from the peer.

A path's packets are followed from the caller's socket as the routes lead.
Each router with a NAT or firewall on the way has to know the flow, to have
seen packets of both directions, and says what they look like on its other
side.  Where that ends is who the caller speaks with: a path is direct if it is
the callee itself, whoever else may be cut off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lab.errors import LabError
from lab.fabric import netns
from lab.fabric.claimed import with_claimed
from lab.fabric.rules.flows import Ends, Flow, flows
from lab.paths import LabPaths
from lab.plan.ipv6 import Prefix6
from lab.plan.model import Node, NodeKind, Plan
from lab.plan.nptv6 import renumbered
from lab.predict.map import Map
from lab.predict.wall import wall_of

_LONGEST_WAY = 64


@dataclass(frozen=True, slots=True)
class Proof:
    """What the routers say about one path."""

    proven: bool
    reason: str
    """One sentence for a person, without a full stop."""

    def to_json(self) -> dict[str, Any]:
        return {"proven": self.proven, "reason": self.reason}


def prove(plan: Plan, paths: LabPaths, record: Mapping[str, Any]) -> Proof:
    """Follow the path of a record that says `success` or `reversed` (docs/contract.md).

    Entries outlive a path by their lifetime, so this may come after it.
    """
    local, remote = str(record.get("local")), str(record.get("remote"))
    ends, protocol = _ends(record), record.get("transport")
    if ends is None or protocol not in ("udp", "tcp"):
        return Proof(False, "the record does not say between which endpoints the path is")
    world = Map(with_claimed(plan, paths))
    if record.get("path") != "direct":
        return _relayed(world, record)
    nowhere = ends.source[0] in ("0.0.0.0", "::")
    if nowhere or (":" in ends.source[0]) != (":" in ends.destination[0]):
        # Of a host behind a NAT64, the address by which that one's NAT knows it.
        ends = Ends((world.source(local, ends.destination[0]), ends.source[1]), ends.destination)
    seen: list[str] = []
    at = local
    for _ in range(_LONGEST_WAY):
        hop = world.next_hop(at, ends.destination[0])
        if hop is None:
            return Proof(False, f"nothing leads from {at} to {_text(ends.destination)}")
        at = hop[0]
        node = world.nodes[at]
        if node.kind is NodeKind.HOST:
            through = f"through {' and '.join(seen)} " if seen else ""
            verb = "leads" if at == remote else "leads elsewhere:"
            return Proof(at == remote, f"it {verb} {through}to {at}")
        ends = _behind(node, ends)
        if not _tracks(node, ends):
            ends = _before(node, ends)
            continue
        try:
            with netns.inside(paths.netns(at)):
                known = flows()
        except LabError as error:
            return Proof(False, f"{at}: {error.message}")
        flow = _matching(known, str(protocol), ends)
        if flow is None:
            way = f"{_text(ends.source)} to {_text(ends.destination)}"
            return Proof(False, f"{at} knows no {protocol} flow from {way}")
        if not flow.answered:
            return Proof(False, f"{at} has seen packets of one direction only")
        ends = _before(node, flow.forwarded(ends) or ends)
        seen.append(at)
    return Proof(False, "the way goes in circles")


def _tracks(node: Node, ends: Ends) -> bool:
    """Whether connection tracking knows of flows between such ends there."""
    family = 6 if ":" in ends.source[0] else 4
    return wall_of(node, family) is not None or (node.nat is not None and family == 4)


def _behind(node: Node, ends: Ends) -> Ends:
    """What connection tracking sees at a router with NPTv6: addresses of the inside alone."""
    if node.nptv6 is None:
        return ends
    address, port = ends.destination
    inside = renumbered(node.nptv6.subnets, address, outward=False)
    return Ends(ends.source, (inside, port))


def _before(node: Node, ends: Ends) -> Ends:
    """What leaves it, if it is for the outside."""
    if node.nptv6 is None or ":" not in ends.destination[0]:
        return ends
    for inside, _ in node.nptv6.subnets:
        prefix = Prefix6.parse(inside)
        if prefix.first <= Prefix6.number(ends.destination[0]) <= prefix.last:
            return ends
    address, port = ends.source
    return Ends((renumbered(node.nptv6.subnets, address, outward=True), port), ends.destination)


def _relayed(world: Map, record: Mapping[str, Any]) -> Proof:
    """Whose the relay's address is: a relayed path claims no more than that."""
    sides = (record.get("local_candidate"), record.get("remote_candidate"))
    for side in sides:
        if isinstance(side, Mapping) and side.get("kind") == "relayed":
            address = str(side.get("endpoint")).rpartition(":")[0].strip("[]")
            for name in world.nodes:
                if address in world.addresses(name) and name not in (
                    record.get("local"),
                    record.get("remote"),
                ):
                    return Proof(True, f"it is relayed by {name}, at {address}")
    return Proof(False, "no address of it belongs to a relay")


def _matching(known: list[Flow], protocol: str, ends: Ends) -> Flow | None:
    mine = [flow for flow in known if flow.protocol == protocol and flow.forwarded(ends)]
    return next((flow for flow in mine if flow.answered), mine[0] if mine else None)


def _ends(record: Mapping[str, Any]) -> Ends | None:
    """From the caller's socket to where it sends."""
    remote = record.get("remote_candidate")
    texts = record.get("socket"), remote.get("endpoint") if isinstance(remote, Mapping) else None
    found = []
    for text in texts:
        address, _, port = str(text).rpartition(":")
        if not address or not port.isdigit():
            return None
        found.append((address.strip("[]"), int(port)))
    return Ends(found[0], found[1])


def _text(end: tuple[str, int]) -> str:
    address, port = end
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
