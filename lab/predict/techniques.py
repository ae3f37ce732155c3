"""Each technique, acted out on a prediction's network.

A technique is acted out as the peer does it (`lab.peer.traversal`), packet by
packet, until nothing new happens.  Middleboxes only ever learn, so this comes
to an end.

What follows for two NATs that face each other is the rule of `pairs.punches`.
Nested NATs compose in a way that needs no rule of its own here, as a packet
simply passes them one after the other, but it can be said in closed form
(`pairs.chains_punch`), and the tests hold the two against each other:

- the effective mapping of a chain is its most dependent one.  A NAT that
  gives one inside flow several ports makes several flows of it, and no NAT
  further out can make them one again;
- every filter on the way in has to admit the packet.  A filter admits one that
  comes to the port that STUN showed only if it asks nothing, or if all NATs
  from the host up to this one keep their mapping, and the packet's sender is
  the one that the receiver sent to: by address, or by address and port, the
  latter only if the sender's chain keeps its mapping;
- it is enough if one direction succeeds: whoever hears a packet answers to
  where it came from (a peer-reflexive endpoint, RFC 8445, section 7.3.1.3),
  and the answer finds every flow on its way established.

Two things make the order of packets matter after all.  A NAT that accepts what
nobody asked for (`unsolicited: accept`) remembers that flow, and the mapping
that was shown can't have it any more, so who sends first spoils it.  And in a
chain, a NAT whose mapping depends on the destination and that filters nothing has two
ports for one and the same pair of endpoints: the one that STUN showed, by which
the sender comes in, and the one by which the receiver has sent to the sender.
Linux keeps such flows apart by giving the second one another source port.  The
host does not mind; a NAT further in that filters ports does.  Whichever packet
is there first decides, so the callee may reach the caller where the caller
does not reach the callee.  It was found by acting it out, and then measured.

Chains that meet below the internet are the same, except that the NAT where
they meet has to turn packets around, unless the peers find each other by
inside addresses below it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import MappingProxyType

from lab.predict import guessing, ice, lan, mapped, punching, reasons, volunteer, web
from lab.predict.exchange import (
    CALLEE_PORT,
    CALLER_PORT,
    Exchange,
    Side,
    learn,
    reach,
    roundtrip,
    signalling,
)
from lab.predict.finding import DIRECT, RELAYED, Finding
from lab.predict.network import Map, Network
from lab.predict.packet import TCP, UDP, Endpoint, Lost
from lab.predict.peers import Peer

_RELAYED_PORT = 45000
"""Of a relay; see those in `exchange`."""


Technique = Callable[[Map, Peer, Peer], Finding]


def techniques() -> MappingProxyType[str, Technique]:
    """Every technique that can be acted out, cheapest path first.

    One that is not here (the peer may have more) has no prediction.
    """
    asked = {protocol: mapped.technique(protocol) for protocol in mapped.PROTOCOLS}
    by_udp_or_tcp = partial(relay, tls=False, each=True)
    return MappingProxyType(
        {
            "lan": lan.lan,
            "direct": direct,
            **asked,
            "reversal": punching.reversal,
            "udp-punch": punching.udp_punch,
            "tcp-punch": punching.tcp_punch,
            "udp-predict": guessing.udp_predict,
            "tcp-predict": guessing.tcp_predict,
            "birthday": guessing.birthday,
            "ice": ice.technique("ice", by_udp_or_tcp),
            "ice-trickle": ice.technique("ice-trickle", by_udp_or_tcp),
            "relay": relay,
            "relay-peer": volunteer.relay_peer,
            "http": web.http,
        }
    )


def direct(world: Map, a: Peer, b: Peer) -> Finding:
    """The callee is reachable as it is: it sends to STUN servers only before it was sent to."""
    network = Network(world)
    if missing := signalling(network, a, b):
        return Finding(technique="direct", possible=False, path="", reason=missing)
    caller, callee = Side(a, CALLER_PORT), Side(b, CALLEE_PORT, active=False)
    learn(network, callee)
    caller.remotes = callee.candidates
    exchange = Exchange(network, caller, callee)
    if exchange.run():
        at = exchange.path.packet.destination if exchange.path else ""
        return Finding(
            technique="direct",
            possible=True,
            path=DIRECT,
            reason=f"{b.name} can be reached as it is, at {_address(at)}",
        )
    why = [
        reasons.of_loss(network, came, a.name, b.name)
        for remote in callee.candidates
        if isinstance(came := exchange.send(caller, callee, remote), Lost)
    ]
    return Finding(
        technique="direct",
        possible=False,
        path="",
        reason="; ".join(dict.fromkeys(why)) or f"no answer of {b.name} comes back",
    )


def relay(world: Map, a: Peer, b: Peer, *, tls: bool = True, each: bool = False) -> Finding:
    """The caller has a port at a TURN server; the callee sends there, or has one as well.

    `tls`: whether the technique comes by TLS where the relay speaks it.
    `each`: whether both have a port there in any case.
    """
    network = Network(world)

    def no(reason: str) -> Finding:
        return Finding(technique="relay", possible=False, path="", reason=reason)

    if missing := signalling(network, a, b):
        return no(missing)
    ways = []
    for peer in (a, b):
        if not peer.relay:
            return no(f"{peer.name} is told of no relay")
        doors = [(UDP, UDP, peer.relay), (TCP, TCP, peer.relay)]
        if tls and peer.relay_tls:
            doors.append(("tls", TCP, peer.relay_tls))
        for way, protocol, servers in doors:
            lost = reach(network, peer.name, protocol, servers)
            if lost is None:
                ways.append(way)
                break
        else:
            assert lost  # noqa: S101 - the loop was not left
            why = reasons.of_loss(network, lost, peer.name, "the relay")
            return no(f"{peer.name} does not reach the relay {peer.relay[0]}: {why}")
    own = a.relay[0]
    """In whose family the caller has its port: IPv4, if it is told of the relay in that."""
    sends = ways[1] == UDP and own.family in {server.family for server in b.relay}
    if sends and not each:
        # A callee with UDP sends to the relayed port itself.
        relayed = Endpoint(own.address, _RELAYED_PORT)
        if lost := roundtrip(network, b.name, UDP, relayed):
            why = reasons.of_loss(network, lost, b.name, "the relay")
            return no(f"{b.name} does not reach the port of {a.name} at the relay: {why}")
    by = " and ".join(f"{p.name} by {w.upper()}" for p, w in zip((a, b), ways, strict=True))
    return Finding(
        technique="relay", possible=True, path=RELAYED, reason=f"both reach the relay: {by}"
    )


def _address(at: Endpoint | str) -> str:
    return at.address if isinstance(at, Endpoint) else at
