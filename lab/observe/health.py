"""Watching whether the machine keeps up, while a lab runs.

A lab on an overloaded machine still gives figures, and they are wrong.  Who runs
an experiment takes a `mark` before and asks for the sample `since` it after; who
only looks (`lab status`, the exporter) asks for the `current` one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

import msgspec

from lab.errors import LabError
from lab.fabric.links.ferry.protocol import FerryStats
from lab.observe import host, lag
from lab.observe.sample import HealthSample, Limits, Mark, between, judged

TICK_S = 1.0
WINDOW_S = 10.0
"""What `HealthSampler.current` looks back on."""


class HealthSampler:
    """Watches the machine from its making until `close`.

    `ferry` gives the figures of the user-space links, or None without any;
    `tap_drops` the packets that they did not fetch in time; `receive_drops`
    what the interfaces of the lab dropped on receipt.  They are called in the
    thread that asks for a mark, a sample or a look, the last of them only
    after the machine has dropped something: it may have to visit every node.
    """

    def __init__(
        self,
        ferry: Callable[[], FerryStats | None] = lambda: None,
        *,
        tap_drops: Callable[[], int] = lambda: 0,
        receive_drops: Callable[[], int] | None = None,
    ) -> None:
        self._ferry = ferry
        self._limits = Limits()
        self._tap_drops = tap_drops
        self._receive_drops = receive_drops
        self._meter = lag.LagMeter()
        self._received = None if receive_drops is None else 0
        self._received_at = -1
        """How many packets the machine had dropped when `_received` was read."""
        first = self._host_mark()
        self._received_at = first.host.softirq_drops
        self._marks: deque[Mark] = deque([first], maxlen=round(WINDOW_S / TICK_S) + 1)
        self._ferry_base = first
        """What the ferry had done at some look before: it isn't asked at every tick."""
        self._closed = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="health", daemon=True)
        self._ticker.start()

    def mark(self) -> Mark:
        """All counters now: the beginning or end of a span."""
        try:
            ferry = self._ferry()
        except LabError:
            ferry = None  # it died; that is for the agent to report
        mark = self._host_mark()
        dropped = mark.host.softirq_drops
        if self._receive_drops is not None and dropped != self._received_at:
            self._received = self._receive_drops()
            self._received_at = dropped
        return msgspec.structs.replace(
            mark, ferry=ferry, tap_drops=self._tap_drops(), receive_drops=self._received
        )

    def since(self, mark: Mark) -> HealthSample:
        """The sample of the span from `mark` until now."""
        return between(mark, self.mark(), self._limits)

    def lately(self, mark: Mark) -> HealthSample:
        """As `since`; if `mark` is more than ten seconds old, the sample of the last ten."""
        return self.since(mark) if time.monotonic() - mark.at <= WINDOW_S else self.current()

    def look(self) -> tuple[HealthSample, Mark]:
        """The sample of the last ten seconds (or since the start), and all counters now.

        What concerns user-space links reaches back to an earlier look.
        """
        now, base = self.mark(), self._ferry_base
        ferry = between(base, now, self._limits)
        if now.at - base.at > WINDOW_S:
            self._ferry_base = now
        host_only = between(self._marks[0], msgspec.structs.replace(now, ferry=None), self._limits)
        sample = msgspec.structs.replace(
            host_only,
            ferry_lateness_p50_s=ferry.ferry_lateness_p50_s,
            ferry_lateness_p99_s=ferry.ferry_lateness_p99_s,
            ferry_busy=ferry.ferry_busy,
            queue_drops=ferry.queue_drops,
            tap_drops=ferry.tap_drops,
        )
        return judged(sample, self._limits), now

    def current(self) -> HealthSample:
        """The sample of the last ten seconds (or since the start)."""
        return self.look()[0]

    def close(self) -> None:
        """Stop watching; returns when the threads have ended."""
        self._closed.set()
        self._ticker.join()
        self._meter.close()

    def _host_mark(self) -> Mark:
        return Mark(
            at=time.monotonic(),
            host=host.read(),
            lag=self._meter.reading(),
            receive_drops=self._received,
        )

    def _tick(self) -> None:
        while not self._closed.wait(TICK_S):
            self._marks.append(self._host_mark())
