"""Which pair of candidates the controlling agent nominates, and when (RFC 8445, section 8.1.1).

The RFC leaves it to the agent when to stop looking for a better pair.  To take
the first one that answers makes a matter of milliseconds of it whether a relay
carries everything, as a check by way of the relay needs no hole; to wait until
all checks have failed takes 40 s.  Here a valid pair is nominated as soon as no
better one can be expected any more:

- A relayed pair waits for direct ones: for each until its check has gone out
  twice and there was time for an answer, which is the relayed pair's round trip
  or 0.2 s, if that is more; and for a second in all.
  While candidates are still to come, a direct pair is still to come.
- Any pair waits for better ones of its own sort for one and a half of its own
  round trips since their check: whoever is nearer would have answered.

Products are as patient: pion/ice waits for up to two seconds with relayed
pairs, and 0.5 s with server-reflexive ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

AGAIN_S = 0.5
"""When a check goes out the second time (RFC 8489, section 6.2.1: RTO)."""
ANSWER_S = 0.2
"""For an answer, at least: programs are woken late, too."""
RELAYED_S = 1.0
DIRECT_S = 0.25
"""The longest that a valid pair waits: one by a relay, and one without."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How the check of one pair stands; times in seconds of one clock."""

    priority: int
    relayed: bool
    ended: bool = False
    """It has failed."""
    began: float | None = None
    """When its check left; None while that is to come."""
    answered: float | None = None
    """When it became valid."""

    @property
    def valid(self) -> bool:
        """Whether packets go there and back."""
        return self.answered is not None and not self.ended

    @property
    def round_trip(self) -> float:
        """How long the answer took: the round trip, or more if the check was lost first."""
        if self.began is None or self.answered is None:
            return 0.0
        return min(AGAIN_S, self.answered - self.began)


def due(pairs: Sequence[Standing], *, more: bool) -> tuple[int, float] | None:
    """The best valid one of `pairs`, by its place, and from when on it is to be nominated.

    `more` says that candidates may still come.  None while no pair is valid.
    """
    valid = [(pair.priority, place) for place, pair in enumerate(pairs) if pair.valid]
    if not valid:
        return None
    _, place = max(valid)
    best = pairs[place]
    answered = best.answered or 0.0
    limit = answered + (RELAYED_S if best.relayed else DIRECT_S)
    if best.relayed and more:
        return place, limit
    waits = [
        limit if rival.began is None else rival.began + _patience(best, rival)
        for rival in pairs
        if not rival.valid and not rival.ended and rival.priority > best.priority
    ]
    return place, min(limit, max([answered, *waits]))


def _patience(best: Standing, rival: Standing) -> float:
    """How long a better pair has since its check."""
    if best.relayed and not rival.relayed:
        return AGAIN_S + max(ANSWER_S, best.round_trip)
    return 1.5 * best.round_trip
