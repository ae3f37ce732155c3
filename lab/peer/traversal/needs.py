"""What techniques need that a peer may have been told of, or not (`Technique.applies`)."""

from __future__ import annotations

from lab.peer.settings import Settings


def without_stun(settings: Settings) -> str:
    """The sentence for a peer that knows no STUN server; "" for one that does."""
    return "" if settings.stun else f"{settings.node} has no STUN server (LAB_STUN is not set)"


def without_relay(settings: Settings) -> str:
    """The sentence for a peer that knows no relay; "" for one that does."""
    return "" if settings.relays else f"{settings.node} has no relay (LAB_RELAY is not set)"
