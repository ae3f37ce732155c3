"""Figures and places for sentences in records."""

from __future__ import annotations

from collections.abc import Sequence

from lab.peer.endpoint import Endpoint


def seconds(duration: float) -> str:
    """`duration` for a sentence."""
    return f"{duration:.1f} s"


def listed(endpoints: Sequence[Endpoint]) -> str:
    """Endpoints for a sentence."""
    names = [str(endpoint) for endpoint in endpoints]
    if len(names) > 1:
        return f"{', '.join(names[:-1])} and {names[-1]}"
    return names[0] if names else "nowhere"
