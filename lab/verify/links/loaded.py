"""What a link does to more than it can carry: its rate, and how much waits before it.

A burst fills the queue and what follows, somewhat faster than the rate, keeps
it full.  The transmitter is busy from the first frame to the last then, and a
frame that finds the queue as full as it gets waits for all of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from lab.fabric.links.jitter import table_of
from lab.fabric.links.transmitter import queue_packets, serialisation_ns
from lab.topology.character import Discipline, Impairment, QueueUnit
from lab.topology.datafiles import TABLE_SCALE
from lab.verify.links import frames, intervals
from lab.verify.links.bearings import SLACK_S, Bearings
from lab.verify.links.schedule import Task
from lab.verify.links.traffic import Flow
from lab.verify.links.words import Interval, finding, unmeasured
from lab.verify.report import LinkDimension, LinkFinding

_OVERLOAD = 1.5
_HIGH_BIT = 100_000_000
_HIGH_OVERLOAD = 1.25
"""From that rate on: what is offered in vain costs as much as what passes."""
_LONGEST_FRAME_S = 0.03
_HOLD_S = 0.4
_UNLIMITED_FRAMES = 300
_MOST_FRAMES = 12_000
_SEND_S = 8e-6
"""What sending a frame costs about."""
_LOSSY = 0.3
_FILLING = 5
"""How much faster than the link a sender has to be to fill a queue."""
_TOLERANCE = 0.05
_FEWEST = 10


@dataclass(frozen=True, slots=True)
class Load:
    """What to send in one direction."""

    size: int
    burst: int
    """Frames at once."""
    offsets_ns: tuple[int, ...]
    busy_s: float
    """How long the link has to do with it."""
    drain_s: float
    """How long what is queued in the end takes."""
    unfilled: str
    """Why that doesn't fill the queue; empty if it does."""

    @property
    def task(self) -> Task:
        """What it takes of the machine."""
        return Task(len(self.offsets_ns) / max(self.busy_s, 0.05), self.busy_s)


def load(way: Impairment, mtu: int, limit_s: float) -> Load:
    """What tells the rate of `way`, and its queue if that takes no longer than `limit_s`."""
    full = mtu + frames.HEADER
    if not way.rate_bit:
        return Load(full, _UNLIMITED_FRAMES, (0,) * _UNLIMITED_FRAMES, 0.1, 0.0, "no rate")
    size = max(min(full, int(way.rate_bit * _LONGEST_FRAME_S / 8)), 2 * frames.SMALLEST)
    serial_s = serialisation_ns(size, way.rate_bit) / 1e9
    held = _held(way, size)
    hold_s = max(_HOLD_S, 20 * way.jitter_us / 1e6)
    burst = int(held * 1.1) + 5
    takes_s = held * serial_s + hold_s
    unfilled = ""
    if takes_s > limit_s:
        unfilled = f"it takes {takes_s:.3g} s to fill and empty it"
    elif burst > _MOST_FRAMES or serial_s <= _FILLING * _SEND_S:
        unfilled = "no program fills it fast enough"
    elif way.loss_share > _LOSSY:
        unfilled = "too much of what is to fill it is lost"
    elif way.discipline is not Discipline.DROP_TAIL:
        unfilled = f"{way.discipline} keeps it from being full"
    if unfilled:
        burst = min(burst, 20)
    step = serial_s / (_HIGH_OVERLOAD if way.rate_bit >= _HIGH_BIT else _OVERLOAD)
    more = min(int(hold_s / step), _MOST_FRAMES)
    begin = burst * _SEND_S
    offsets = (0,) * burst + tuple(int((begin + i * step) * 1e9) for i in range(more))
    drain_s = held * serial_s
    return Load(size, burst, offsets, (0.0 if unfilled else drain_s) + hold_s, drain_s, unfilled)


def _held(way: Impairment, size: int) -> int:
    """How many frames of `size` the queue holds."""
    if way.queue.unit is QueueUnit.BYTES:
        return max(1, int(way.queue.length) // size)
    return queue_packets(way)


def findings(about: Bearings, loaded: Load, flow: Flow) -> Iterator[LinkFinding]:
    """Rate and queue, from what came of `loaded`."""
    rate = about.way.rate_bit
    came = [(at_ns, number) for number, at_ns, _ in flow.arrivals if number < len(flow.sent)]
    came = sorted(one for one in came if not _overtakes(about.way, flow, one))
    if len(came) < _FEWEST:
        why = f"{len(came)} of {len(flow.sent)} packets came"
        yield unmeasured(about.where, LinkDimension.RATE, rate or None, "bit/s", why)
        return
    offered = _rate(flow.size, [before for before, _ in flow.sent])
    slowed = about.crowded(flow) or about.felt.saturated(*flow.span_ns)
    if not rate:
        seen = _passed(about, flow.size, [at_ns for at_ns, _ in came])
        yield _unlimited(about, flow, came, seen, offered, slowed)
        return
    crowd = waiting(about, flow, came)
    if len(crowd) < max(_FEWEST, len(came) // 10):
        # More could not be offered: what passed is a bound.
        seen = _passed(about, flow.size, [at_ns for at_ns, _ in came])
        ok = seen.value >= 0.8 * min(offered, rate) and seen.low <= rate * (1 + _TOLERANCE)
        seen = Interval(seen.value, seen.low, None)
        yield finding(
            about.where, LinkDimension.RATE, rate, seen, "bit/s", len(came), ok=ok, distorted=slowed
        )
        yield _unfilled(about, loaded.unfilled or "no more could be offered than it takes")
        return
    seen = _passed(about, flow.size, crowd)
    low, high = seen.low * (1 - _TOLERANCE), (seen.high or 0.0) * (1 + _TOLERANCE)
    right = low <= rate <= high
    yield finding(
        about.where,
        LinkDimension.RATE,
        rate,
        seen,
        "bit/s",
        len(came),
        ok=right,
        distorted=slowed if seen.value < rate else "",
    )
    if loaded.unfilled or not right:
        yield _unfilled(about, loaded.unfilled or "its rate is another")
        return
    yield _queue(about, flow, came)


def _unfilled(about: Bearings, why: str) -> LinkFinding:
    """That the queue was not measured."""
    queue, full = about.way.queue, frames.HEADER + about.link.mtu
    in_bytes = queue.unit is QueueUnit.BYTES
    declared = queue.length if in_bytes else float(_held(about.way, full))
    unit = "bytes" if in_bytes else "packets"
    return unmeasured(about.where, LinkDimension.QUEUE, declared, unit, why)


def waiting(about: Bearings, flow: Flow, came: Sequence[tuple[int, int]]) -> list[int]:
    """When those came that waited for the one before, and were waited for: the longest such run.

    The transmitter never rested meanwhile, however unsteady the sender was.
    """
    way = about.way
    room_ns = int((about.serial_s(flow.size) + SLACK_S) * 1e9) + way.jitter_us * 1000
    delay_ns = way.delay_us * 1000
    best: list[int] = []
    run: list[int] = []
    for at_ns, number in came:
        if run and run[-1] - delay_ns - flow.sent[number][1] < room_ns:
            run = []
        run.append(at_ns)
        if len(run) > len(best):
            best = run
    return best


def _overtakes(way: Impairment, flow: Flow, one: tuple[int, int]) -> bool:
    """Whether a frame did not wait for the delay: when it comes says nothing of the others."""
    at_ns, number = one
    surely_us = way.delay_us - 3 * way.jitter_us
    return (at_ns - flow.sent[number][0]) / 1000 < surely_us / 2


def _rate(size: int, stamps: Sequence[int]) -> float:
    """Bits in a second between the first and the last frame."""
    return (len(stamps) - 1) * size * 8e9 / max(stamps[-1] - stamps[0], 1)


def _passed(about: Bearings, size: int, stamps: Sequence[int]) -> Interval:
    """The rate between the most punctual of the first and of the last third."""
    third = len(stamps) // 3
    step = (stamps[-1] - stamps[0]) / (len(stamps) - 1)
    late = [at - stamps[0] - place * step for place, at in enumerate(stamps)]
    first = min(range(third), key=late.__getitem__)
    last = min(range(len(stamps) - third, len(stamps)), key=late.__getitem__)
    span_s = max((stamps[last] - stamps[first]) / 1e9, 1e-9)
    bits = (last - first) * size * 8
    room_s = min(SLACK_S + 2 * about.way.jitter_us / 1e6, 0.5 * span_s)
    return Interval(bits / span_s, bits / (span_s + room_s), bits / (span_s - room_s))


def _unlimited(  # noqa: PLR0917 - what came, and what is made of it
    about: Bearings,
    flow: Flow,
    came: Sequence[tuple[int, int]],
    seen: Interval,
    offered: float,
    slowed: str,
) -> LinkFinding:
    """Whether frames of a burst wait for one another."""
    waits = [(at_ns - flow.sent[number][0]) / 1e9 for at_ns, number in came]
    part = max(1, len(waits) // 10)
    middle = waits[len(waits) // 2 - part // 2 : len(waits) // 2 + part]
    begin, mid, end = (min(some) for some in (waits[:part], middle, waits[-part:]))
    slack_s = 0.008 + SLACK_S + _astray_s(about.way)
    # A machine that pauses makes up for it; a rate makes the later wait the longer.
    queued = end - begin > slack_s and mid - begin > 0.25 * (end - begin)
    if queued and end - begin <= slack_s + about.felt.late_s(part):
        slowed = slowed or about.felt.lateness(part)
    shown = seen if queued else Interval(max(seen.value, offered), min(seen.value, offered), None)
    return finding(
        about.where,
        LinkDimension.RATE,
        None,
        shown,
        "bit/s",
        len(came),
        ok=not queued,
        distorted=slowed,
    )


def _astray_s(way: Impairment) -> float:
    """How much later than the earliest its jitter can make a frame."""
    table = table_of(way)
    reach = (table[-1] - table[0]) / TABLE_SCALE if table else 2.0
    return reach * way.jitter_us / 1e6


def full_for(flow: Flow, came: Collection[int], moment_ns: int) -> set[int]:
    """Frames that found the queue full but for a place or two: one was dropped a moment from then.

    A sender that pauses, or is slow, leaves the queue less full, and drops none.
    """
    dropped = [number for number in range(len(flow.sent)) if number not in came]
    found = set()
    for number in dropped:
        before_ns, after_ns = flow.sent[number]
        if number - 1 in came and before_ns - flow.sent[number - 1][1] <= moment_ns:
            found.add(number - 1)
        for later in (number + 1, number + 2):
            if later in came and flow.sent[later][0] - after_ns <= moment_ns:
                found.add(later)
    return found


def _queue(about: Bearings, flow: Flow, came: Sequence[tuple[int, int]]) -> LinkFinding:
    """How long a frame waits that finds the queue as full as it gets."""
    way = about.way
    serial_s = about.serial_s(flow.size)
    delay_s = way.delay_us / 1e6
    full = full_for(flow, {number for _, number in came}, int(2e9 * serial_s))
    waits = sorted(
        (at_ns - flow.sent[number][0]) / 1e9 - delay_s for at_ns, number in came if number in full
    )
    if len(waits) < _FEWEST:
        return _unfilled(about, f"{len(waits)} packets came that found it full, too few to tell")
    first, last = intervals.ranks(len(waits), 0.5, about.alpha)
    room = (SLACK_S + way.jitter_us / 1e6) / serial_s + 2
    held = _held(way, flow.size)
    seen = Interval(
        waits[len(waits) // 2] / serial_s,
        max(0.0, waits[first] / serial_s - room),
        waits[last] / serial_s + room,
    )
    low, high = seen.low * (1 - _TOLERANCE), (seen.high or 0.0) * (1 + _TOLERANCE)
    dropped = len(flow.sent) - len(came)
    if dropped < _FEWEST + 2 * way.loss_share * len(flow.sent) and held > low:
        return _unfilled(about, "no program filled it fast enough")
    # A longer wait may be that of a machine which lags, or of others' frames in the queue.
    slowed = about.crowded(flow) or about.felt.saturated(*flow.span_ns)
    # What it dropped looks like what found the queue full.
    slowed = slowed or about.felt.losses()
    late_s = about.felt.late_s(len(waits) / 2)
    if held < low and held >= (1 - _TOLERANCE) * (seen.low - late_s / serial_s):
        slowed = slowed or about.felt.lateness(len(waits) / 2)
    unit, declared = "packets", float(held)
    if way.queue.unit is QueueUnit.BYTES:
        unit, declared = "bytes", way.queue.length
        seen = Interval(*(one * flow.size for one in (seen.value, seen.low, seen.high or 0.0)))
    return finding(
        about.where,
        LinkDimension.QUEUE,
        declared,
        seen,
        unit,
        len(waits),
        ok=low <= held <= high,
        distorted=slowed,
    )
