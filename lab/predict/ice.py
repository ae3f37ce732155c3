"""Techniques `ice` and `ice-trickle`, acted out: every pair of candidates at one time.

Host and server-reflexive candidates of both sides check each other as in a
punch, and with a TURN server relayed ones do as in a relay; ICE connects
wherever one of the two does, and prefers the first.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from lab.predict.exchange import CALLEE_PORT, CALLER_PORT, Exchange, Side, learn, signalling
from lab.predict.finding import Finding
from lab.predict.map import Map
from lab.predict.network import Network
from lab.predict.peers import Peer
from lab.predict.punching import found as acted_out

Technique = Callable[[Map, Peer, Peer], Finding]


def technique(name: str, relay: Technique) -> Technique:
    """ICE, of which checks like those of a punch and `relay` are the parts."""

    def ice(world: Map, a: Peer, b: Peer) -> Finding:
        found = [part(world, a, b) for part in (_checks, relay)]
        # A relay is no matter of luck: with one, luck decides on the path alone.
        certain = [f for f in found if f.possible and not f.by_chance]
        possible = [f for f in found if f.possible]
        if possible:
            best = possible[0]
            return replace(best, technique=name, by_chance=not certain)
        reason = "; ".join(dict.fromkeys(finding.reason for finding in found))
        return Finding(technique=name, possible=False, path="", reason=reason)

    return ice


def _checks(world: Map, a: Peer, b: Peer) -> Finding:
    """A punch that goes on without STUN, by host candidates alone."""
    network = Network(world)
    if missing := signalling(network, a, b):
        return Finding(technique="ice", possible=False, path="", reason=missing)
    caller, callee = Side(a, CALLER_PORT), Side(b, CALLEE_PORT)
    learned = [learn(network, side) for side in (caller, callee)]
    caller.remotes, callee.remotes = callee.candidates, caller.candidates
    return acted_out("ice", Exchange(network, caller, callee), learned)
