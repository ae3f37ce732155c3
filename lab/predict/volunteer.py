"""Technique `relay-peer`, acted out: an ordinary peer that is fit to be a relay carries packets.

Which peers are fit is their own finding (`lab.peer.volunteer.election`); here it
is found out by the plan: who has a public address, whom the rendezvous service
reaches unasked by UDP and TCP, and whose line has the rate.  That its machine is
capable is taken for granted.  How long a peer has run no plan says: one that
has to run for long makes success a matter of when it is tried.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from lab.peer.volunteer.election import Terms, TermsError
from lab.plan.model import Node
from lab.predict import reasons
from lab.predict.exchange import roundtrip, signalling
from lab.predict.finding import RELAYED, Finding
from lab.predict.map import Map
from lab.predict.network import Network
from lab.predict.packet import TCP, UDP, Endpoint, Lost
from lab.predict.peers import PEER, Peer

VARIABLE = "VOLUNTEER"
SOON_S = 10.0
"""A peer that may be a relay after so long counts as one from the beginning."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A peer that would be a relay, and what it lacks for that; empty for nothing."""

    name: str
    terms: Terms
    at: Endpoint
    lacks: str


def relay_peer(world: Map, a: Peer, b: Peer) -> Finding:
    """Both reach one volunteer that is elected."""
    network = Network(world)

    def no(reason: str) -> Finding:
        return Finding(technique="relay-peer", possible=False, path="", reason=reason)

    if missing := signalling(network, a, b):
        return no(missing)
    known = [
        found
        for node in world.nodes.values()
        if node.name not in (a.name, b.name) and (found := _candidate(network, a, node))
    ]
    if not known:
        return no("no other peer volunteers as a relay")
    troubles = []
    for one in known:
        trouble = one.lacks or _unreached(network, a, b, one)
        if not trouble:
            long = f", once it has run for {one.terms.after_s:g} s"
            late = one.terms.after_s > SOON_S
            reason = f"both reach {one.name}, which is fit to be a relay{long if late else ''}"
            return Finding(
                technique="relay-peer", possible=True, path=RELAYED, reason=reason, by_chance=late
            )
        troubles.append(trouble)
    return no("; ".join(troubles[:3]))


def _candidate(network: Network, a: Peer, node: Node) -> _Candidate | None:
    program = node.program
    text = dict(program.env).get(VARIABLE, "") if program else ""
    if not program or not text or PEER not in program.roles:
        return None
    try:
        terms = Terms.parse(text)
    except TermsError:
        return None
    own = network.map.own_addresses(node.name)
    address = next((one for one in own if ipaddress.ip_address(one).is_global), "")
    at = Endpoint(address or own[0], terms.port)
    lacks = _lacks(network, a, node, terms, at) if address else "has no public address"
    return _Candidate(node.name, terms, at, f"{node.name} {lacks}" if lacks else "")


def _lacks(network: Network, a: Peer, node: Node, terms: Terms, at: Endpoint) -> str:
    service = _holder(network, a)
    for protocol in (UDP, TCP):
        came = network.send(service, protocol, 50000, at)
        if isinstance(came, Lost):
            return f"is not reached: {reasons.of_loss(network, came, service, node.name)}"
    if _rate(network, node) < terms.mbps * 1e6:
        return f"has a line of less than {terms.mbps:g} Mbit/s"
    return ""


def _holder(network: Network, a: Peer) -> str:
    """The node of the rendezvous service."""
    address = a.rendezvous[0].address
    nodes = network.map.nodes
    return next(name for name in nodes if address in network.map.addresses(name))


def _rate(network: Network, node: Node) -> float:
    """Bits per second of a node's slowest link, in its slower direction."""
    rates = [
        way.rate_bit
        for link in network.map.plan.links
        if node.name in (link.a.node, link.b.node)
        for way in (link.a_to_b, link.b_to_a)
        if way.rate_bit
    ]
    return min(rates, default=float("inf"))


def _unreached(network: Network, a: Peer, b: Peer, one: _Candidate) -> str:
    """Why one of the two does not get to the relay; empty if both do."""
    for peer in (a, b):
        losses = [roundtrip(network, peer.name, protocol, one.at) for protocol in (UDP, TCP)]
        if None not in losses and losses[1]:
            why = reasons.of_loss(network, losses[1], peer.name, one.name)
            return f"{peer.name} does not reach {one.name}: {why}"
    return ""
