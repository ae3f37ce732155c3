"""Techniques `ice` and `ice-trickle`, acted out: every pair of candidates at one time.

Host and server-reflexive candidates of both sides check each other as in a
punch, and with a TURN server relayed ones do as in a relay; ICE connects
wherever one of the two does.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from lab.predict.finding import Finding
from lab.predict.network import Map
from lab.predict.peers import Peer

Technique = Callable[[Map, Peer, Peer], Finding]


def technique(name: str, punch: Technique, relay: Technique) -> Technique:
    """ICE, of which `punch` and `relay` are the parts."""

    def ice(world: Map, a: Peer, b: Peer) -> Finding:
        found = [part(world, a, b) for part in (punch, relay)]
        # A relay is no matter of luck: with one, luck decides on the path alone.
        certain = [f for f in found if f.possible and not f.by_chance]
        possible = [f for f in found if f.possible]
        if possible:
            best = possible[0]
            return replace(best, technique=name, by_chance=not certain)
        reason = "; ".join(dict.fromkeys(finding.reason for finding in found))
        return Finding(technique=name, possible=False, path="", reason=reason)

    return ice
