"""What a firewall says of the first packet of a flow: the first rule that matches decides."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from lab.plan.model import Node, NodeKind
from lab.predict.packet import Endpoint, Lost, Packet, Why
from lab.topology.behaviour import Direction, Firewall, Rule, Verdict


def wall_of(node: Node, family: int) -> Firewall | None:
    """What filters packets of a family at `node`."""
    return node.firewall or (node.firewall6 if family == 6 else None)


def refused(
    node: Node, packet: Packet, *, inbound: bool = False, outbound: bool = False
) -> Lost | None:
    """Why the firewall of `node` does not let a packet in, or out; None if it does."""
    wall = wall_of(node, packet.family)
    if wall is None:
        return None
    if wall.portal and not inbound and node.kind is NodeKind.ROUTER:
        return Lost(Why.CAPTIVE, node.name, packet)
    if inbound and not _passes(wall.inbound, packet, packet.source):
        return Lost(Why.INBOUND, node.name, packet)
    if outbound and not _passes(wall.outbound, packet, packet.destination):
        return Lost(Why.OUTBOUND, node.name, packet)
    return None


def _passes(direction: Direction, packet: Packet, remote: Endpoint) -> bool:
    """Whether the first packet of a flow is admitted."""
    for rule in direction.rules:
        if _matches(rule, packet, remote):
            return rule.verdict is Verdict.ACCEPT
    return direction.default is Verdict.ACCEPT


def _matches(rule: Rule, packet: Packet, remote: Endpoint) -> bool:
    if rule.protocol not in ("any", packet.protocol):
        return False
    port = packet.destination.port
    if rule.ports and not any(first <= port <= last for first, last in rule.ports):
        return False
    if not rule.remote:
        return True
    network = ip_network(rule.remote, strict=False)
    address = ip_address(remote.address)
    return network.version == address.version and address in network
