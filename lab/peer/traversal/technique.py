"""What a technique is, and which there are.

A new technique is a module with a class like those below and one line in
`techniques`.  It says how a caller and how a callee act; offers, keys, proof
of the path, measurements and the record are the same for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from lab.peer.settings import Settings
from lab.peer.traversal.birthday import Birthday
from lab.peer.traversal.call import Established, IncomingCall, OutgoingCall
from lab.peer.traversal.direct import Direct
from lab.peer.traversal.http import Http
from lab.peer.traversal.ice import Ice
from lab.peer.traversal.lan import Lan
from lab.peer.traversal.mapped import PortMapped
from lab.peer.traversal.predict import TcpPredict, UdpPredict
from lab.peer.traversal.punch import UdpPunch
from lab.peer.traversal.relay import Relay
from lab.peer.traversal.relay_peer import RelayPeer
from lab.peer.traversal.reversal import Reversal
from lab.peer.traversal.tcp_punch import TcpPunch


class Technique(Protocol):
    """One way to get two peers connected."""

    @property
    def name(self) -> str:
        """As in `lab connect --technique`."""

    def applies(self, settings: Settings) -> str:
        """Why it can't work at this peer, from what the peer knows; "" if it may.

        Asked before anything is sent, on both sides.  The sentence has the
        peer's name in it and no full stop.
        """

    async def call(self, call: OutgoingCall) -> Established:
        """Act as caller; AttemptError says why there is no path."""

    async def answer(self, call: IncomingCall) -> Established:
        """Act as callee; AttemptError says why there is no path."""


def techniques() -> Mapping[str, Technique]:
    """Every technique by name, cheapest path first: the order of `lab connect`."""
    asked = tuple(PortMapped(protocol) for protocol in ("upnp", "nat-pmp", "pcp"))
    known: tuple[Technique, ...] = (
        Lan(),
        Direct(),
        *asked,
        Reversal(),
        UdpPunch(),
        TcpPunch(),
        UdpPredict(),
        TcpPredict(),
        Birthday(),
        Ice(),
        Ice(trickle=True),
        Relay(),
        RelayPeer(),
        Http(),
    )
    return MappingProxyType({technique.name: technique for technique in known})
