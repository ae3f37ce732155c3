"""How long an attempt may take: as long as somebody says, or as the way to the other peer asks for.

Each technique has windows of its own, reckoned in round trips, and ends by
itself.  Beyond them there is a time for the whole of an attempt, for what never
comes.  Nobody should have to choose it: it follows from the round trip by the
rendezvous service, which each attempt measures while it does other things.
"""

from __future__ import annotations

from dataclasses import replace

from lab.peer.record import Outcome, Record
from lab.peer.traversal.signals import MAX_WINDOW_S
from lab.peer.traversal.wording import seconds

LEAST_S = 10.0
"""On any way that is shorter than that of a satellite."""
ROUND_TRIPS = 24
"""`tcp-predict` takes the most: 8 to ask four STUN endpoints by TCP, each peer after the
other, 1 for offer and answer, up to 8 of probing, and 3 to prove a path; the rest is for
what is lost once."""
EARLY_S = 0.001
"""A timer may be early by the resolution of its clock."""
_NO_PATH = frozenset(
    (Outcome.NO_STREAM, Outcome.TIMED_OUT, Outcome.REFUSED, Outcome.BLOCKED, Outcome.UNREACHABLE)
)
"""Outcomes that more time might have changed."""


def enough_s(round_trip_s: float | None) -> float:
    """Seconds within which every technique has ended by itself, `MAX_WINDOW_S` at most.

    `round_trip_s` is the one to the other peer by the rendezvous service; None if unknown.
    """
    return min(max(LEAST_S, ROUND_TRIPS * (round_trip_s or 0.0)), MAX_WINDOW_S)


class Allowance:
    """The time of one attempt that began at `now`: `given_s`, or enough if nobody said."""

    def __init__(self, now: float, given_s: float | None, round_trip_s: float | None) -> None:
        self._began = now
        self._given_s = given_s
        self._enough_s = enough_s(round_trip_s)

    def measured(self, round_trip_s: float) -> None:
        """The other peer is so far away; what was known before is not forgotten."""
        self._enough_s = max(self._enough_s, enough_s(round_trip_s))

    @property
    def until(self) -> float:
        """When the time is up; later, if the other peer turns out to be farther away."""
        given = self._enough_s if self._given_s is None else self._given_s
        return self._began + min(given, MAX_WINDOW_S)

    def judged(self, record: Record, now: float) -> Record:
        """The record of an attempt that ended `now`, which says so if it was cut short.

        It was if somebody gave it less time than enough, and that was up while the
        technique was still at work: no more is known then than that it takes longer.
        """
        given = self._given_s
        early = given is None or given >= self._enough_s or now < self.until - EARLY_S
        if early or given is None or record.outcome not in _NO_PATH:
            return record
        more = (
            f"; cut short: the {seconds(given)} that it was given ran out while it was at work, "
            f"and by itself it would have had {seconds(self._enough_s)}"
        )
        return replace(
            record, outcome=Outcome.TIMED_OUT, reason=record.reason + more, cut_short=True
        )
