"""How long an attempt may take, on a clock that jumps to whatever is due next."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from lab.peer.identity import Identity
from lab.peer.record import Outcome
from lab.peer.settings import Settings
from lab.peer.traversal.allowance import LEAST_S, ROUND_TRIPS, Allowance, enough_s
from lab.peer.traversal.attempts import GRACE_S, Attempts
from lab.peer.traversal.call import AttemptError
from lab.peer.traversal.purpose import Wish
from lab.peer.traversal.signalling import Signalling
from lab.peer.traversal.signals import MAX_WINDOW_S

SATELLITES_S = 1.08
"""From one peer over two of them to the other, and back."""


class Jumping(asyncio.SelectorEventLoop):
    """A loop in which nothing takes time but what waits."""

    def __init__(self):
        super().__init__()
        self._ahead = 0.0

    def time(self):
        return self._ahead

    def _run_once(self):
        if not self._ready and self._scheduled:
            self._ahead = max(self._ahead, self._scheduled[0].when())
        super()._run_once()


class Work:
    """A technique that finds nothing: `takes_s` long, or as long as it may."""

    name = "work"

    def __init__(self, takes_s):
        self.takes_s = takes_s
        self.deadlines = []

    def applies(self, settings):
        return ""

    async def call(self, call):
        self.deadlines.append(call.deadline)
        while call.now < min(self.takes_s, call.deadline):
            await asyncio.sleep(0.01)
        self.deadlines.append(call.deadline)
        raise AttemptError(Outcome.NO_STREAM, "bob did not answer")


class Stuck(Work):
    """One that heeds no deadline."""

    async def call(self, call):
        await asyncio.Event().wait()


class Offering(Work):
    """One that makes an offer at once, before it is known how far away the other peer is."""

    async def call(self, call):
        await call.offer(())


def attempt(tmp_path, work, timeout_s=None, rtt_s=SATELLITES_S):
    """The record of an attempt whose peer is `rtt_s` away, and how long it took."""

    async def play():
        settings = Settings(
            lab="t", node="alice", seed=1, roles=("peer",), folder=tmp_path, addresses=()
        )
        signalling = Signalling(Identity.create(), lambda *_: None)

        async def nothing(*_):
            return b"key"

        async def send(*_):
            return 0

        async def round_trip(*_, **__):
            await asyncio.sleep(rtt_s)
            return rtt_s

        signalling.client = SimpleNamespace(
            name="alice", wait_registered=nothing, who=nothing, send=send, post=lambda *_: 0
        )
        signalling.round_trip = round_trip
        attempts = Attempts(settings, signalling, lambda _: None)
        attempts.techniques = {work.name: work}
        (record,) = [r async for r in attempts.connect("bob", [work.name], Wish(False, timeout_s))]
        return record, asyncio.get_running_loop().time()

    loop = Jumping()
    try:
        return loop.run_until_complete(play())
    finally:
        loop.close()


@pytest.mark.parametrize(
    ("rtt_s", "enough"), [(None, LEAST_S), (0.04, LEAST_S), (SATELLITES_S, 25.92), (9.0, 60.0)]
)
def test_the_time_follows_from_the_round_trip_within_bounds(rtt_s, enough):
    assert enough_s(rtt_s) == pytest.approx(enough)


def test_a_longer_round_trip_gives_more_time_and_a_shorter_one_takes_none():
    allowance = Allowance(100.0, None, None)
    assert allowance.until == 100.0 + LEAST_S
    for rtt_s in (SATELLITES_S, 0.1):
        allowance.measured(rtt_s)
        assert allowance.until == 100.0 + ROUND_TRIPS * SATELLITES_S
    assert Allowance(100.0, 2 * MAX_WINDOW_S, None).until == 100.0 + MAX_WINDOW_S


def test_over_two_satellites_an_attempt_has_the_time_that_it_needs(tmp_path):
    work = Work(takes_s=13.0)
    record, took_s = attempt(tmp_path, work)
    assert work.deadlines == [LEAST_S, pytest.approx(ROUND_TRIPS * SATELLITES_S)]
    assert (record.outcome, record.reason) == (Outcome.NO_STREAM, "bob did not answer")
    assert not record.cut_short
    assert took_s == pytest.approx(13.0, abs=0.02)


def test_what_was_given_too_little_time_says_so(tmp_path):
    record, took_s = attempt(tmp_path, Work(takes_s=13.0), timeout_s=10)
    assert took_s == pytest.approx(10.0, abs=0.02)
    assert record.outcome is Outcome.TIMED_OUT
    assert record.to_json()["cut_short"] is True
    assert record.reason == (
        "bob did not answer; cut short: the 10.0 s that it was given ran out while it was at "
        "work, and by itself it would have had 25.9 s"
    )


@pytest.mark.parametrize(
    ("takes_s", "timeout_s", "rtt_s"),
    [
        (3.0, 5, 0.04),  # it came to an end by itself
        (99.0, 30, SATELLITES_S),  # more than enough was given
        (99.0, 10, 0.04),
        (99.0, None, 0.04),  # nobody said
    ],
)
def test_what_had_its_time_was_not_cut_short(tmp_path, takes_s, timeout_s, rtt_s):
    record, _ = attempt(tmp_path, Work(takes_s), timeout_s, rtt_s)
    assert (record.outcome, record.cut_short) == (Outcome.NO_STREAM, False)


def test_a_technique_that_comes_to_no_end_is_ended(tmp_path):
    record, took_s = attempt(tmp_path, Stuck(0.0))
    assert record.outcome is Outcome.TIMED_OUT
    assert record.reason == "work came to no end in time"
    assert took_s == pytest.approx(ROUND_TRIPS * SATELLITES_S + GRACE_S)


def test_an_answer_is_waited_for_as_long_as_the_time_that_there_is_in_the_end(tmp_path):
    record, took_s = attempt(tmp_path, Offering(0.0))
    assert record.outcome is Outcome.NO_STREAM
    assert record.reason == "bob did not answer the offer over the rendezvous service"
    assert took_s == pytest.approx(ROUND_TRIPS * SATELLITES_S, abs=0.02)
