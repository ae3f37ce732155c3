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
from types import MappingProxyType

from lab.predict import guessing, ice, lan, mapped, punching, reasons, relay, volunteer, web
from lab.predict.exchange import (
    CALLEE_PORT,
    CALLER_PORT,
    Exchange,
    Side,
    learn,
    signalling,
)
from lab.predict.finding import DIRECT, Finding
from lab.predict.map import Map
from lab.predict.network import Network
from lab.predict.packet import Endpoint, Lost
from lab.predict.peers import Peer

Technique = Callable[[Map, Peer, Peer], Finding]


def techniques() -> MappingProxyType[str, Technique]:
    """Every technique that can be acted out, cheapest path first.

    One that is not here (the peer may have more) has no prediction.
    """
    asked = {protocol: mapped.technique(protocol) for protocol in mapped.PROTOCOLS}
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
            "ice": ice.technique("ice", relay.each_by_relay),
            "ice-trickle": ice.technique("ice-trickle", relay.each_by_relay),
            "relay": relay.relay,
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


def _address(at: Endpoint | str) -> str:
    return at.address if isinstance(at, Endpoint) else at
