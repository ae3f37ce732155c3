"""Techniques `ice` and `ice-trickle`, acted out: every pair of candidates at one time.

Host and server-reflexive candidates of both sides check each other as in a
punch, and with a TURN server relayed ones do as in a relay; ICE connects
wherever one of the two does.  aioice asks servers over IPv4 alone, and knows
no NAT64, so of IPv6 it has host candidates and nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from msgspec.structs import replace

from lab.predict.exchange import CALLEE_PORT, CALLER_PORT, Exchange, Side, learn, signalling
from lab.predict.finding import Finding
from lab.predict.network import Map, Network
from lab.predict.packet import Endpoint
from lab.predict.peers import Peer
from lab.predict.punching import found as acted_out

Technique = Callable[[Map, Peer, Peer], Finding]


def technique(name: str, relay: Technique) -> Technique:
    """ICE, of which checks like those of a punch and `relay` are the parts."""

    def ice(world: Map, a: Peer, b: Peer) -> Finding:
        one, other = _as_aioice(a), _as_aioice(b)
        found = [part(world, one, other) for part in (_checks, relay)]
        # A relay is no matter of luck: with one, luck decides on the path alone.
        certain = [f for f in found if f.possible and not f.by_chance]
        possible = [f for f in found if f.possible]
        if possible:
            best = possible[0]
            return replace(best, technique=name, by_chance=not certain)
        reason = _unasked((a, one), (b, other))
        reason = reason or "; ".join(dict.fromkeys(finding.reason for finding in found))
        return Finding(technique=name, possible=False, path="", reason=reason)

    return ice


def _as_aioice(peer: Peer) -> Peer:
    """What aioice makes of a peer: nobody is asked but over an IPv4 of its own."""
    has_ipv4 = any(":" not in address for address in peer.addresses)

    def asked(servers: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
        return tuple(server for server in servers if has_ipv4 and server.family == 4)

    return dataclasses.replace(peer, stun=asked(peer.stun), relay=asked(peer.relay))


def _unasked(*both: tuple[Peer, Peer]) -> str:
    """Which peers have servers that aioice can't ask; empty if it can ask those of both."""
    names = [real.name for real, left in both if real.stun and not left.stun]
    if not names:
        return ""
    verb = "has" if len(names) == 1 else "have"
    return f"aioice asks STUN and TURN over IPv4 alone, of which {' and '.join(names)} {verb} none"


def _checks(world: Map, a: Peer, b: Peer) -> Finding:
    """A punch that goes on without STUN, by host candidates alone."""
    network = Network(world)
    if missing := signalling(network, a, b):
        return Finding(technique="ice", possible=False, path="", reason=missing)
    caller, callee = Side(a, CALLER_PORT), Side(b, CALLEE_PORT)
    learned = [learn(network, side) for side in (caller, callee)]
    caller.remotes, callee.remotes = callee.candidates, caller.candidates
    return acted_out("ice", Exchange(network, caller, callee), learned)
