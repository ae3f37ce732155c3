"""Waiting for another peer while this program does not always run."""

import asyncio
from types import SimpleNamespace

import pytest

from lab.peer.endpoint import Endpoint
from lab.peer.identity import Identity
from lab.peer.record import Tally
from lab.peer.settings import Settings
from lab.peer.traversal import relay_peer
from lab.peer.traversal.call import AttemptError, OutgoingCall
from lab.peer.traversal.patience import SLICE_S, patiently
from lab.peer.traversal.prober import Part
from lab.peer.traversal.restraint import Pace
from lab.peer.traversal.seal import Agreement
from lab.peer.traversal.settle import CARRIED_S, CONFIRMED_S, settle
from lab.peer.traversal.signalling import Mailbox, Signalling
from lab.peer.traversal.tcp_punch import settled

WINDOW_S = 0.6


class Clock:
    """A driver whose time is that of its waits, each of them `late` seconds too long."""

    def __init__(self, late=0.0, closes_at=float("inf")):
        self.now, self.late, self.waits = 0.0, late, 0
        self._closes_at = closes_at
        self.then = {}
        """What happens when, by time."""

    @property
    def closed(self):
        return self.now >= self._closes_at

    async def until(self, condition, deadline):
        self.waits += 1
        self.now = deadline + self.late
        for at in sorted(self.then):
            if at <= self.now:
                self.then.pop(at)()
        return condition()


def wait(clock, condition=lambda: False, limit=100.0):
    return asyncio.run(patiently(clock, condition, WINDOW_S, limit=limit))


def test_what_is_there_is_not_waited_for():
    clock = Clock()
    assert wait(clock, lambda: True)
    assert clock.now == clock.waits == 0


def test_who_is_on_time_waits_as_long_as_was_said():
    clock = Clock()
    assert not wait(clock)
    assert clock.now == pytest.approx(WINDOW_S)


@pytest.mark.parametrize("late", [0.01, 0.1, 0.9])
def test_who_sleeps_too_long_has_as_many_chances_as_who_does_not(late):
    clock = Clock(late)
    assert not wait(clock)
    # The last one may be what rounding has left.
    assert clock.waits - round(WINDOW_S / SLICE_S) in (0, 1)


def test_no_sleep_is_excuse_enough_beyond_the_limit():
    clock = Clock(late=0.9)
    assert not wait(clock, limit=2.0)
    assert clock.now - clock.late - SLICE_S <= 2.0


def test_a_limit_that_is_earlier_does_not_shorten_what_was_said():
    clock = Clock(late=0.01)
    assert not wait(clock, limit=0.0)
    assert clock.now >= WINDOW_S


def test_a_closed_socket_is_not_waited_for():
    clock = Clock(closes_at=0.2)
    assert not wait(clock)
    assert clock.now == pytest.approx(0.2)


def _prober(**more):
    state = {"settled": False, "complete": False, "heard": set(), "nominated": None, "until": 10.0}
    return SimpleNamespace(**{**state, **more})


def _settle(clock, prober):
    return asyncio.run(settle(clock, prober, WINDOW_S))


def test_who_was_heard_late_has_as_long_again():
    clock, prober = Clock(), _prober()
    clock.then = {0.5: lambda: prober.heard.add("bob")}
    assert not _settle(clock, prober)
    assert clock.now == pytest.approx(0.5 + WINDOW_S, abs=2 * SLICE_S)


def test_who_has_answered_has_time_to_confirm_it():
    clock, prober = Clock(), _prober()

    def answers():
        prober.heard.add("bob")
        prober.nominated = "bob"

    def confirms():
        prober.settled = prober.complete = True

    clock.then = {0.5: answers, 0.5 + CONFIRMED_S - SLICE_S: confirms}
    assert _settle(clock, prober)
    clock, prober = Clock(), _prober()
    clock.then = {0.5: answers}
    assert not _settle(clock, prober)
    assert clock.now == pytest.approx(0.5 + CONFIRMED_S, abs=2 * SLICE_S)


def _settled(clock, prober):
    port = SimpleNamespace(driver=clock, reset=False)
    return asyncio.run(settled(port, prober, WINDOW_S, WINDOW_S))


def test_a_connection_that_comes_while_this_program_sleeps_has_as_long_to_prove_itself():
    clock, prober = Clock(late=0.9), _prober()
    clock.remotes = ()

    def proves():
        prober.heard.add("bob")
        prober.settled = prober.complete = True

    clock.then = {
        0.9: lambda: setattr(clock, "remotes", ("bob",)),
        0.95 + WINDOW_S: proves,
    }
    assert _settled(clock, prober)


def test_a_volunteer_that_both_reach_has_as_long_to_carry_something_as_a_relay(
    tmp_path, monkeypatch
):
    given = []

    async def play():
        settings = Settings(
            lab="t", node="alice", seed=1, roles=("peer",), folder=tmp_path, addresses=()
        )
        call = OutgoingCall(
            settings,
            Signalling(Identity.create(), lambda *_: None),
            Mailbox("bob", b"", Tally()),
            attempt=b"attempt1",
            technique="relay-peer",
            deadline=asyncio.get_running_loop().time() + 60,
            pace=Pace(),
        )
        call.rtt_before = 0.01

        async def settle(driver, prober, until):
            given.append(until - call.began)

        monkeypatch.setattr(relay_peer, "settle", settle)
        seal = Agreement().seal(call.attempt, Agreement().ephemeral, b"", caller=True)
        relay = relay_peer._Relay("carol", b"", Endpoint("127.0.0.1", 33033))
        driver = await call.open_udp()
        with pytest.raises(AttemptError, match="carol carried nothing"):
            await relay_peer._meet(call, driver, relay, seal, Part.CALLER)
        await call.close()

    asyncio.run(play())
    assert given[0] >= CARRIED_S


def test_nobody_has_longer_than_the_attempt():
    clock, prober = Clock(), _prober(until=1.0)
    clock.then = {
        0.5: lambda: prober.heard.add("bob"),
        0.55: lambda: setattr(prober, "nominated", "bob"),
    }
    assert not _settle(clock, prober)
    assert clock.now <= 1.0 + SLICE_S
