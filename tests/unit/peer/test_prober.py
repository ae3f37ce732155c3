"""Probing through simulated NATs, and in the presence of third parties."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.peer.endpoint import Endpoint
from lab.peer.traversal.birthday import Spray
from lab.peer.traversal.prober import Part, Prober
from lab.peer.traversal.restraint import Pace, Restraint
from lab.peer.traversal.seal import Agreement, Type
from tests.unit.peer.simulated import Nat, Network

ALICE, BOB = Endpoint("10.0.1.2", 4000), Endpoint("10.0.2.2", 4000)
STUN = Endpoint("192.0.2.99", 3478)
MALLORY = Endpoint("203.0.113.66", 6666)
SESSION = b"sessionX"


def seals():
    caller, callee = Agreement(), Agreement()
    return (
        caller.seal(SESSION, callee.ephemeral, b"t", caller=True),
        callee.seal(SESSION, caller.ephemeral, b"t", caller=False),
    )


def prober(seal, part, remotes, *, now=0.0, until=2.0, **more):
    return Prober(seal, part, remotes, now=now, until=until, kind="punch", **more)


class Scene:
    """m and n behind their NATs, with endpoints learned as from STUN: m calls."""

    def __init__(self, m_nat=(0, 2), n_nat=(0, 2), *, part=Part.ACTIVE_CALLEE, delay=0.01, **more):
        self.network = Network(delay)
        self.x, self.y = Nat("192.0.2.1", *m_nat), Nat("192.0.2.2", *n_nat)
        outer_m, outer_n = self.x.out(ALICE, STUN), self.y.out(BOB, STUN)
        ours, theirs = seals()
        # The offer reaches n first; m waits for the answer.
        self.n = prober(theirs, part, [ALICE, outer_m], **more)
        self.m = prober(ours, Part.CALLER, [BOB, outer_n], now=2.1 * delay, until=2.0, **more)
        self.network.put(ALICE, self.m, nat=self.x)
        self.network.put(BOB, self.n, nat=self.y)

    def run(self, until=2.5):
        self.network.run(until, lambda: self.m.complete and self.n.complete)
        return self.m.complete and self.n.complete


def predicted(m_nat, n_nat):
    """docs: x -> y is admitted iff y filters by nothing, or y's mapping is known and
    (it filters by address, or x's mapping is known too)."""

    def admitted(x, y):
        return y[1] == 0 or (y[0] == 0 and (y[1] == 1 or x[0] == 0))

    return admitted(m_nat, n_nat) or admitted(n_nat, m_nat)


KINDS = [(mapping, filtering) for mapping in range(3) for filtering in range(3)]


@pytest.mark.parametrize("m_nat", KINDS)
@pytest.mark.parametrize("n_nat", KINDS)
def test_punching_works_exactly_where_it_can(m_nat, n_nat):
    assert Scene(m_nat, n_nat).run() == predicted(m_nat, n_nat)


def test_the_four_steps():
    scene = Scene()
    assert scene.run()
    first_of_n = next(e for e in scene.network.sent if e[1] == BOB and e[2].address == "192.0.2.1")
    first_of_m = next(
        e for e in scene.network.sent if e[1] == ALICE and e[2].address == "192.0.2.2"
    )
    assert first_of_n[0] < first_of_m[0]  # (2) before (4)
    refused = [entry for entry in scene.x.refused if entry[1].address == "192.0.2.2"]
    assert len(refused) == 1  # (3)
    assert not scene.y.refused  # (4) passes by the entry of (2)
    assert scene.m.nominated == Endpoint("192.0.2.2", 20000)


def test_restricted_against_symmetric_takes_one_retransmission():
    scene = Scene((0, 1), (2, 2))
    assert scene.run()
    # n's first probe came too early, its second 50 ms later passes.
    assert 0.05 <= scene.m.first_round_trip_at <= 0.12


def test_a_passive_callee_sends_nothing_unasked():
    scene = Scene(part=Part.PASSIVE_CALLEE)
    assert not scene.run()
    assert not [entry for entry in scene.network.sent if entry[1] == BOB]
    scene = Scene(n_nat=(0, 0), part=Part.PASSIVE_CALLEE)
    assert scene.run()


def test_two_behind_one_nat_find_each_other_by_their_private_endpoints():
    network, nat = Network(), Nat("192.0.2.1")
    near = Endpoint("10.0.1.3", 4000)
    ours, theirs = seals()
    m = prober(ours, Part.CALLER, [near, nat.out(near, STUN)])
    n = prober(theirs, Part.ACTIVE_CALLEE, [ALICE, nat.out(ALICE, STUN)])
    network.put(ALICE, m, nat=nat)
    network.put(near, n, nat=nat)
    network.run(1.0, lambda: m.complete and n.complete)
    assert m.nominated == near
    assert n.nominated == ALICE


def test_each_end_learns_how_the_other_sees_it():
    scene = Scene((0, 1), (2, 2))
    assert scene.run()
    assert scene.m.observed == scene.n.nominated
    assert scene.n.observed == scene.m.nominated


def test_probes_go_out_every_50_ms_until_the_end():
    _, theirs = seals()
    alone = prober(theirs, Part.ACTIVE_CALLEE, [ALICE], until=1.0)
    times = []
    while (due := alone.deadline()) is not None:
        alone.tick(due)
        times += [due for _ in alone.take()]
    assert times == pytest.approx([n * 0.05 for n in range(20)])
    assert alone.expired
    assert not alone.complete


def test_jitter_is_a_function_of_the_seed():
    def times(seed):
        pace = Pace(0.05, jitter=0.5)
        more = {"pace": pace, "rng": random.Random(seed), "until": 1.0}
        alone = prober(seals()[0], Part.CALLER, [BOB], **more)
        found = []
        while (due := alone.deadline()) is not None:
            alone.tick(due)
            found.append(due)
        return found

    assert times(1) == times(1)
    assert times(1) != times(2)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.floats(0, 0.5))
def test_loss_delays_and_does_not_deceive(seed, loss):
    scene = Scene()
    rng = random.Random(seed)
    scene.network.tap = lambda *_: rng.random() >= loss
    done = scene.run()
    if scene.m.complete:
        assert scene.n.complete, "a path counts only when both have proven it"
    assert done or loss > 0.1


def test_a_path_in_one_direction_is_none():
    scene = Scene((0, 0), (0, 0))
    scene.network.tap = lambda *packet: packet[0].address != "192.0.2.2"
    assert not scene.run()
    assert scene.n.heard
    assert not scene.m.first_round_trip_at
    assert not scene.n.first_round_trip_at


# --- third parties ---


def test_a_guesser_gets_nothing():
    scene = Scene((0, 0), (0, 0))
    rng = random.Random(3)
    for _ in range(200):
        packet = bytes((0xF5, 1)) + SESSION + rng.randbytes(51)
        scene.network.inject(MALLORY, Endpoint("192.0.2.2", 20000), packet)
        scene.network.inject(MALLORY, Endpoint("192.0.2.1", 20000), packet)
    assert scene.run()
    assert not [entry for entry in scene.network.sent if entry[2] == MALLORY]
    assert MALLORY not in (*scene.m.heard, *scene.n.heard)


def test_replayed_packets_get_nothing():
    scene = Scene((0, 0), (0, 0))

    def replay(source, to, data):
        # A copy of everything follows the original, from the third party's address.
        if source != MALLORY:
            scene.network.inject(source, to, data)
            scene.network.inject(MALLORY, to, data)
            return False
        return True

    scene.network.tap = replay
    assert scene.run()
    assert not [entry for entry in scene.network.sent if entry[2] == MALLORY]
    assert MALLORY not in (scene.m.nominated, scene.n.nominated)


def test_a_packet_stolen_on_its_way_makes_no_path_to_the_thief():
    scene = Scene((0, 0), (0, 0))

    def steal(source, to, data):
        # Everything from m arrives from the third party; what comes back stops there.
        if source.address == "192.0.2.1":
            scene.network.inject(MALLORY, to, data)
            return False
        return to != MALLORY

    scene.network.tap = steal
    assert not scene.run()
    assert scene.m.nominated is None
    assert not scene.n.complete


def test_an_answer_from_elsewhere_does_not_count():
    ours, theirs = seals()
    m = prober(ours, Part.CALLER, [BOB])
    m.tick(0.0)
    (probe,) = m.take()
    opened = theirs.open(probe.payload)
    _, reply = theirs.seal(Type.REPLY, opened.sequence, ALICE)
    assert m.receive(reply, MALLORY, 0.1) == "punch"
    assert m.nominated is None
    assert m.first_round_trip_at is None


def test_nobody_makes_a_peer_probe_without_end():
    ours, theirs = seals()
    n = prober(theirs, Part.ACTIVE_CALLEE, [])
    for port in range(1, 500):
        _, packet = ours.seal(Type.PROBE)
        n.receive(packet, Endpoint("198.51.100.1", port), 0.0)
    assert len(n.remotes) <= 16


def test_a_peer_that_forges_a_victims_address_makes_no_path_to_it():
    """The other peer itself is hostile: it can seal, but does not hear what the victim does."""
    victim = Endpoint("198.51.100.1", 53)
    for part in (Part.CALLER, Part.ACTIVE_CALLEE):
        ours, theirs = seals()
        mine, hostile = (ours, theirs) if part is Part.CALLER else (theirs, ours)
        m = prober(mine, part, [BOB, victim])
        seen = []
        for step in range(40):
            now = step * 0.05
            m.tick(now)
            # What goes to the hostile peer's own address shows it numbers before and after.
            seen += [
                opened.sequence
                for sent in m.take()
                if sent.destination == BOB and (opened := hostile.open(sent.payload))
            ]
            for guess in range(seen[-1], seen[-1] + 20):
                for kind in (Type.REPLY, Type.CONFIRM, Type.DONE):
                    m.receive(hostile.seal(kind, guess, ALICE)[1], victim, now)
        assert m.nominated is None
        assert not m.complete


def test_strangers_connections_do_not_keep_the_other_peer_out():
    ours, theirs = seals()
    m = prober(ours, Part.CALLER, [])
    # What is connected to a TCP port is probed, whoever it is.
    m.expect(Endpoint("203.0.113.66", port) for port in range(1, 100))
    m.receive(theirs.seal(Type.PROBE)[1], BOB, 0.0)
    sent = [datagram for datagram in m.take() if datagram.destination == BOB]
    assert BOB in m.remotes
    assert len(m.remotes) == 16
    assert len(sent) == 2  # the answer, and a probe of its own


def test_attempts_together_are_restrained_to_who_does_not_answer():
    restraint = Restraint()
    victim = [Endpoint("198.51.100.1", port) for port in range(1, 9)]
    sent = 0
    for _ in range(32):
        m = prober(seals()[0], Part.ACTIVE_CALLEE, victim, until=60.0, restraint=restraint)
        for step in range(1200):
            m.tick(step * 0.05)
            sent += len(m.take())
    # 32 attempts of a minute one after the other, each of which begins at 0 again.
    assert sent <= Restraint.BURST + 32 * 60 * Restraint.RATE
    assert sent < 32 * 1200 * 8


def test_who_answers_is_not_restrained():
    scene = Scene(restraint=Restraint())
    scene.n._restraint._buckets._burst = scene.m._restraint._buckets._burst = 16
    assert scene.run()
    for _ in range(50):
        scene.m.ping(scene.network.now)
    assert len(scene.m.take()) == 50


def test_an_answer_ends_the_restraint_for_later_attempts():
    restraint = Restraint()
    scene = Scene(restraint=restraint)
    _, outer_n = scene.m.remotes
    assert restraint.allows(outer_n, 0.0, Restraint.BURST - 50)
    assert not restraint.allows(outer_n, 0.0, 100)
    assert scene.run()
    assert restraint.allows(outer_n, scene.network.now, Restraint.BURST)


def test_no_target_is_passed_over_for_restraint():
    restraint = Restraint()
    restraint._buckets._burst = 4
    m = prober(seals()[0], Part.CALLER, (), until=60.0, restraint=restraint)
    targets = [Endpoint("198.51.100.1", port) for port in range(1, 13)]
    spray = Spray(m, targets, pace=1000.0, at=0.0)
    reached = []
    for step in range(200):
        spray.tick(step * 0.001)
        reached += [datagram.destination for datagram in m.take()]
    assert reached == targets
    assert spray.sent == len(targets)


def test_endpoints_that_must_not_be_sent_to_are_not():
    bad = [Endpoint("224.0.0.1", 5), Endpoint("10.0.0.1", 0), Endpoint("255.255.255.255", 9)]
    assert prober(seals()[0], Part.CALLER, bad).remotes == []


@given(st.binary(max_size=80))
def test_any_packet_is_taken_or_left(data):
    ours, _ = seals()
    m = prober(ours, Part.CALLER, [BOB])
    assert m.receive(data, BOB, 0.0) in ("", "punch")


def test_whose_guess_is_right_needs_no_other_packet_than_the_answer():
    ours, theirs = seals()
    caller = prober(ours, Part.CALLER, ())
    callee = prober(theirs, Part.PASSIVE_CALLEE, ())
    assert caller.probe(BOB, 0.0)
    ends = [(caller, ALICE, callee), (callee, BOB, caller)]
    for _ in range(2):
        for sender, at, receiver in ends:
            for datagram in sender.take():
                assert receiver.receive(datagram.payload, at, 0.1)
    assert (caller.nominated, callee.nominated) == (BOB, ALICE)
    assert caller.complete
