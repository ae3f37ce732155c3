"""Techniques `upnp`, `nat-pmp`, `pcp`, acted out: routers open ports for who asks.

A host asks the router that its default route leads to.  That one opens a port
if it speaks the protocol, if its NAT has an external address that the whole
internet can reach (miniupnpd refuses otherwise), and if no firewall of the
host keeps it from asking.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass

from lab.predict import reasons
from lab.predict.exchange import CALLEE_PORT, CALLER_PORT, Exchange, Side, signalling
from lab.predict.finding import DIRECT, Finding
from lab.predict.map import Map
from lab.predict.network import Network
from lab.predict.packet import UDP, Endpoint, Lost
from lab.predict.peers import Peer

PROTOCOLS = ("upnp", "nat-pmp", "pcp")


@dataclass(frozen=True, slots=True)
class _Granted:
    """A port that a router opened, or why it opened none."""

    at: Endpoint | None
    router: str
    reason: str = ""


def technique(protocol: str) -> Callable[[Map, Peer, Peer], Finding]:
    """The technique that asks by `protocol`."""

    def mapped(world: Map, a: Peer, b: Peer) -> Finding:
        network = Network(world)
        if missing := signalling(network, a, b):
            return Finding(technique=protocol, possible=False, path="", reason=missing)
        caller, callee = Side(a, CALLER_PORT), Side(b, CALLEE_PORT)
        granted = [_ask(network, side, protocol) for side in (caller, callee)]
        for other, grant in zip((callee, caller), granted, strict=True):
            if grant.at:
                other.add(grant.at)
        exchange = Exchange(network, caller, callee)
        if exchange.run():
            opened = next(grant.router for grant in granted if grant.at)
            if exchange.path and granted[1].at and granted[1].router in exchange.path.entered:
                opened = granted[1].router
            reason = f"{opened} opens a port on request"
            return Finding(technique=protocol, possible=True, path=DIRECT, reason=reason)
        why = [grant.reason for grant in granted if grant.reason]
        for grant, (one, other) in zip(granted, ((callee, caller), (caller, callee)), strict=True):
            came = exchange.send(one, other, grant.at) if grant.at else None
            if isinstance(came, Lost):
                why.append(reasons.of_loss(network, came, one.peer.name, other.peer.name))
        reason = "; ".join(dict.fromkeys(why)) or "no answer comes back"
        return Finding(technique=protocol, possible=False, path="", reason=reason)

    return mapped


def _ask(network: Network, side: Side, protocol: str) -> _Granted:
    world, name = network.map, side.peer.name
    hop = world.next_hop(name, "0.0.0.0")
    if hop is None:
        return _Granted(None, "", f"{name} has no IPv4 default route")
    router = world.nodes[hop[0]]
    mapping = router.port_mapping
    if router.nat is None or mapping is None:
        return _Granted(None, router.name, f"{router.name} opens no ports on request")
    if not (mapping.upnp if protocol == "upnp" else mapping.pcp):
        return _Granted(None, router.name, f"{router.name} does not speak {protocol}")
    external = network.external(router.name)
    if not ipaddress.ip_address(external).is_global:
        reason = f"{router.name} grants nothing, as {external} is no public address"
        return _Granted(None, router.name, reason)
    inside = Endpoint(side.peer.addresses[0], side.port)
    return _Granted(network.open_port(router.name, UDP, inside), router.name)
