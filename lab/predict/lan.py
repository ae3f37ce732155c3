"""Technique `lan`, acted out: two peers on one Ethernet, and nobody else is asked."""

from __future__ import annotations

from lab.predict import reasons
from lab.predict.exchange import CALLEE_PORT, CALLER_PORT, Exchange, Side
from lab.predict.finding import DIRECT, Finding
from lab.predict.map import Map
from lab.predict.network import Network
from lab.predict.packet import Endpoint, Lost
from lab.predict.peers import Peer


def lan(world: Map, a: Peer, b: Peer) -> Finding:
    """Multicast reaches the other, and what is sent to its address does."""

    def no(reason: str) -> Finding:
        return Finding(technique="lan", possible=False, path="", reason=reason)

    for peer in (a, b):
        if peer.silent:
            return no(f"{peer.name} runs no peer")
    families = {":" in address for address in a.addresses}
    # In the first family that both have, IPv4 before IPv6.
    at = next((address for address in b.addresses if (":" in address) in families), "")
    hop = world.next_hop(a.name, at) if at else None
    if hop is None or hop[0] != b.name:
        return no(f"{a.name} and {b.name} are not on one network")
    network = Network(world)
    caller, callee = Side(a, CALLER_PORT), Side(b, CALLEE_PORT)
    # A question by multicast, and the answer to it: what a host's firewall may stop.
    exchange = Exchange(network, caller, callee)
    came = exchange.send(caller, callee, Endpoint(at, CALLEE_PORT))
    if isinstance(came, Lost):
        return no(reasons.of_loss(network, came, a.name, b.name))
    caller.remotes = callee.candidates
    if not exchange.run():
        return no(f"no answer of {b.name} comes back")
    reason = f"{a.name} and {b.name} are on one network"
    return Finding(technique="lan", possible=True, path=DIRECT, reason=reason)
