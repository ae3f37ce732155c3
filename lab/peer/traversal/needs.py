"""What techniques need that a peer may have been told of, or not (`Technique.applies`)."""

from __future__ import annotations

from lab.peer.settings import Settings


def without_stun(settings: Settings) -> str:
    """The sentence for a peer that knows no STUN server; "" for one that does."""
    return "" if settings.stun else f"{settings.node} has no STUN server (LAB_STUN is not set)"


def without_relay(settings: Settings) -> str:
    """The sentence for a peer that knows no relay; "" for one that does."""
    return "" if settings.relays else f"{settings.node} has no relay (LAB_RELAY is not set)"


def without_ipv4(settings: Settings) -> str:
    """The sentence for a peer that has IPv6 alone, where there are no ports to guess.

    No NAT for IPv6 that translates ports is in use; NPTv6 (RFC 6296) keeps them.
    """
    if settings.reaches(4):
        return ""
    return f"{settings.node} has IPv6 alone, in which no NAT changes ports: none is to be guessed"
