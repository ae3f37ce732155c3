"""What the two ends of a session tell each other in the offers and answers of attempts.

In `details`, and so signed by who sends it::

    "keep": {"session": <hex, 8 bytes>, "ephemeral": <base64, 32 bytes>,
             "keepalive_ms": 15000, "rate": 50, "size": 160}

Every attempt of a session repeats them; an answer has the same, with the
follower's key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lab.peer.identity import KEY_BYTES, from_text, to_text
from lab.peer.session.wire import MAX_PAYLOAD, NUMBER_BYTES

KEY = "keep"
MAX_RATE = 1000
MAX_KEEPALIVE_S = 3600.0
PACKET_BYTES = 160
"""20 ms of speech at 64 kbit/s (G.711)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """One end's word on a session."""

    session: bytes
    ephemeral: bytes
    keepalive_s: float
    rate: float
    """Datagrams a second that each end sends."""
    size: int = PACKET_BYTES
    """Bytes of each."""

    def details(self) -> dict[str, Any]:
        """What to add to the details of an offer or answer."""
        return {
            KEY: {
                "session": self.session.hex(),
                "ephemeral": to_text(self.ephemeral),
                "keepalive_ms": round(self.keepalive_s * 1000),
                "rate": self.rate,
                "size": self.size,
            }
        }


def terms_in(details: Mapping[str, Any]) -> Terms | None:
    """The terms in an offer or answer; None if there are none, ValueError for what makes no sense.

    The sender is not trusted: what it asks of this end is bounded.
    """
    said = details.get(KEY)
    if said is None:
        return None
    if not isinstance(said, dict):
        raise ValueError("the terms of a session are an object")  # noqa: TRY004 - one error for bad input
    session, keepalive_ms = said.get("session"), said.get("keepalive_ms")
    rate, size = said.get("rate"), said.get("size")
    if not isinstance(session, str) or len(session) != 2 * NUMBER_BYTES:
        raise ValueError("a session has a number of 8 bytes")
    number = bytes.fromhex(session)
    if len(number) != NUMBER_BYTES:
        raise ValueError("a session has a number of 8 bytes")
    return Terms(
        session=number,
        ephemeral=from_text(said.get("ephemeral"), KEY_BYTES),
        keepalive_s=_between(keepalive_ms, 0, MAX_KEEPALIVE_S * 1000) / 1000,
        rate=_between(rate, 0, MAX_RATE),
        size=int(_between(size, 0, MAX_PAYLOAD)),
    )


def _between(value: object, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ValueError(f"{str(value)[:20]} is not from {least:g} to {most:g}")
    return value
