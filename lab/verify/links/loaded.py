"""What a link does to more than it can carry: its rate, and how much waits before it.

A burst fills the queue and what follows, somewhat faster than the rate, keeps
it full.  The transmitter is busy from the first frame to the last then, and a
frame that finds the queue as full as it gets waits for all of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lab.fabric.links.transmitter import queue_packets, serialisation_ns
from lab.topology.behaviour import Discipline, Impairment, QueueUnit
from lab.verify.links import frames, intervals
from lab.verify.links.quiet import Bearings, crowded
from lab.verify.links.traffic import Flow
from lab.verify.links.words import Interval, finding
from lab.verify.report import LinkDimension, LinkFinding

_OVERLOAD = 1.5
_LONGEST_FRAME_S = 0.03
_HOLD_S = 0.4
_UNLIMITED_FRAMES = 300
_MOST_FRAMES = 12_000
_SEND_S = 8e-6
"""What sending a frame costs about."""
_FILLING = 5
"""How much faster than the link a sender has to be to fill a queue."""
_TOLERANCE = 0.05


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
    fills: bool
    """Whether that fills the queue."""

    @property
    def frames_s(self) -> float:
        """Frames that pass in a second."""
        return len(self.offsets_ns) / max(self.busy_s, 0.05)


def load(way: Impairment, mtu: int, limit_s: float) -> Load:
    """What tells the rate of `way`, and its queue if that takes no longer than `limit_s`."""
    full = mtu + frames.HEADER
    if not way.rate_bit:
        return Load(full, _UNLIMITED_FRAMES, (0,) * _UNLIMITED_FRAMES, 0.1, 0.0, fills=False)
    size = max(min(full, int(way.rate_bit * _LONGEST_FRAME_S / 8)), 2 * frames.SMALLEST)
    serial_s = serialisation_ns(size, way.rate_bit) / 1e9
    held = _held(way, size)
    hold_s = max(_HOLD_S, 20 * way.jitter_us / 1e6)
    burst = int(held * 1.1) + 5
    fills = (
        held * serial_s + hold_s <= limit_s
        and burst <= _MOST_FRAMES
        and serial_s > _FILLING * _SEND_S
        and not way.loss_share > 0.3
    )
    if not fills:
        burst = min(burst, 20)
    step = serial_s / _OVERLOAD
    more = min(int(hold_s / step), _MOST_FRAMES)
    begin = burst * _SEND_S
    offsets = (0,) * burst + tuple(int((begin + i * step) * 1e9) for i in range(more))
    drain_s = held * serial_s
    return Load(size, burst, offsets, (drain_s if fills else 0.0) + hold_s, drain_s, fills)


def _held(way: Impairment, size: int) -> int:
    """How many frames of `size` the queue holds."""
    if way.queue.unit is QueueUnit.BYTES:
        return max(1, int(way.queue.length) // size)
    return queue_packets(way)


def findings(about: Bearings, loaded: Load, flow: Flow) -> Iterator[LinkFinding]:
    """Rate and queue, from what came of `loaded`."""
    if about.way.trace or about.link.down:
        return
    came = [(at_ns, number) for number, at_ns, _ in flow.arrivals if number < len(flow.sent)]
    came = sorted(one for one in came if not _overtakes(about.way, flow, one))
    if len(came) < 10:
        return
    offered = _rate(flow.size, [before for before, _ in flow.sent])
    seen = _passed(about, flow.size, [at_ns for at_ns, _ in came])
    rate = about.way.rate_bit
    if not rate:
        yield _unlimited(about, flow, came, seen, offered)
        return
    crowd = crowded(about, flow)
    if offered < 1.1 * rate and not _backlogged(about.way, flow, came):
        # More could not be offered: what passed is a bound.
        ok = seen.value >= 0.8 * min(offered, rate) and seen.low <= rate * (1 + _TOLERANCE)
        seen = Interval(seen.value, seen.low, None)
        yield finding(
            about.where, LinkDimension.RATE, rate, seen, "bit/s", len(came), ok=ok, distorted=crowd
        )
        return
    low, high = seen.low * (1 - _TOLERANCE), (seen.high or 0.0) * (1 + _TOLERANCE)
    yield finding(
        about.where,
        LinkDimension.RATE,
        rate,
        seen,
        "bit/s",
        len(came),
        ok=low <= rate <= high,
        distorted=crowd if seen.value < rate else "",
    )
    active = about.way.discipline is not Discipline.DROP_TAIL
    if loaded.fills and not active and low <= rate <= high:
        yield from _queue(about, loaded, flow, came)


def _backlogged(way: Impairment, flow: Flow, came: Sequence[tuple[int, int]]) -> bool:
    """Whether frames waited for others all the time, so that the transmitter never rested."""
    waits = sorted(at_ns - flow.sent[number][0] for at_ns, number in came)
    serial_ns = serialisation_ns(flow.size, way.rate_bit)
    return waits[len(waits) // 10] - waits[0] > 2 * serial_ns + 2000 * way.jitter_us


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
    room_s = min(about.slack_s + 2 * about.way.jitter_us / 1e6, 0.5 * span_s)
    return Interval(bits / span_s, bits / (span_s + room_s), bits / (span_s - room_s))


def _unlimited(
    about: Bearings,
    flow: Flow,
    came: Sequence[tuple[int, int]],
    seen: Interval,
    offered: float,
) -> LinkFinding:
    """Whether frames of a burst wait for one another."""
    waits = [(at_ns - flow.sent[number][0]) / 1e9 for at_ns, number in came]
    part = max(1, len(waits) // 10)
    middle = waits[len(waits) // 2 - part // 2 : len(waits) // 2 + part]
    begin, mid, end = (min(some) for some in (waits[:part], middle, waits[-part:]))
    slack_s = 0.008 + about.slack_s + 2 * about.way.jitter_us / 1e6
    # A machine that pauses makes up for it; a rate makes the later wait the longer.
    waiting = end - begin > slack_s and mid - begin > 0.25 * (end - begin)
    shown = seen if waiting else Interval(max(seen.value, offered), min(seen.value, offered), None)
    return finding(
        about.where,
        LinkDimension.RATE,
        None,
        shown,
        "bit/s",
        len(came),
        ok=not waiting,
        distorted=crowded(about, flow),
    )


def _queue(
    about: Bearings, loaded: Load, flow: Flow, came: Sequence[tuple[int, int]]
) -> Iterator[LinkFinding]:
    """How long a frame waits that finds the queue as full as it gets."""
    way = about.way
    serial_s = serialisation_ns(flow.size, way.rate_bit) / 1e9
    delay_s = way.delay_us / 1e6
    # What of the burst got in fills it, so all that came later found one place.
    waits = sorted(
        (at_ns - flow.sent[number][0]) / 1e9 - delay_s
        for at_ns, number in came
        if number >= loaded.burst
    )
    if len(waits) < 10:
        return
    first, last = intervals.ranks(len(waits), 0.5, about.alpha)
    room = (about.slack_s + way.jitter_us / 1e6) / serial_s + 2
    held = _held(way, flow.size)
    seen = Interval(
        waits[len(waits) // 2] / serial_s,
        max(0.0, waits[first] / serial_s - room),
        waits[last] / serial_s + room,
    )
    low, high = seen.low * (1 - _TOLERANCE), (seen.high or 0.0) * (1 + _TOLERANCE)
    ok = low <= held <= high
    dropped = len(flow.sent) - len(came)
    if dropped < 10 + 2 * way.loss_share * len(flow.sent) and held > low:
        return  # It never was full: the sender was too slow.
    unit, declared = "packets", float(held)
    if way.queue.unit is QueueUnit.BYTES:
        unit, declared = "bytes", way.queue.length
        seen = Interval(*(one * flow.size for one in (seen.value, seen.low, seen.high or 0.0)))
    # A longer wait may be that of a machine which lags, or of others' frames in the queue.
    yield finding(
        about.where,
        LinkDimension.QUEUE,
        declared,
        seen,
        unit,
        len(waits),
        ok=ok,
        distorted=crowded(about, flow),
    )
