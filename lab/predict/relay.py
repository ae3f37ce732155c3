"""Technique `relay`, acted out: the caller has a port at a TURN server, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence

from lab.predict import reasons
from lab.predict.exchange import (
    CALLEE_PORT,
    Exchange,
    Side,
    reach,
    roundtrip,
    signalling,
)
from lab.predict.finding import RELAYED, Finding
from lab.predict.map import Map
from lab.predict.network import Network
from lab.predict.packet import TCP, UDP, Endpoint, Lost
from lab.predict.peers import Peer

_RELAYED_PORT = 45000
"""Of a relay; see those in `exchange`."""
_TLS = "tls"


def relay(world: Map, a: Peer, b: Peer) -> Finding:
    """The caller has a port at the relay; the callee sends there, or has one as well.

    A callee whose UDP comes to the relay, in the family of the caller's port, has
    no port of its own: it sends to the caller's, and the caller by that port to
    where the relay saw the callee.
    """
    return _found(world, a, b, each=False)


def each_by_relay(world: Map, a: Peer, b: Peer) -> Finding:
    """Both have a port at the relay in any case, as in ICE."""
    return _found(world, a, b, each=True)


def _found(world: Map, a: Peer, b: Peer, *, each: bool) -> Finding:
    network = Network(world)

    def no(reason: str) -> Finding:
        return Finding(technique="relay", possible=False, path="", reason=reason)

    if missing := signalling(network, a, b):
        return no(missing)
    for peer in (a, b):
        if not peer.relay:
            return no(f"{peer.name} is told of no relay")
    own = a.relay[0]
    """In whose family the caller has its port: IPv4, if it is told of the relay in that."""
    same = tuple(server for server in b.relay if server.family == own.family)
    sends = not each and bool(same) and roundtrip(network, b.name, UDP, same[0]) is None
    ways = []
    for peer in (a, b):
        # A callee that could send nothing to such a port tries UDP no further.
        skips = peer is b and not each and bool(same) and not sends
        way = _way(network, peer, () if skips else peer.relay)
        if isinstance(way, Lost):
            why = reasons.of_loss(network, way, peer.name, "the relay")
            return no(f"{peer.name} does not reach the relay {peer.relay[0]}: {why}")
        ways.append(way)
    if sends and (lost := _kept_apart(network, own, b, same[0])):
        why = reasons.of_loss(network, lost, b.name, "the relay")
        return no(f"{b.name} does not reach the port of {a.name} at the relay: {why}")
    by = " and ".join(f"{p.name} by {w.upper()}" for p, w in zip((a, b), ways, strict=True))
    return Finding(
        technique="relay", possible=True, path=RELAYED, reason=f"both reach the relay: {by}"
    )


def _way(network: Network, peer: Peer, by_udp: Sequence[Endpoint]) -> str | Lost:
    """How a peer comes to the relay; what was lost first if it does not."""
    doors = ((UDP, UDP, by_udp), (TCP, TCP, peer.relay), (_TLS, TCP, peer.relay_tls))
    losses = []
    for way, protocol, servers in doors:
        if servers:
            lost = reach(network, peer.name, protocol, servers)
            if lost is None:
                return way
            losses.append(lost)
    return losses[-1]


def _kept_apart(network: Network, own: Endpoint, b: Peer, server: Endpoint) -> Lost | None:
    """What is lost between the caller's port at the relay and the callee; None if they talk.

    It is enough that one way is open: the callee answers to where it was called from.
    """
    callee = Side(b, CALLEE_PORT)
    asked = network.send(b.name, UDP, callee.port, server)
    if isinstance(asked, Lost):
        return asked
    at = Peer(name=asked.at, addresses=(own.address,), stun=(), rendezvous=(), relay=())
    relayed = Endpoint(own.address, _RELAYED_PORT)
    lent = Side(at, relayed.port, remotes=[asked.packet.source])
    callee.add(relayed)
    exchange = Exchange(network, lent, callee)
    if exchange.run():
        return None
    for one, other, remote in ((callee, lent, relayed), (lent, callee, asked.packet.source)):
        came = exchange.send(one, other, remote)
        if isinstance(came, Lost):
            return came
    raise AssertionError("two that hear each other have a path")
