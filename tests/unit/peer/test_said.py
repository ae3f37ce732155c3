"""What a peer says of itself by mDNS and DNS-SD, and to whom (RFC 6762, RFC 6763)."""

from __future__ import annotations

import asyncio
import random
import socket
from dataclasses import replace

import pytest

from lab.peer.endpoint import Endpoint
from lab.peer.lan import dns, said
from lab.peer.lan.dns import Message
from lab.peer.lan.names import Names
from lab.peer.lan.telling import MDNS, MDNS6

FOUR, SIX = Endpoint("10.0.0.5", 4000), Endpoint("fd00::5", 4000)
RESPONDER, RESOLVER = Endpoint("10.0.0.9", 5353), Endpoint("10.0.0.9", 40000)
INSTANCE = "alice._lab._udp.local"


def records(*places):
    return said.everything("alice.local", places or (FOUR,), "k")


def ask(*questions, **more):
    return Message(questions=questions, **more)


def kinds(records):
    return [(record.name, record.type) for record in records]


def test_a_service_is_told_with_all_that_it_takes_to_reach_it():
    reply = said.reply(records(), ask((said.SERVICE, dns.PTR)))
    assert kinds(reply.answers) == [(said.SERVICE, dns.PTR)]
    (pointer,) = reply.answers
    assert (pointer.unique, pointer.data) == (False, dns.pointer(INSTANCE))
    assert kinds(reply.more) == [
        (INSTANCE, dns.SRV), (INSTANCE, dns.TXT), ("alice.local", dns.A), ("alice.local", dns.NSEC),
    ]  # fmt: skip
    assert reply.more[0].data == b"\0\0\0\0\x0f\xa0\5alice\5local\0"
    types = said.reply(records(), ask((said.BROWSED, dns.PTR)))
    assert types.answers[0].data == dns.pointer(said.SERVICE)


def test_a_name_without_such_an_address_says_so():
    """RFC 6762, section 6.1: the bits of A (1) and TXT (16) alone."""
    (none,) = said.reply(records(), ask(("alice.local", dns.AAAA))).answers
    assert (none.type, none.unique) == (dns.NSEC, True)
    assert none.data == b"\5alice\5local\0" + bytes([0, 3, 0x40, 0, 0x80])
    both = records(FOUR, SIX)
    (six,) = said.reply(both, ask(("alice.local", dns.AAAA))).answers
    assert six.data == socket.inet_pton(socket.AF_INET6, SIX.address)
    # Of what others may have as well, and of others' names, nothing is denied.
    for name in (said.SERVICE, "bob.local"):
        assert said.reply(both, ask((name, dns.AAAA))) == said.Reply((), ())


@pytest.mark.parametrize(("ttl_s", "told"), [(4500, False), (2250, False), (2249, True)])
def test_what_is_known_for_half_its_time_is_not_told_again(ttl_s, told):
    (pointer,) = said.reply(records(), ask((said.SERVICE, dns.PTR))).answers
    known = replace(pointer, ttl_s=ttl_s)
    query = ask((said.SERVICE, dns.PTR), answers=(known,))
    # As avahi says it: with a compressed name.
    assert bool(said.reply(records(), dns.parse(dns.encode(query))).answers) is told


def test_names_in_records_are_read_without_the_rest_of_the_message():
    head = bytes.fromhex("0000 8400 0000 0001 0000 0001 04") + b"_lab\4_udp\5local\0"
    pointer = head + bytes.fromhex("000c 0001 00000078 0008 05") + b"alice\xc0\x0c"
    service = b"\5alice\xc0\x0c" + bytes.fromhex("0021 8001 00000078 0008 0000 0000 0fa0 c016")
    message = dns.parse(pointer + service)
    assert message.answers[0].data == dns.pointer(INSTANCE)
    assert message.more[0].data == dns.service(4000, "local")
    assert (message.more[0].name, message.more[0].unique) == (INSTANCE, True)
    assert dns.parse(dns.encode(message)) == message
    # A name that reaches beyond its record.
    with pytest.raises(dns.MalformedError):
        dns.parse(pointer.replace(b"\x08\x05", b"\x03\x05") + service)
    # One of bytes that need more of them once they are read.
    long = bytes.fromhex("000c 0001 00000078 0041 3f") + b"\xff" * 63 + b"\0"
    with pytest.raises(dns.MalformedError):
        dns.parse(head + long + service)


def play(story):
    """Run `story(names, sent)` with one that has its name; `sent` is what went where since."""

    async def stage():
        sent, settled = [], asyncio.Event()

        def send(way, data, to):
            if way.startswith("mdns"):
                sent.append((way, dns.parse(data), to))

        names = Names("alice", "k", random.Random(1), send, lambda *_, **__: settled.set())
        names.begin(FOUR, SIX)
        async with asyncio.timeout(30):
            await settled.wait()
            sent.clear()
            await story(names, sent)
        names.end()

    asyncio.run(stage())


def test_who_is_told_what_and_when():
    address = ("alice.local", dns.A)

    async def story(names, sent):
        # Who asks for an answer of its own gets one if all were told lately.
        names.heard("mdns", ask(address, alone=True), RESPONDER)
        ((way, answer, to),) = sent
        assert (way, to) == ("mdns", RESPONDER)
        assert kinds(answer.answers) == [address]
        # A name's NSEC nobody was told: so all are, by the way that it was asked for.
        sent.clear()
        names.heard("mdns6", ask(("alice.local", 99), alone=True), Endpoint("fe80::9", 5353))
        ((way, answer, to),) = sent
        assert (way, to) == ("mdns6", MDNS6)
        assert kinds(answer.answers) == [("alice.local", dns.NSEC)]
        # Who hears that way alone was told nothing by the other one.
        sent.clear()
        names._telling.forget()  # as if it were long ago
        for way in ("mdns", "mdns6", "mdns"):
            names.heard(way, ask(address), RESPONDER)
        assert [(way, to) for way, _, to in sent] == [("mdns", MDNS), ("mdns6", MDNS6)]
        # One that does not hear the group is answered alone, in words that it knows.
        sent.clear()
        names.heard("mdns", ask(address, number=7), RESOLVER)
        ((_, answer, to),) = sent
        assert (answer.number, to, answer.questions) == (7, RESOLVER, (address,))
        assert not answer.answers[0].unique
        sent.clear()
        names.heard("mdns", ask(("alice.local", 99)), RESOLVER)
        assert sent == []

        # What others may have as well is told a moment later.
        sent.clear()
        names._telling.forget()  # as if it were long ago
        names.heard("mdns", ask((said.SERVICE, dns.PTR)), RESPONDER)
        assert sent == []
        while not sent:
            await asyncio.sleep(0)
        ((_, answer, to),) = sent
        assert (kinds(answer.answers), to) == ([(said.SERVICE, dns.PTR)], MDNS)
        sent.clear()
        names.end()
        assert [to for _, _, to in sent] == [MDNS, MDNS6]
        assert all(record.goodbye for _, last, _ in sent for record in last.answers)
        gone = kinds(sent[0][1].answers)
        # Its service is gone, but for all it knows not the last one of that type.
        assert (said.SERVICE, dns.PTR) in gone
        assert (said.BROWSED, dns.PTR) not in gone

    play(story)
