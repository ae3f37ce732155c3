"""What attempts are made for: to see what works, or to use the path that is found."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from lab.peer.record import Record
from lab.peer.traversal.call import Established, IncomingCall, OutgoingCall
from lab.peer.traversal.signals import Offer


@dataclass(frozen=True, slots=True)
class Wish:
    """What an order to connect wants beside the techniques."""

    first: bool = False
    """Stop at the first technique that works."""
    timeout_s: float | None = None
    """For each technique; None for as long as the way asks for (`lab.peer.traversal.allowance`)."""
    goodput_s: float = 0.0
    """How long to measure what each path carries; 0 for not at all."""
    goodput_once: bool = False
    """Whether a path like one that was measured before in this order is not measured again."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What techniques should do otherwise than usual."""


@dataclass(frozen=True, slots=True)
class Use:
    """What a path is for, if not to be measured: it is kept open for as long as that takes."""

    besides: Mapping[str, Any]
    """What this peer says of it in its offer or answer."""
    run: Callable[[OutgoingCall | IncomingCall, Established], Awaitable[None]]
    """Uses the path until it is of no more use; AttemptError if it never was."""
    on_record: Callable[[Record], None]
    """Told the attempt's record, as soon as it is known."""


class Uses(Protocol):
    """Who may know what an offer of another peer is for."""

    def wanted(self, sender: str, key: bytes, offer: Offer) -> Use | None:
        """What it is for; None for nothing but an attempt.  AttemptError to decline it."""
