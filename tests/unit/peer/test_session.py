"""Sessions without sockets: whatever the network does, nothing comes twice."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.peer.endpoint import Endpoint
from lab.peer.session.machine import Session
from lab.peer.session.path import Timing, What
from lab.peer.session.rider import Rider
from lab.peer.session.terms import Terms, terms_in
from lab.peer.session.wire import Kind, agreed
from lab.peer.traversal.seal import Agreement

NUMBER = b"session1"
ALICE, BOB = b"a" * 32, b"b" * 32
DELAY = 0.02


def seals(number: bytes = NUMBER):
    one, two = Agreement(), Agreement()
    return (
        agreed(one, number, (ALICE, BOB), two.ephemeral, leads=True),
        agreed(two, number, (ALICE, BOB), one.ephemeral, leads=False),
    )


class World:
    """Two ends, paths that can be cut, and a clock that jumps to the next thing to do."""

    def __init__(self, timing: Timing | None = None):
        ours, theirs = seals()
        self.now = 0.0
        self.ends = [
            Session(
                seal,
                leads=leads,
                timing=timing or Timing(keepalive_s=1.0),
                rng=random.Random(1),
                now=0.0,
            )
            for seal, leads in ((ours, True), (theirs, False))
        ]
        self.lead, self.follower = self.ends
        self.cut: set[bytes] = set()
        self.flying: list[tuple[float, int, bytes, bytes]] = []
        self.came: list[list[int]] = [[], []]
        self.happened: list[list[What]] = [[], []]
        self.wire: list[tuple[int, bytes, bytes]] = []

    def path(self, number: bytes) -> bytes:
        for end in self.ends:
            end.attach(number, self.now)
        return number

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while True:
            self._collect()
            due = [at for at, *_ in self.flying]
            for end in self.ends:
                due += [d for p in end.paths if (d := end.deadline(p)) is not None]
            at = min(due, default=None)
            if at is None or at > until:
                self.now = until
                return
            self.now = max(self.now, at)
            landing = [each for each in self.flying if each[0] <= self.now]
            self.flying = [each for each in self.flying if each[0] > self.now]
            for _, to, path, data in landing:
                self.ends[to].receive(path, data, self.now)
            for end in self.ends:
                for path in end.paths:
                    end.tick(path, self.now)

    def _collect(self) -> None:
        for index, end in enumerate(self.ends):
            for path in end.paths:
                for data in end.take(path):
                    self.wire.append((1 - index, path, data))
                    if path not in self.cut:
                        self.flying.append((self.now + DELAY, 1 - index, path, data))
            while end.inbox:
                self.came[index].append(end.inbox.popleft()[0])
            while end.changes:
                self.happened[index].append(end.changes.popleft().what)

    def sound(self) -> None:
        for index, end in enumerate(self.ends):
            numbers = self.came[index]
            assert len(set(numbers)) == len(numbers) == end.received
            assert all(0 < number <= self.ends[1 - index].sent for number in numbers)
            assert end.received + end.lost == end.highest or end.over


def test_both_ends_use_the_path_that_the_lead_found():
    world = World()
    world.path(b"path0001")
    world.run(0.2)
    assert [end.current for end in world.ends] == [b"path0001"] * 2
    for end in world.ends:
        assert end.send(b"hello")
    world.run(0.1)
    assert world.came == [[1], [1]]


def test_a_dead_path_is_noticed_at_both_ends_and_another_one_takes_over():
    world = World()
    first = world.path(b"path0001")
    world.run(0.2)
    world.cut.add(first)
    world.run(5)
    assert [end.current for end in world.ends] == [None, None]
    assert [h[-1] for h in world.happened] == [What.DEAD, What.DEAD]
    assert not world.lead.send(b"lost")
    world.path(b"path0002")
    world.run(0.2)
    assert [end.current for end in world.ends] == [b"path0002"] * 2
    assert world.lead.send(b"there")
    world.run(0.1)
    assert world.came[1] == [2]
    assert (world.follower.lost, world.lead.unsent) == (1, 1)


def test_a_path_that_comes_back_carries_on():
    world = World()
    path = world.path(b"path0001")
    world.run(0.2)
    world.cut.add(path)
    world.run(5)
    world.cut.clear()
    world.run(2)
    assert [end.current for end in world.ends] == [path] * 2
    assert [h[-1] for h in world.happened] == [What.BACK, What.BACK]


def test_silence_in_the_middle_of_a_stream_is_questioned_before_a_keepalive_is_due():
    world = World(Timing(keepalive_s=1000.0))
    path = world.path(b"path0001")
    for _ in range(50):
        world.run(0.02)
        for end in world.ends:
            end.send(b"voice")
    world.cut.add(path)
    world.run(3)
    assert [end.current for end in world.ends] == [None, None]


def test_without_keepalives_an_idle_path_is_left_alone():
    world = World(Timing(keepalive_s=0.0))
    world.path(b"path0001")
    world.run(1)
    said = len(world.wire)
    world.run(3600)
    assert len(world.wire) == said
    assert world.lead.current == b"path0001"


def test_checks_come_at_the_interval_that_was_chosen_and_are_answered():
    world = World(Timing(keepalive_s=15.0))
    world.path(b"path0001")
    world.run(1)
    said = len(world.wire)
    world.run(300)
    # Two ends, a check and an answer each, every 12 to 15 s.
    assert 4 * 300 / 15 <= len(world.wire) - said <= 4 * 300 / 12 + 4


def test_goodbye_tells_what_was_lost_at_the_end():
    world = World()
    path = world.path(b"path0001")
    world.run(0.2)
    world.lead.send(b"1")
    world.run(0.1)
    world.cut.add(path)
    world.lead.send(b"2")
    world.run(0.05)
    world.cut.clear()
    world.lead.bye()
    world.run(0.2)
    assert (world.follower.over, world.follower.lost) == (True, 1)
    assert (world.lead.over, world.lead.peer_received) == (True, 1)


STEP = st.one_of(
    st.tuples(st.just("send"), st.integers(0, 1)),
    st.tuples(st.just("run"), st.floats(0.001, 3.0)),
    st.tuples(st.just("attach"), st.integers(0, 5)),
    st.tuples(st.just("detach"), st.integers(0, 5), st.integers(0, 1)),
    st.tuples(st.just("cut"), st.integers(0, 5)),
    st.tuples(st.just("mend"), st.integers(0, 5)),
    st.tuples(st.just("lose"), st.integers(0, 5), st.integers(0, 1)),
    st.tuples(st.just("suspect"), st.integers(0, 1)),
    st.tuples(st.just("replay"), st.integers(0, 5), st.integers(0, 10_000)),
    st.tuples(st.just("duplicate"), st.integers(0, 10_000)),
    st.tuples(st.just("shuffle"), st.randoms(use_true_random=False)),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(STEP, max_size=60))
def test_whatever_happens_nothing_comes_twice_and_the_session_can_be_repaired(steps):
    world = World()
    names = [b"path%04d" % n for n in range(6)]
    used: set[int] = set()
    for step in steps:
        match step:
            case ("send", end):
                world.ends[end].send(b"x")
            case ("run", seconds):
                world.run(seconds)
            case ("attach", n):
                if n not in used:  # the number of an attempt is used once
                    used.add(n)
                    world.path(names[n])
            case ("detach", n, end):
                world.ends[end].detach(names[n], world.now)
            case ("cut", n):
                world.cut.add(names[n])
            case ("mend", n):
                world.cut.discard(names[n])
            case ("lose", n, end):
                world.ends[end].lose(names[n], world.now)
            case ("suspect", end):
                world.ends[end].suspect(world.now)
            case ("replay", n, which) if world.wire:
                # A third party has seen everything, and sends it where it likes.
                to, _, data = world.wire[which % len(world.wire)]
                world.ends[to].receive(names[n], data, world.now)
            case ("duplicate", which) if world.flying:
                world.flying.append(world.flying[which % len(world.flying)])
            case ("shuffle", rng):
                rng.shuffle(world.flying)
        world.sound()
    if world.lead.over or world.follower.over:
        return
    last = world.path(b"pathlast")
    for end in world.ends:
        for path in end.paths:
            if path != last:
                end.detach(path, world.now)
    world.run(5)
    assert [end.current for end in world.ends] == [last, last]
    before = len(world.came[1])
    assert world.lead.send(b"still the same session")
    world.run(1)
    assert len(world.came[1]) == before + 1
    world.sound()


def test_nobody_else_can_make_read_or_move_frames():
    world = World()
    path = world.path(b"path0001")
    world.run(0.2)
    strangers, _ = seals()
    forged = strangers.data(1, b"forged")
    assert not world.follower.receive(path, forged, world.now)
    _, check = world.lead.seal.word(Kind.CHECK, b"pathelse", use=True, echo=0, sent=0, received=0)
    # An authentic frame of another path, carried to this one, moves nothing.
    assert not world.follower.receive(path, check, world.now)
    genuine = world.lead.seal.data(7, b"once")
    assert world.follower.receive(path, genuine, world.now)
    assert not world.follower.receive(path, genuine, world.now)
    broken = bytearray(world.lead.seal.data(8, b"twice"))
    broken[-1] ^= 1
    assert not world.follower.receive(path, bytes(broken), world.now)
    assert world.follower.seal.rejected == 4


def test_frames_from_another_address_are_not_even_opened():
    world = World()
    path = world.path(b"path0001")
    world.run(0.2)
    peer, thief = Endpoint("192.0.2.1", 1), Endpoint("192.0.2.66", 1)
    woken = []
    rider = Rider(world.follower, path, peer, lambda: woken.append(1))
    _, check = world.lead.seal.word(Kind.CHECK, path, use=True, echo=0, sent=0, received=0)
    assert rider.receive(check, thief, world.now) == ""
    assert (rider.strays, world.follower.take(path)) == (1, [])
    # The same frame still counts when it comes from where the path leads.
    assert rider.receive(check, peer, world.now) == "session"
    assert [d.destination for d in rider.take()] == [peer]


def test_keys_hold_for_one_session_between_two_identities():
    one, two = Agreement(), Agreement()
    lead = agreed(one, NUMBER, (ALICE, BOB), two.ephemeral, leads=True)
    frame = lead.data(1, b"hello")
    assert agreed(two, NUMBER, (ALICE, BOB), one.ephemeral, leads=False).open(frame)
    for number, identities in ((NUMBER, (ALICE, b"c" * 32)), (b"session2", (ALICE, BOB))):
        other = agreed(two, number, identities, one.ephemeral, leads=False)
        assert other.open(frame) is None
    with pytest.raises(ValueError, match=r"."):
        agreed(one, NUMBER, (ALICE, BOB), bytes(32), leads=True)


@settings(deadline=None)
@given(st.binary(max_size=1500))
def test_no_bytes_are_mistaken_for_a_frame(data):
    lead, follower = seals()
    assert follower.open(data) is None
    assert follower.open(b"\xf6" + data[:1] + NUMBER + data) is None
    assert follower.open(lead.data(1, b"fine")) is not None


TERMS = Terms(session=NUMBER, ephemeral=bytes(range(32)), keepalive_s=15.0, rate=50.0)


def test_terms_are_what_they_were_on_the_other_side():
    assert terms_in(TERMS.details()) == TERMS
    assert terms_in({}) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"session": "zz" * 8},
        {"session": 7},
        {"session": "00 00 00 00 00 0"},
        {"ephemeral": "short"},
        {"keepalive_ms": -1},
        {"keepalive_ms": True},
        {"rate": 1e9},
        {"rate": float("nan")},
        {"size": 100_000},
    ],
)
def test_terms_that_ask_for_too_much_are_refused(wrong):
    details = TERMS.details()
    with pytest.raises(ValueError, match=r"."):
        terms_in({"keep": {**details["keep"], **wrong}})
    with pytest.raises(ValueError, match=r"."):
        terms_in({"keep": "everything"})
