"""The rendezvous service as a playbook: what is said, and what is answered."""

from __future__ import annotations

import itertools
import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.peer.identity import Identity, from_text, to_text
from lab.peer.rendezvous import member, members, parcels, way
from lab.peer.rendezvous.broker import Broker
from lab.peer.rendezvous.commands import Close, Send
from lab.peer.rendezvous.frames import CHALLENGE, FrameError, FrameReader, challenge_text, encode
from lab.peer.rendezvous.member import Answer, Late, Member, Message, Refused, Registered

ALICE, BOB, MALLORY = Identity.create(), Identity.create(), Identity.create()


class Stage:
    """A broker and its members, without sockets; `now` is set by the test."""

    def __init__(self, **options):
        self.unread: dict[int, int] = {}
        """How many bytes of what they were given have not arrived at connections."""
        self.broker = Broker(unread=lambda number: self.unread.get(number, 0), **options)
        self.members: dict[int, Member] = {}
        self.events: dict[int, list] = {}
        self.closed: set[int] = set()
        self.now = 0.0
        self.numbers = itertools.count(1)

    def join(self, name, identity):
        number = next(self.numbers)
        self.members[number] = Member(name, identity)
        self.events[number] = []
        self.do(self.broker.opened(number, self.now))
        self.settle()
        return number

    def settle(self):
        while any(
            self.do(self.broker.received(number, data, self.now)) or True
            for number, member in self.members.items()
            if (data := member.take()) and number not in self.closed
        ):
            pass

    def do(self, commands):
        for command in commands:
            if isinstance(command, Close):
                self.closed_by_itself(command.connection)
            elif command.connection in self.members:
                member = self.members[command.connection]
                self.events[command.connection] += member.receive(command.data)

    def closed_by_itself(self, number):
        self.closed.add(number)
        self.do(self.broker.closed(number, self.now))

    def tick(self, now):
        self.now = now
        self.do(self.broker.tick(now))


def say(stage, number, message):
    stage.do(stage.broker.received(number, encode(message), stage.now))


def test_two_register_and_exchange_a_message():
    stage = Stage()
    alice, bob = stage.join("alice", ALICE), stage.join("bob", BOB)
    assert stage.broker.members == ("alice", "bob")
    asked = stage.members[alice].who("bob")
    sent, size = stage.members[alice].send("bob", {"hello": "bob"})
    assert size > 20
    stage.settle()
    assert stage.events[alice] == [Registered(), Answer(asked, BOB.key), Answer(sent)]
    (registered, message) = stage.events[bob]
    assert registered == Registered()
    assert isinstance(message, Message)
    assert (message.sender, message.key, message.body) == ("alice", ALICE.key, {"hello": "bob"})


def test_an_unknown_name():
    stage = Stage()
    alice = stage.join("alice", ALICE)
    stage.members[alice].who("nobody")
    stage.members[alice].send("nobody", {})
    stage.settle()
    assert [event.code for event in stage.events[alice][1:]] == ["unknown-name"] * 2


def test_nobody_takes_a_name_that_is_held():
    stage = Stage()
    bob = stage.join("bob", BOB)
    thief = stage.join("bob", MALLORY)
    reason = "the name 'bob' belongs to another key"
    assert stage.events[thief] == [Refused("name-taken", reason)]
    assert thief in stage.closed
    assert stage.members[bob].registered
    assert bob not in stage.closed


def test_a_name_is_kept_for_who_was_cut_off():
    stage = Stage()
    bob = stage.join("bob", BOB)
    stage.broker.closed(bob, stage.now)
    stage.now += members.HOLD_S / 2
    thief = stage.join("bob", MALLORY)
    assert stage.events[thief][0].code == "name-taken"
    again = stage.join("bob", BOB)
    assert stage.events[again] == [Registered()]


def test_a_name_becomes_free():
    stage = Stage()
    stage.broker.closed(stage.join("bob", BOB), stage.now)
    stage.now += members.HOLD_S + 1
    other = stage.join("bob", MALLORY)
    assert stage.events[other] == [Registered()]


def test_the_same_peer_may_come_again():
    stage = Stage()
    first = stage.join("bob", BOB)
    second = stage.join("bob", BOB)
    assert stage.events[second] == [Registered()]
    assert first in stage.closed
    stage.broker.closed(first, stage.now)
    assert stage.broker.members == ("bob",)


def test_what_was_lost_with_a_connection_comes_by_the_next():
    stage = Stage()
    alice, bob = stage.join("alice", ALICE), stage.join("bob", BOB)
    for number in (1, 2):
        sent, _ = stage.members[alice].send("bob", {"number": number})
        stage.settle()
    (_, _, second) = stage.events[bob]
    # The first has arrived; then the NAT before bob restarted.
    stage.unread[bob] = second.size
    stage.tick(parcels.LATE_S + 0.5)
    assert stage.events[alice][-1] == Late("bob", (sent,), parcels.LATE_S + 0.5)
    stage.now += 0.25
    again = stage.join("bob", BOB)
    assert stage.events[again] == [Registered(), second]
    assert stage.events[alice][-1] == Late("bob", (sent,), parcels.LATE_S + 0.75, "back")
    told = len(stage.events[alice])
    stage.tick(stage.now + 5)
    assert len(stage.events[alice]) == told


def test_what_nobody_waits_for_any_more_is_not_delivered():
    stage = Stage()
    alice, bob = stage.join("alice", ALICE), stage.join("bob", BOB)
    old, _ = stage.members[alice].send("bob", {})
    stage.settle()
    stage.unread[bob] = 1000
    stage.now += parcels.KEEP_S
    recent, _ = stage.members[alice].send("bob", {"recent": True})
    stage.settle()
    again = stage.join("bob", BOB)
    assert [event.body for event in stage.events[again][1:]] == [{"recent": True}]
    assert stage.events[alice][-2:] == [
        Late("bob", (old,), parcels.KEEP_S, "too-old"),
        Late("bob", (recent,), 0.0, "back"),
    ]


def test_what_is_too_old_is_said_to_be_while_its_receiver_is_still_away():
    stage = Stage()
    alice, bob = stage.join("alice", ALICE), stage.join("bob", BOB)
    old, _ = stage.members[alice].send("bob", {})
    stage.settle()
    stage.unread[bob] = 1000
    stage.now += parcels.KEEP_S - 1
    stage.closed_by_itself(bob)
    stage.tick(parcels.KEEP_S)
    assert stage.events[alice][-1] == Late("bob", (old,), parcels.KEEP_S, "too-old")
    told = len(stage.events[alice])
    stage.tick(parcels.KEEP_S + members.HOLD_S)
    assert len(stage.events[alice]) == told


def test_who_sends_too_much_pushes_out_its_own_alone():
    stage = Stage()
    alice, bob = stage.join("alice", ALICE), stage.join("bob", BOB)
    mallory = stage.join("mallory", MALLORY)
    stage.closed_by_itself(bob)
    mine, _ = stage.members[alice].send("bob", {"from": "alice"})
    stage.settle()
    flood = [stage.members[mallory].send("bob", {"n": n})[0] for n in range(3 * parcels.MOST)]
    stage.settle()
    lost = [e for e in stage.events[mallory] if isinstance(e, Late)]
    assert {late.end for late in lost} == {"too-many"}
    kept = flood[-parcels.EACH :]
    assert [n for late in lost for n in late.numbers] == flood[: -parcels.EACH]
    assert not [e for e in stage.events[alice] if isinstance(e, Late)]
    again = stage.join("bob", BOB)
    assert len(stage.events[again]) == 2 + parcels.EACH
    assert stage.events[again][1].body == {"from": "alice"}
    assert stage.events[alice][-1] == Late("bob", (mine,), 0.0, "back")
    assert stage.events[mallory][-1] == Late("bob", tuple(kept), 0.0, "back")


def test_what_a_dead_connection_was_given_is_kept_by_the_same_measure():
    stage = Stage()
    alice, bob = stage.join("alice", ALICE), stage.join("bob", BOB)
    mallory = stage.join("mallory", MALLORY)
    stage.unread[bob] = 100_000  # nothing arrives any more
    mine, _ = stage.members[alice].send("bob", {"from": "alice"})
    stage.settle()
    flood = [stage.members[mallory].send("bob", {"n": n})[0] for n in range(2 * parcels.MOST)]
    stage.settle()
    stage.tick(parcels.LATE_S)
    # As many are named as would be kept.
    assert stage.events[alice][-1] == Late("bob", (mine,), parcels.LATE_S)
    kept = tuple(flood[-parcels.EACH :])
    assert stage.events[mallory][-1] == Late("bob", kept, parcels.LATE_S)
    stage.closed_by_itself(bob)
    lost = [e.numbers for e in stage.events[mallory] if isinstance(e, Late) and e.end]
    assert [n for numbers in lost for n in numbers] == flood[: -parcels.EACH]
    again = stage.join("bob", BOB)
    assert stage.events[again][1].body == {"from": "alice"}
    assert stage.events[mallory][-1] == Late("bob", kept, parcels.LATE_S, "back")


def test_one_sender_alone_does_not_fill_what_a_member_leaves_unread():
    stage = Stage()
    alice, bob = stage.join("alice", ALICE), stage.join("bob", BOB)
    mallory = stage.join("mallory", MALLORY)
    stage.unread[bob] = 1
    long = {"x": "y" * 15_000}
    flood = [stage.members[mallory].send("bob", long)[0] for _ in range(12)]
    stage.settle()
    stage.unread[bob] = 4 * 15_200  # a little less than it was given
    lost = [e for e in stage.events[mallory] if isinstance(e, Late)]
    room = parcels.SHARE // 15_000
    assert lost == [Late("bob", (number,), 0.0, "too-many") for number in flood[room:]]
    stage.members[alice].send("bob", {"from": "alice"})
    stage.settle()
    assert stage.events[bob][-1].body == {"from": "alice"}
    assert not [e for e in stage.events[alice] if isinstance(e, Late)]
    # What has arrived makes room again.
    stage.unread[bob] = 0
    told = len(stage.events[bob])
    stage.members[mallory].send("bob", long)
    stage.settle()
    assert len(stage.events[bob]) == told + 1


SENDERS = [bytes([n]) * 32 for n in range(6)]


@given(st.lists(st.sampled_from(SENDERS), max_size=120))
def test_nobody_loses_a_place_to_who_has_as_many(senders):
    kept = parcels.Kept()
    for number, key in enumerate(senders):
        before = list(kept)
        parcel = parcels.Parcel(str(key[0]), key, b"", 0.0, number)
        gone = kept.add(parcel)
        after = list(kept)
        assert sorted(one.number for one in [*after, *([gone] if gone else [])]) == sorted(
            one.number for one in [*before, parcel]
        )
        counts = {key: sum(one.key == key for one in after) for key in SENDERS}
        assert len(after) <= parcels.MOST
        assert max(counts.values()) <= parcels.EACH
        if gone:
            # The oldest of its sender; and if that is another, it still has as many.
            assert gone == next(one for one in before if one.key == gone.key)
            assert gone.key == parcel.key or counts[gone.key] >= counts[parcel.key]
        else:
            assert len(after) == len(before) + 1


@pytest.mark.parametrize("numbers", [None, "1", 1, ["1"], [None], list(range(member.MAX_LATE + 1))])
def test_a_notice_that_names_no_messages_is_nonsense(numbers):
    late = {"t": "late", "to": "bob", "ids": numbers, "ms": 1200, "end": ""}
    (event,) = Member("alice", ALICE).receive(encode(late))
    assert isinstance(event, Refused)


@pytest.mark.parametrize("number", [2**53, -(10**400), 10**400])
def test_a_number_that_is_none_of_ours_is_nonsense(number):
    for said in (
        {"t": "late", "to": "bob", "ids": [1], "ms": number, "end": ""},
        {"t": "late", "to": "bob", "ids": [number], "ms": 1200, "end": ""},
        {"t": "sent", "id": number},
    ):
        (event,) = Member("alice", ALICE).receive(encode(said))
        assert isinstance(event, Refused)


def test_words_wait_for_who_is_just_reconnecting():
    stage = Stage()
    alice, bob = stage.join("alice", ALICE), stage.join("bob", BOB)
    stage.broker.closed(bob, stage.now)
    asked = stage.members[alice].who("bob")
    stage.members[alice].send("bob", {"hello": "again"})
    stage.settle()
    assert stage.events[alice][1] == Answer(asked, BOB.key)
    assert stage.events[stage.join("bob", MALLORY)][0].code == "name-taken"
    again = stage.join("bob", BOB)
    assert [type(event) for event in stage.events[again]] == [Registered, Message]


def test_who_has_gone_for_good_is_said_to_have():
    stage = Stage()
    alice, bob = stage.join("alice", ALICE), stage.join("bob", BOB)
    stage.broker.closed(bob, stage.now)
    sent, _ = stage.members[alice].send("bob", {})
    stage.settle()
    stage.tick(members.HOLD_S)
    assert stage.events[alice][-1] == Late("bob", (sent,), members.HOLD_S, "lost")
    stage.members[alice].who("bob")
    stage.settle()
    assert stage.events[alice][-1].code == "unknown-name"
    # Whoever has the name next gets nothing that was meant for another.
    assert stage.events[stage.join("bob", MALLORY)] == [Registered()]


def test_who_comes_for_a_name_that_is_just_free_is_not_the_one_who_left():
    stage = Stage()
    alice, bob = stage.join("alice", ALICE), stage.join("bob", BOB)
    stage.broker.closed(bob, stage.now)
    sent, _ = stage.members[alice].send("bob", {})
    stage.settle()
    stage.now += members.HOLD_S  # and the service has not looked yet
    assert stage.events[stage.join("bob", MALLORY)] == [Registered()]
    assert stage.events[alice][-1] == Late("bob", (sent,), members.HOLD_S, "lost")


def test_one_lost_question_is_no_dead_way():
    """Linux ends a connection at the first question after the user timeout, one unanswered."""
    assert way.SILENCE_S > way.QUIET_S + way.AGAIN_S


def test_a_dead_holder_does_not_keep_the_name():
    stage = Stage()
    bob = stage.join("bob", BOB)
    del stage.members[bob]  # it answers no ping any more
    stage.join("bob", MALLORY)
    stage.tick(members.PONG_S + 1)
    assert bob in stage.closed
    stage.tick(stage.now + members.HOLD_S + 1)
    late = stage.join("bob", MALLORY)
    assert stage.events[late] == [Registered()]


def test_a_silent_peer_is_asked_and_stays_if_it_answers():
    stage = Stage()
    bob = stage.join("bob", BOB)
    stage.tick(members.IDLE_S + 1)
    stage.settle()
    stage.tick(stage.now + members.PONG_S + 1)
    assert bob not in stage.closed
    assert stage.broker.members == ("bob",)


def test_a_signature_of_another_key_proves_nothing():
    stage = Stage()
    stage.members[9] = Member("bob", BOB)
    stage.members[9].take()
    stage.events[9] = []
    stage.broker.opened(9, 0.0)
    hello = {"t": "hello", "v": 1, "name": "bob", "key": to_text(BOB.key)}
    (challenge,) = stage.broker.received(9, encode(hello), 0.0)
    ((message, _),) = FrameReader().feed(challenge.data)
    nonce = from_text(message["nonce"], 32)
    forged = MALLORY.sign(CHALLENGE, challenge_text(nonce, "bob", BOB.key))
    say(stage, 9, {"t": "prove", "signature": to_text(forged)})
    assert stage.events[9][0].code == "bad-proof"
    assert 9 in stage.closed


def test_a_proof_for_one_challenge_is_none_for_another():
    stage = Stage()
    proofs = []
    for number in (1, 2):
        stage.broker.opened(number, 0.0)
        member = Member("bob", BOB)
        (challenge,) = stage.broker.received(number, member.take(), 0.0)
        member.receive(challenge.data)
        proofs.append(member.take())
    assert isinstance(stage.broker.received(2, proofs[0], 0.0)[-1], Close)
    assert stage.broker.members == ()


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"t": "send", "to": "bob", "body": {}}, "unregistered"),
        ({"t": "hello", "v": 9, "name": "eve", "key": to_text(BOB.key)}, "version"),
        ({"t": "hello", "v": 1, "name": "../eve", "key": to_text(BOB.key)}, "bad-name"),
        ({"t": "hello", "v": 1, "name": "e" * 64, "key": to_text(BOB.key)}, "bad-name"),
        ({"t": "hello", "v": 1, "name": "eve", "key": "AAAA"}, "bad-key"),
        ({"t": ["hello"]}, "malformed"),
    ],
)
def test_a_stranger_who_says_something_wrong_is_dismissed(message, code):
    stage = Stage()
    stage.members[5], stage.events[5] = Member("x", ALICE), []
    stage.broker.opened(5, 0.0)
    say(stage, 5, message)
    assert stage.events[5][0].code == code
    assert 5 in stage.closed


def test_a_stranger_has_little_time():
    stage = Stage()
    stage.broker.opened(5, 0.0)
    stage.tick(members.PROOF_S + 1)
    assert 5 in stage.closed


def test_too_many_messages():
    stage = Stage(rate=5)
    alice = stage.join("alice", ALICE)
    for _ in range(30):
        stage.members[alice].send("alice", {})
    stage.settle()
    codes = [e.code for e in stage.events[alice] if isinstance(e, Answer)]
    assert codes.count("") == 10
    assert codes.count("too-fast") == 20
    stage.now += 1.0
    for _ in range(30):
        stage.members[alice].send("alice", {})
    stage.settle()
    codes = [e.code for e in stage.events[alice] if isinstance(e, Answer)]
    assert codes.count("") == 15


def test_too_many_members():
    stage = Stage(max_members=1)
    stage.join("alice", ALICE)
    bob = stage.join("bob", BOB)
    assert stage.events[bob][0].code == "full"


def test_a_message_too_long_is_refused_at_both_ends():
    stage = Stage()
    alice = stage.join("alice", ALICE)
    with pytest.raises(FrameError):
        stage.members[alice].send("alice", {"x": "y" * 20_000})
    # It fits as it comes, but not with the sender's name on it.
    fits = {"t": "send", "id": 7, "to": "alice", "body": {"x": "y" * (16 * 1024 - 70)}}
    say(stage, alice, fits)
    assert stage.events[alice][-1].code == "too-big"


def test_a_frame_too_long_ends_the_connection():
    stage = Stage()
    alice = stage.join("alice", ALICE)
    stage.do(stage.broker.received(alice, struct.pack("!I", 1 << 30), 0.0))
    assert alice in stage.closed
    assert stage.broker.members == ()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(st.sampled_from(["t", "name", "body"]), children, max_size=2)
    ),
    max_leaves=4,
)
KINDS = st.sampled_from(
    ["hello", "prove", "who", "send", "pong", "error", "message", "sent", "late"]
)
KEYS = ["id", "name", "key", "to", "body", "v", "nonce", "ids", "ms"]
OBJECTS = st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4)


@settings(deadline=None)
@given(st.lists(st.tuples(KINDS, OBJECTS), max_size=4), st.booleans())
def test_no_message_harms_the_service_or_a_member(messages, registered):
    stage = Stage()
    number = stage.join("alice", ALICE) if registered else 50
    if not registered:
        stage.broker.opened(number, 0.0)
    member = Member("bob", BOB)
    for kind, more in messages:
        body = json.dumps({**more, "t": kind}).encode()
        frame = struct.pack("!I", len(body)) + body
        stage.do(stage.broker.received(number, frame, 0.0))
        member.receive(frame)


@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_harm_the_service_or_a_member(data, framed):
    frame = struct.pack("!I", len(data)) + data if framed else data
    broker = Broker()
    broker.opened(1, 0.0)
    assert all(isinstance(c, Send | Close) for c in broker.received(1, frame, 0.0))
    Member("bob", BOB).receive(frame)


def test_nesting_is_no_way_to_crash_it():
    body = b'{"a":' * 3000 + b"1" + b"}" * 3000
    with pytest.raises(FrameError):
        FrameReader().feed(struct.pack("!I", len(body)) + body)
