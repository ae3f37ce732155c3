"""Technique `http`, acted out, and what a web proxy lets through.

A peer meets the other at a web relay: straight, or by the proxy that it is
told of.  A proxy asks in the peer's stead and from its own router, so that
nothing which stops the peer stops it; it opens tunnels (CONNECT) to some
ports, and passes requests on to any.
"""

from __future__ import annotations

from lab.predict import reasons
from lab.predict.exchange import roundtrip, signalling
from lab.predict.finding import RELAYED, Finding
from lab.predict.map import Map
from lab.predict.network import Network
from lab.predict.packet import TCP, Lost
from lab.predict.peers import Peer


def http(world: Map, a: Peer, b: Peer) -> Finding:
    """Both reach a web relay that joins them."""
    network = Network(world)

    def no(reason: str) -> Finding:
        return Finding(technique="http", possible=False, path="", reason=reason)

    if missing := signalling(network, a, b):
        return no(missing)
    ways = []
    for peer in (a, b):
        if not peer.web_relay:
            return no(f"{peer.name} is told of no web relay")
        if world.nodes[peer.name].proxy:
            ways.append(f"{peer.name} by its proxy")
            continue
        lost: Lost | None = None
        for endpoint in peer.web_relay:
            lost = roundtrip(network, peer.name, TCP, endpoint)
            if lost is None:
                break
        if lost:
            why = reasons.of_loss(network, lost, peer.name, "the web relay")
            return no(f"{peer.name} does not reach the web relay {peer.web_relay[0]}: {why}")
        ways.append(f"{peer.name} straight")
    reason = f"both reach the web relay: {' and '.join(ways)}"
    return Finding(technique="http", possible=True, path=RELAYED, reason=reason)
