"""Volunteers without sockets: who is elected, and what a carrier passes on and what not."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.peer.endpoint import Endpoint
from lab.peer.identity import Identity
from lab.peer.session.wire import SessionSeal
from lab.peer.traversal.seal import Agreement
from lab.peer.traversal.seal import Type as Sealed
from lab.peer.volunteer.carrier import MOVES, Bounds, Carrier, Client
from lab.peer.volunteer.election import CONDITIONS, MISSES, Election, Measured, Terms, TermsError
from lab.peer.volunteer.joining import Joining
from lab.peer.volunteer.wire import (
    ATTEMPT_BYTES,
    COOKIE_BYTES,
    Packet,
    Type,
    exchange,
    join,
    parse,
    prove,
)
from tests.unit.peer.test_rendezvous import ALICE, BOB, MALLORY, Stage, say

CAROL = Identity.create()
TERMS = Terms(mbps=2, packets=1000, after_s=60)
AT = Endpoint("45.0.0.9", 33033)
ATTEMPT = b"attempt1"
A, B, M = (Client("udp", Endpoint(f"45.0.0.{n}", 1000)) for n in (1, 2, 3))


def measured(*, public=True, reachable=True, fast=True, capable=True, lasting=True, share=1.0):
    return Measured(
        public=public,
        udp=reachable,
        tcp=reachable,
        line_bps=2e6 * share if fast else 1e5,
        packets_per_s=1000 * share if capable else 10,
        uptime_s=60 if lasting else 59,
    )


@pytest.mark.parametrize("holds", [*itertools.product((False, True), repeat=len(CONDITIONS))])
def test_a_peer_is_elected_if_all_conditions_hold_and_only_then(holds):
    election = Election(TERMS)
    assert election.hear(measured(**dict(zip(CONDITIONS, holds, strict=True)))) is all(holds)
    lacking = tuple(name for name, one in zip(CONDITIONS, holds, strict=True) if not one)
    assert election.lacks == lacking


@pytest.mark.parametrize(("udp", "tcp"), [(True, False), (False, True)])
def test_reachable_is_both_udp_and_tcp(udp, tcp):
    half = Measured(public=True, udp=udp, tcp=tcp, line_bps=1e9, packets_per_s=1e9, uptime_s=1e9)
    assert not Election(TERMS).hear(half)


def test_an_elected_peer_stays_one_while_a_little_less_is_left():
    election = Election(TERMS)
    assert not election.hear(measured(share=0.9))
    assert election.hear(measured())
    assert election.hear(measured(share=0.9))
    assert election.hear(measured(fast=False))
    assert election.hear(measured()), "one miss is forgiven"
    for _ in range(MISSES - 1):
        assert election.hear(measured(public=False))
    assert not election.hear(measured(public=False))
    assert not election.hear(measured(share=0.9)), "and then all is asked for again"
    assert election.hear(measured())


def test_terms_are_read_and_complained_about():
    assert Terms.parse("yes") == Terms()
    assert Terms.parse("mbps=2, after_s=0.5,port=40000") == Terms(2, after_s=0.5, port=40000)
    for text in ("no", "mbps", "mbps=x", "mbps=nan", "mbps=-1", "port=80", "port=2000.5", "a=1"):
        with pytest.raises(TermsError):
            Terms.parse(text)


class Meeting:
    """A carrier, and who comes to it."""

    def __init__(self, **bounds):
        self.carrier = Carrier(CAROL.key, Bounds(**bounds))
        self.now = 0.0
        self.joined = {}
        self.proofs = {}

    def says(self, client, data):
        """What comes of a packet, with the client's stamp if it has joined."""
        joining = self.joined.get(client)
        stamped = joining.stamps.stamped(data) if joining and data else data
        return self.raw(client, stamped)

    def raw(self, client, data):
        return self.carrier.received(client, data, self.now)

    def joins(self, client, identity, attempt=ATTEMPT):
        """Go through the whole of joining; whether that worked."""
        joining = Joining(identity, attempt, AT, CAROL.key, self.now)
        while not joining.done:
            joining.tick(self.now)
            for datagram in joining.take():
                self.proofs[client] = datagram.payload
                for answer in self.raw(client, datagram.payload):
                    assert answer.client == client
                    assert len(answer.data) <= len(datagram.payload), "nothing is amplified"
                    joining.receive(answer.data, AT, self.now)
            self.now = joining.deadline() or self.now
        if joining.joined:
            self.joined[client] = joining
        return joining


def pair(**bounds):
    meeting = Meeting(**bounds)
    assert meeting.carrier.grant(ATTEMPT, ALICE.key, BOB.key, 0.0) == ""
    assert meeting.joins(A, ALICE).joined
    assert meeting.joins(B, BOB).joined
    return meeting


def sealed(size=100):
    one, other = Agreement(), Agreement()
    seal = one.seal(ATTEMPT, other.ephemeral, b"", caller=True)
    return seal.payload(size)[1]


def test_two_who_show_who_they_are_hear_each_other():
    meeting = pair()
    packet = sealed()
    assert meeting.says(A, packet) == [(B, packet)]
    assert meeting.says(B, packet) == [(A, packet)]
    assert meeting.carrier.carried == 2


def test_the_session_that_uses_the_path_passes_too():
    meeting = pair()
    frame = SessionSeal(bytes(8), bytes(32), bytes(32)).data(1, b"hello")
    assert meeting.says(A, frame) == [(B, frame)]
    assert meeting.says(M, frame) == []


def test_a_third_one_gets_nothing():
    meeting = pair()
    assert meeting.joins(M, MALLORY).failed
    assert meeting.says(M, sealed()) == []
    # What it overheard is of no use to it: the cookie is another endpoint's.
    challenge = exchange(parse(meeting.says(A, join(ATTEMPT))[0].data))
    ephemeral = Agreement().ephemeral
    proof = prove(ALICE, ATTEMPT, challenge, ephemeral, CAROL.key)
    assert meeting.says(M, proof) == []
    assert meeting.says(A, sealed())[0].client == B
    # A proof made for another volunteer is none here.
    meeting.carrier.gone(A)
    assert meeting.says(A, prove(ALICE, ATTEMPT, challenge, ephemeral, MALLORY.key)) == []
    # Nor one of which somebody has changed the key.
    changed = Packet(Type.PROVE, ATTEMPT, proof[10:26] + MALLORY.key + proof[58:])
    assert meeting.says(A, changed.encode()) == []
    # Nobody leaves for somebody else.
    leave = Packet(Type.LEAVE, ATTEMPT, bytes(COOKIE_BYTES)).encode()
    assert meeting.says(B, leave) == []
    assert meeting.carrier.pairs == 1


def test_who_was_granted_nothing_is_refused():
    assert Meeting().joins(A, ALICE).refused


def test_only_sealed_packets_of_the_attempt_are_passed_on():
    meeting = pair()
    packet = sealed()
    for wrong in (b"GET / HTTP/1.1\r\n\r\n", packet[:2] + b"attempt2" + packet[10:], b"", b"\xf5"):
        if wrong:
            assert meeting.says(A, wrong) == []
    assert meeting.says(A, packet + bytes(1400)) == []


def test_a_pair_has_a_rate_and_nothing_is_stored():
    meeting = pair(bytes_per_s=1000, burst=5000)
    meeting.now = 10.0
    packet = sealed(500)
    through = sum(bool(meeting.says(A, packet)) for _ in range(100))
    assert through == 5000 // len(packet)
    assert meeting.carrier.dropped == 100 - through
    # What was dropped does not come later.
    meeting.now += 1.0
    assert sum(bool(meeting.says(B, packet)) for _ in range(100)) == 2


def test_who_forges_an_address_spends_nothing_of_what_the_pair_may_use():
    meeting = pair(bytes_per_s=1, burst=1000)
    packet = sealed(100)
    frame = SessionSeal(bytes(8), bytes(32), bytes(32)).data(1, bytes(100))
    stamped = meeting.joined[A].stamps.put(packet)
    # Whatever it has seen or makes up, as from alice's address.
    guesses = [packet, frame, packet + bytes(12), frame + bytes(12), stamped[:-1] + b"?"]
    for forged in [*guesses, meeting.joined[B].stamps.put(packet)] * 50:
        assert meeting.raw(A, forged) == []
    assert meeting.raw(A, stamped) == [(B, packet)]
    # A copy of what has passed, from anywhere.
    assert meeting.raw(A, stamped) == meeting.raw(B, stamped) == []
    assert meeting.carrier.forged == 302
    assert meeting.carrier.carried == 1
    # What is hers passes still.
    assert meeting.says(A, packet) == [(B, packet)]


def test_a_proof_that_comes_again_does_not_make_old_packets_new():
    meeting = pair()
    joining = Joining(ALICE, ATTEMPT, AT, CAROL.key, meeting.now)
    proofs = []
    while not joining.done:
        joining.tick(meeting.now)
        for datagram in joining.take():
            proofs.append(datagram.payload)
            for answer in meeting.raw(A, datagram.payload):
                joining.receive(answer.data, AT, meeting.now)
    stamped = joining.stamps.put(sealed())
    assert len(meeting.raw(A, stamped)) == 1
    assert len(meeting.raw(A, proofs[-1])) == 1, "it is answered: the first answer may be lost"
    assert meeting.raw(A, stamped) == []


def test_a_late_copy_of_a_proof_takes_nobody_back_to_where_he_was():
    meeting = pair()
    # Both kept by somebody on the way.
    copy, old = meeting.proofs[A], meeting.joined[A].stamps.put(sealed())
    assert len(meeting.raw(A, old)) == 1
    assert meeting.joins(M, ALICE).joined
    assert meeting.raw(A, copy) == meeting.raw(A, old) == []
    packet = sealed()
    assert meeting.says(B, packet) == [(M, packet)]
    assert meeting.says(M, packet) == [(B, packet)]


def test_a_pair_moves_no_more_than_so_often():
    meeting = pair()
    joined = [meeting.joins(A, ALICE).joined for _ in range(MOVES + 1)]
    assert joined == [True] * MOVES + [False]
    packet = sealed()
    assert meeting.says(B, packet) == [(A, packet)]


def test_who_knows_no_key_does_not_pass_for_the_volunteer():
    joining = Joining(ALICE, ATTEMPT, AT, CAROL.key, 0.0)
    weak = Packet(Type.CHALLENGE, ATTEMPT, bytes(COOKIE_BYTES + 32)).encode()
    joining.receive(weak, AT, 0.0)
    assert joining.stamps is None
    honest = bytes(COOKIE_BYTES) + Agreement().ephemeral
    joining.receive(Packet(Type.CHALLENGE, ATTEMPT, honest).encode(), AT, 0.0)
    joining.receive(Packet(Type.JOINED, ATTEMPT, bytes(16)).encode(), AT, 0.0)
    assert not joining.done


def test_a_packet_for_who_has_not_come_is_dropped():
    meeting = Meeting()
    meeting.carrier.grant(ATTEMPT, ALICE.key, BOB.key, 0.0)
    assert meeting.joins(A, ALICE).joined
    assert meeting.says(A, sealed()) == []
    assert meeting.joins(B, BOB).joined
    assert meeting.carrier.carried == 0


def test_pairs_are_bounded_in_number():
    carrier = Carrier(CAROL.key, Bounds(pairs=3, per_asker=2))

    def grant(n, asker, other=BOB):
        return carrier.grant(bytes([n]) * ATTEMPT_BYTES, asker.key, other.key, 0.0)

    assert [grant(n, ALICE) for n in (1, 2)] == ["", ""]
    assert grant(1, ALICE) == "", "asked twice is asked once"
    assert "another pair" in grant(1, MALLORY)
    assert "for one peer" in grant(3, ALICE)
    assert grant(3, MALLORY) == ""
    assert "are the most" in grant(4, BOB, ALICE)
    assert "two others" in grant(5, CAROL)
    assert "two others" in grant(5, BOB)


def test_pairs_end():
    meeting = pair(idle_s=30, join_s=15)
    joined = meeting.now
    meeting.carrier.tick(joined + 29)
    assert meeting.carrier.pairs == 1
    meeting.carrier.tick(joined + 31)
    assert meeting.carrier.pairs == 0
    assert meeting.says(A, sealed()) == []
    meeting.carrier.grant(ATTEMPT, ALICE.key, BOB.key, meeting.now)
    meeting.carrier.tick(meeting.now + 16)
    assert meeting.carrier.pairs == 0


def test_who_is_done_says_so_and_makes_room():
    meeting = pair()
    joining = meeting.joins(A, ALICE)
    joining.leave()
    for datagram in joining.take():
        meeting.says(A, datagram.payload)
    assert meeting.carrier.pairs == 0
    assert meeting.says(B, sealed()) == []


def test_a_peer_whose_nat_has_moved_it_joins_again():
    meeting = pair()
    assert meeting.joins(M, ALICE).joined
    packet = sealed()
    assert meeting.says(B, packet) == [(M, packet)]
    assert meeting.says(A, packet) == []


@given(st.binary(max_size=200), st.sampled_from([A, B, M]))
def test_whatever_comes_is_taken(data, client):
    meeting = pair()
    answers = meeting.says(client, data)
    assert all(len(answer.data) <= len(data) for answer in answers)


@given(st.binary(max_size=130))
def test_packets_are_read_and_written_alike(data):
    packet = parse(data)
    assert packet is None or packet.encode() == data


def test_an_order_of_random_packets_does_not_join():
    assert Sealed.DATA == 5
    meeting = Meeting()
    meeting.carrier.grant(ATTEMPT, ALICE.key, BOB.key, 0.0)
    forged = Packet(Type.PROVE, ATTEMPT, bytes(COOKIE_BYTES + 32 + 64)).encode()
    assert meeting.says(M, forged) == []


def test_the_service_knows_who_volunteers():
    stage = Stage()
    alice, bob = stage.join("alice", ALICE), stage.join("bob", BOB)
    carol = stage.join("carol", CAROL)
    stage.members[bob].volunteer(("fast",), elected=False)
    stage.members[carol].volunteer((), elected=True)
    stage.settle()
    stage.members[alice].volunteers()
    stage.members[carol].volunteers()
    stage.settle()
    told = stage.events[alice][-1].volunteers
    assert [(one.name, one.key, one.elected, one.lacks) for one in told] == [
        ("carol", CAROL.key, True, ()),
        ("bob", BOB.key, False, ("fast",)),
    ]
    assert [one.name for one in stage.events[carol][-1].volunteers] == ["bob"]
    # Who is gone volunteers no more.
    stage.broker.closed(carol, stage.now)
    stage.members[alice].volunteers()
    stage.settle()
    assert [one.name for one in stage.events[alice][-1].volunteers] == ["bob"]


@pytest.mark.parametrize("lacks", [None, "fast", ["rich"], [{}], 3])
def test_a_volunteer_that_says_nonsense_is_refused(lacks):
    stage = Stage()
    alice = stage.join("alice", ALICE)
    say(stage, alice, {"t": "volunteer", "id": 7, "elected": False, "lacks": lacks})
    assert stage.events[alice][-1].code == "malformed"


def test_the_service_tests_seldom_and_no_low_ports():
    stage = Stage()
    alice = stage.join("alice", ALICE)
    begun = []
    stage.do = lambda commands, do=stage.do: (  # type: ignore[method-assign]
        begun.extend(c for c in commands if hasattr(c, "token")),
        do([c for c in commands if not hasattr(c, "token")]),
    )
    for port in (22, 70000, 33033, 33033):
        stage.members[alice].reach(port, bytes(16))
    stage.settle()
    assert [command.port for command in begun] == [33033]
    assert [e.code for e in stage.events[alice][1:]] == ["malformed", "malformed", "too-fast"]
