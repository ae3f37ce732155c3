"""What a router grants: an external port, for a while."""

from __future__ import annotations

from dataclasses import dataclass

from lab.peer.endpoint import Endpoint

UDP, TCP = 17, 6
"""IP protocol numbers, as PCP has them."""
LEASE_S = 600
"""What is asked for; renewed at half of what is granted (RFC 6887, section 11.2.1)."""
MAX_LEASE_S = 86400
"""More than a day is not believed."""


class PortmapError(Exception):
    """The router grants nothing; the text says why, for people."""

    answered: bool = True
    """Whether there is a router that speaks the protocol at all."""


class SilentError(PortmapError):
    """Nobody speaks the protocol there."""

    answered = False


class ClosedError(SilentError):
    """The router says that nobody does: its port is closed."""


class MalformedAnswerError(PortmapError):
    """What came is not an answer of the protocol."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A port of the router's outside that leads to a port of this host."""

    external: Endpoint
    internal_port: int
    protocol: int
    lifetime_s: int
    """0: until it is given back."""
