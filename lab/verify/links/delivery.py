"""Whether packets leave a link when its packet-delivery trace says so.

Frames that wait without end take every opportunity of a trace, so what has
passed by a time is what the trace gives by then.  Where in its turn a trace is,
nobody knows; but it must be somewhere: that place is looked for at which it
gives, all along the time, what passed.  One that gives as much on average, at
other moments, has no such place.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise

from lab.topology.character import Impairment
from lab.topology.datafiles import OPPORTUNITY_BYTES, load, parse_trace
from lab.verify.links import frames
from lab.verify.links.bearings import SLACK_S, Bearings
from lab.verify.links.loaded import Load
from lab.verify.links.traffic import Flow
from lab.verify.links.words import Interval, finding, unmeasured
from lab.verify.report import LinkDimension, LinkFinding

_SEND_S = 0.8
_OVERLOAD = 3.0
"""Of the mean: what a trace gives varies."""
_MOST_FRAMES_S = 8000.0
_LOOKS = 24
"""At how many moments what has passed is held against the trace."""
_FEWEST = 20
_PAUSE_S = 0.005
"""A trace that gives much for a moment empties a short queue in so long."""


class Turn:
    """A trace as what it has given by each millisecond, over and over."""

    def __init__(self, moments_ms: Sequence[int]) -> None:
        self._moments = moments_ms
        self.period_ms = moments_ms[-1]

    @property
    def rate_bit(self) -> float:
        """On average, bits per second."""
        return len(self._moments) * OPPORTUNITY_BYTES * 8000 / self.period_ms

    def given(self, until_ms: float) -> int:
        """Bytes until that moment, itself included, from the beginning of a turn."""
        turns, within = divmod(until_ms, self.period_ms)
        count = int(turns) * len(self._moments) + bisect_right(self._moments, within)
        return count * OPPORTUNITY_BYTES

    def place(self, passed: Sequence[tuple[float, int]], room_ms: float, room: int) -> float | None:
        """Where in its turn it was at the beginning of `passed`, ms; None if nowhere.

        `passed` has times (ms) and the bytes that had come by then; a frame
        may come `room_ms` late, and `room` bytes be counted otherwise; one time in
        eight a machine may pause.
        """
        best: tuple[float, float] | None = None
        most_missed = len(passed) // 8
        # The first that came did so at one of its moments.
        for begin in sorted({*self._moments} - {0}):
            before = self.given(begin - 1)
            off, missed = 0.0, 0
            for at_ms, amount in passed:
                most = self.given(begin + at_ms + room_ms) - before + room
                least = self.given(begin + at_ms - room_ms) - before - room
                if not least <= amount <= most:
                    missed += 1
                    if missed > most_missed:
                        break
                off += abs(amount - (self.given(begin + at_ms) - before))
            else:
                if best is None or off < best[0]:
                    best = off, float(begin)
        return best[1] if best else None


def turn_of(way: Impairment) -> Turn | None:
    """The trace of `way`, if it has one; LabError if its file is gone or another."""
    return Turn(parse_trace(load(way.trace))) if way.trace is not None else None


def load_for(turn: Turn, mtu: int) -> Load | str:
    """What to send so that the trace decides when it leaves; or why nothing does."""
    size = mtu + frames.HEADER
    needed = _OVERLOAD * turn.rate_bit / 8 / size
    if needed > _MOST_FRAMES_S:
        return "more would have to be offered than a program can"
    count = max(int(needed * _SEND_S), 4 * _FEWEST)
    # A trace that gives next to nothing takes longer.
    span_s = max(_SEND_S, count / needed)
    burst = count // 4
    step = span_s / (count - burst)
    offsets = (0,) * burst + tuple(int(i * step * 1e9) for i in range(count - burst))
    return Load(size, burst, offsets, span_s, 1.0, "its length follows from a trace")


def _longest_pause_s(flow: Flow) -> float:
    """Between two frames sent: what waits may run out, and then no opportunity is taken."""
    return max(later[0] - former[1] for former, later in pairwise(flow.sent)) / 1e9


def findings(about: Bearings, turn: Turn, flow: Flow) -> Iterator[LinkFinding]:
    """The rate, beside what the trace gives meanwhile."""
    mean = turn.rate_bit
    stamps = sorted(one.at_ns for one in flow.arrivals)
    if len(stamps) < _FEWEST:
        why = f"{len(stamps)} of {len(flow.sent)} packets came"
        yield unmeasured(about.where, LinkDimension.RATE, mean, "bit/s", why)
        return
    # While more is sent, something waits.
    end_ns = min(stamps[-1], flow.sent[-1][0])
    began = stamps[0]
    came = [at_ns for at_ns in stamps if at_ns <= end_ns]
    looks = [
        (
            (end_ns - began) * look / _LOOKS / 1e6,
            bisect_right(came, began + (end_ns - began) * look // _LOOKS) * flow.size,
        )
        for look in range(1, _LOOKS + 1)
    ]
    paused = len(stamps) / 8
    late_s = about.felt.late_s(paused)
    room = 2 * OPPORTUNITY_BYTES + flow.size
    jitter_ms = 2 * about.way.jitter_us / 1000
    place = turn.place(looks, 1 + SLACK_S * 1000 + jitter_ms, room)
    excuse = ""
    if place is None:
        excuse = about.crowded(flow) or about.felt.saturated(*flow.span_ns)
        if late_s > SLACK_S and turn.place(looks, 1 + late_s * 1000 + jitter_ms, room) is not None:
            excuse = excuse or about.felt.lateness(paused)
        if (gap_s := _longest_pause_s(flow)) > _PAUSE_S:
            excuse = excuse or f"the sender paused for {gap_s * 1000:.0f} ms"
    span_s = max((end_ns - began) / 1e9, 1e-3)
    rate = len(came) * flow.size * 8 / span_s
    if place is not None:
        given = turn.given(place + span_s * 1000) - turn.given(place - 1)
        rate = mean * len(came) * flow.size / max(given, 1)
    err = min(room * 8 / span_s / max(mean, 1.0), 1.0)
    yield finding(
        about.where,
        LinkDimension.RATE,
        mean,
        Interval(rate, rate * (1 - err), rate * (1 + err)),
        "bit/s",
        len(came),
        ok=place is not None,
        extra=" by a trace",
        distorted=excuse,
    )
