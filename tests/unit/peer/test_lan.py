"""Names on a network: DNS messages, neighbours that find each other, and what is not believed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.peer.identity import Identity
from lab.peer.lan import dns
from lab.peer.lan.neighbours import NOT_HERE, Neighbours
from lab.peer.rendezvous.client import RendezvousError
from tests.unit.peer.support import WAIT_S, network

NAMES = st.lists(st.text("abcdefghij-", min_size=1, max_size=63), min_size=1, max_size=4)


@given(st.integers(0, 65535), st.lists(NAMES, max_size=3), st.lists(st.binary(max_size=99)))
def test_messages_come_back_as_they_were(number, names, data):
    questions = tuple((".".join(labels), dns.TXT) for labels in names)
    answers = tuple(dns.Record("a.local", dns.A, piece) for piece in data[:4])
    message = dns.Message(number, bool(answers), questions, answers)
    encoded = dns.encode(message)
    if len(encoded) <= dns.MAX_BYTES:
        assert dns.parse(encoded) == message


def test_a_query_is_on_the_wire_as_the_rfc_has_it():
    query = dns.encode(dns.Message(1, questions=(("bob.local", dns.A),)))
    assert query == bytes.fromhex(
        "0001 0000 0001 0000 0000 0000 03"
    ) + b"bob\5local" + bytes.fromhex("00 0001 0001")
    # A compressed name (RFC 1035, section 4.1.4), as other responders send it.
    compressed = bytes.fromhex("0001 8400 0001 0001 0000 0000 03") + b"bob\5local"
    compressed += bytes.fromhex("00 0001 0001 c00c 0001 0001 00000078 0004 c0a80102")
    (answer,) = dns.parse(compressed).answers
    assert (answer.name, socket.inet_ntoa(answer.data)) == ("bob.local", "192.168.1.2")


def test_names_that_do_not_end_are_refused():
    loop = bytes.fromhex("0001 0000 0001 0000 0000 0000 c00c 0001 0001")
    with pytest.raises(dns.MalformedError):
        dns.parse(loop)


@given(st.binary(max_size=300))
def test_whatever_comes_is_a_message_or_none(data):
    dns.pairs(data)
    with contextlib.suppress(dns.MalformedError):
        dns.parse(data)


@given(st.data())
def test_messages_with_damage_are_messages_or_none(data):
    record = dns.Record("bob.local", dns.TXT, dns.texts("port=1", "key=a"))
    whole = dns.encode(dns.Message(7, True, (("bob.local", dns.TXT),), (record,)))
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = whole[:at] + data.draw(st.binary(max_size=4)) + whole[at + 1 :]
    with contextlib.suppress(dns.MalformedError):
        for answer in dns.parse(damaged).answers:
            dns.pairs(answer.data)


NET = network()
ALICE, BOB, CAROL = (f"{name}-{secrets.token_hex(4)}" for name in ("alice", "bob", "carol"))
"""Every peer of this machine hears the groups on its one loopback interface, those of other
test runs too: a plain `bob` may be another's, and answer first."""


def play(story):
    """Run `story(alice, bob, heard)` with two neighbours on the loopback network."""

    async def stage():
        heard = asyncio.Queue()
        people = [
            Neighbours(name, Identity.create(), heard.put_nowait, lambda *_, **__: None)
            for name in (ALICE, BOB)
        ]
        try:
            for number, one in enumerate(people, 2):
                await one.settle_at(f"{NET}.{number}")
            async with asyncio.timeout(WAIT_S):
                await story(*people, heard)
        finally:
            for one in people:
                one.close()

    asyncio.run(stage())


def test_neighbours_find_each_other_and_speak():
    async def story(alice, bob, heard):
        assert await alice.who(BOB) == bob._identity.key
        assert alice.found_by[BOB] in ("mdns", "llmnr", "ssdp")
        await alice.send(BOB, {"kind": "ping"})
        message = await heard.get()
        assert (message.sender, message.key) == (ALICE, alice._identity.key)
        assert message.body == {"kind": "ping"}
        # Bob can answer without a search of his own.
        await bob.send(ALICE, {"kind": "pong"})
        assert (await heard.get()).sender == BOB

    play(story)


def test_nobody_answers_to_another_name():
    async def story(alice, bob, heard):
        with pytest.raises(RendezvousError) as missing:
            await alice.who(CAROL)
        assert missing.value.code == NOT_HERE

    play(story)


def test_what_is_no_signal_is_dropped_and_one_that_comes_twice_is_heard_once():
    async def story(alice, bob, heard):
        await alice.who(BOB)
        to = alice._known[BOB][0]
        for data in (b"{", b"{}", b'{"ack": []}', b'{"id": 1}', b"[" * 5000, b"HTTP/1.1 200\r\n"):
            alice._send(data, to)
        frame = alice._frame({"kind": "end"}, "1" * 16)
        for _ in range(3):
            alice._send(frame, to)
        await alice.send(BOB, {"kind": "last"})
        bodies = [await heard.get(), await heard.get()]
        assert [message.body["kind"] for message in bodies] == ["end", "last"]
        assert heard.empty()
        assert json.loads(frame)["from"] == ALICE

    play(story)
