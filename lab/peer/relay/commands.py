"""What the relay's server wants done; `lab.peer.relay.service` does it."""

from __future__ import annotations

from typing import NamedTuple

from lab.peer.endpoint import Endpoint
from lab.peer.relay.allocation import Client


class Reply(NamedTuple):
    """Send to a client."""

    client: Client
    data: bytes


class Forward(NamedTuple):
    """Send to a peer, from a relayed endpoint."""

    relayed: Endpoint
    peer: Endpoint
    data: bytes


class Open(NamedTuple):
    """Open a UDP socket for `client`, and report it by `opened`."""

    client: Client
    even: bool
    """Whether its port has to be even (EVEN-PORT, RFC 8656 section 18.5)."""
    family: int
    """4 or 6 (REQUESTED-ADDRESS-FAMILY, section 18.6)."""


class Shut(NamedTuple):
    """Close the socket of a relayed endpoint."""

    relayed: Endpoint


Command = Reply | Forward | Open | Shut
