"""Packets read, named and recognised; rules found by their handles; filters."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.fabric import packets as sockets
from lab.observe.capture import packets, tracing
from lab.observe.capture.rulebook import parsed, saved_rules
from lab.observe.explain.labels import Kind, label
from lab.observe.explain.packet import parse
from lab.peer.endpoint import Endpoint
from lab.peer.rendezvous import frames
from lab.peer.stun.codec import Class, Message, Method, encode, request
from tests.unit.observe.explain_support import NAMES, capture


def udp(
    payload: bytes,
    source: tuple[str, int] = ("192.168.1.2", 5000),
    destination: tuple[str, int] = ("45.0.0.10", 3478),
    number: int = 7,
) -> bytes:
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 28 + len(payload), number, 0, 64, 17, 0,
        socket.inet_aton(source[0]), socket.inet_aton(destination[0]),
    )  # fmt: skip
    return head + struct.pack("!HHHH", source[1], destination[1], 8 + len(payload), 0) + payload


def tcp(payload: bytes, flags: int = 0x18, port: int = 9000) -> bytes:
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 40 + len(payload), 1, 0, 64, 6, 0,
        socket.inet_aton("192.168.1.2"), socket.inet_aton("45.0.0.18"),
    )  # fmt: skip
    return head + struct.pack("!HHIIBBHHH", 5000, port, 1, 2, 5 << 4, flags, 0, 0, 0) + payload


def unreachable(about: bytes) -> bytes:
    body = struct.pack("!BBHI", 3, 1, 0, 0) + about
    return struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 3, 0, 64, 1, 0,
        socket.inet_aton("45.0.0.1"), socket.inet_aton("45.0.0.2"),
    ) + body  # fmt: skip


@given(st.binary(max_size=200))
def test_no_bytes_are_too_odd(data):
    for head in (b"", b"\x45", b"\x60"):
        packet = parse(head + data)
        if packet is not None:
            label(packet)
            assert packet.identity


@pytest.mark.parametrize("name", NAMES)
def test_cut_packets_are_no_trouble(name):
    for sighting in capture(name).sightings[:40]:
        for size in range(0, len(sighting.data), 7):
            packet = parse(sighting.data[:size])
            if packet is not None:
                label(packet)


@given(st.binary(min_size=1, max_size=100), st.integers(1, 65535))
def test_translation_keeps_the_identity(payload, port):
    before = parse(udp(payload))
    after = parse(udp(payload, ("45.0.0.2", port)))
    assert before.identity == after.identity
    assert before.flow != after.flow
    assert parse(udp(payload + b"!")).identity != before.identity


def test_an_error_is_recognised_by_what_it_is_about():
    inside, outside = udp(b"hello"), udp(b"hello", ("45.0.0.2", 6000))
    assert parse(unreachable(inside)).identity == parse(unreachable(outside)).identity
    assert parse(unreachable(outside)).about.source == Endpoint("45.0.0.2", 6000)
    assert label(parse(unreachable(outside))).kind is Kind.ERROR


def test_stun_by_its_words():
    ask = request(Method.BINDING)
    assert label(parse(udp(encode(ask)))).text == "STUN binding request"
    answer = Message(
        Method.BINDING, Class.RESPONSE, ask.transaction, {"XOR-MAPPED-ADDRESS": ("45.0.0.2", 9)}
    )
    found = label(parse(udp(encode(answer))))
    assert (found.text, found.mapped) == ("you are 45.0.0.2:9", Endpoint("45.0.0.2", 9))
    lent = {"XOR-RELAYED-ADDRESS": ("45.0.0.22", 7), "XOR-MAPPED-ADDRESS": ("45.0.0.2", 9)}
    relayed = Message(Method.ALLOCATE, Class.RESPONSE, ask.transaction, lent)
    assert label(parse(udp(encode(relayed)))).relayed == Endpoint("45.0.0.22", 7)
    assert label(parse(tcp(encode(ask), port=3478))).kind is Kind.STUN


def test_signals_and_housekeeping_of_the_rendezvous_service():
    body = {"kind": "offer", "candidates": [{"kind": "host", "endpoint": "10.0.0.1:5"}]}
    offer = label(parse(tcp(frames.encode({"t": "send", "id": 1, "to": "bob", "body": body}))))
    assert (offer.kind, offer.text, offer.signal) == (Kind.SIGNAL, "offer to bob", "offer")
    assert offer.candidates == ("10.0.0.1:5",)
    chore = label(parse(tcp(frames.encode({"t": "sent", "id": 1}))))
    assert chore.kind is Kind.CHORE


@pytest.mark.parametrize(
    ("flags", "text"),
    [(0x02, "SYN"), (0x12, "SYN ACK"), (0x04, "RST"), (0x11, "FIN"), (0x10, "ACK")],
)
def test_tcp_by_its_flags(flags, text):
    assert label(parse(tcp(b"", flags))).text == text


def test_the_web_by_its_first_line():
    assert label(parse(tcp(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n", port=80))).text == "GET /x"
    soap = b'POST /c HTTP/1.1\r\nSOAPAction: "urn:x#AddPortMapping"\r\n\r\n'
    assert label(parse(tcp(soap, port=5000))).text == "UPnP AddPortMapping"


# --- rules ------------------------------------------------------------------

LISTED = """table ip filter { # handle 1
\tchain unsolicited { # handle 1
\t\tcounter drop # handle 7
\t}
\tchain INPUT { # handle 2
\t\ttype filter hook input priority filter; policy accept;
\t\tct state established counter accept # handle 3
\t\tiifname "wan" counter jump unsolicited # handle 5
\t}
}
table ip lab { # handle 3
\tchain udp_port { # handle 1
\t\tudp sport 5 return comment "mapping: known" # handle 25
\t}
}
table inet lab_explain { # handle 9
\tchain prerouting { # handle 1
\t\tmeta nftrace set 1 # handle 3
\t}
}
"""
SAVED = """*filter
:INPUT ACCEPT [0:0]
:unsolicited - [0:0]
-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
-A INPUT -i wan -m comment --comment "lab: nothing unsolicited in" -j unsolicited
-A unsolicited -j DROP
COMMIT
"""


def test_rules_have_the_words_of_their_own_tool():
    rules = {
        (rule.table, rule.handle): rule for rule in parsed("r", LISTED, saved_rules("ip", SAVED))
    }
    assert sorted(rules) == [("ip filter", 3), ("ip filter", 5), ("ip filter", 7), ("ip lab", 25)]
    assert rules["ip filter", 7].text == "-A unsolicited -j DROP"
    assert rules["ip filter", 5].comment == "nothing unsolicited in"
    assert rules["ip filter", 5].text == "-A INPUT -i wan -j unsolicited"
    assert rules["ip lab", 25].comment == "mapping: known"


# --- what the kernel is told ------------------------------------------------


def passes(addresses: list[str], protocol: int, source: str, destination: str) -> bool:
    """Run the filter as the kernel does."""
    program, at, register = packets._filter(addresses), 0, 0
    while True:
        code, yes, no, value = program[at]
        match code:
            case sockets.LOAD_HALF:
                register = protocol
            case sockets.LOAD_WORD:
                text = source if value == 12 else destination
                register = struct.unpack("!I", socket.inet_aton(text))[0]
            case sockets.EQUAL:
                assert max(yes, no) < 256
                at += yes if register == value else no
            case _:
                return value > 0
        at += 1


@pytest.mark.parametrize("count", [1, 2, 50, packets._MOST])
def test_the_filter_lets_what_concerns_us_pass(count):
    own = [f"10.0.{index // 250}.{index % 250}" for index in range(count)]
    for address in (own[0], own[-1]):
        assert passes(own, 0x0800, address, "9.9.9.9")
        assert passes(own, 0x0800, "9.9.9.9", address)
    assert not passes(own, 0x0800, "8.8.8.8", "9.9.9.9")
    assert not passes(own, 0x0806, own[0], own[0])
    assert passes(own, 0x86DD, "9.9.9.9", "9.9.9.9")


def test_with_very_many_addresses_all_of_ip_passes():
    many = [f"10.{index // 250}.{index % 250}.1" for index in range(packets._MOST + 1)]
    assert passes(many, 0x0800, "8.8.8.8", "9.9.9.9")
    assert not passes(many, 0x0806, "8.8.8.8", "9.9.9.9")


def test_a_decision_is_read_from_a_message_of_the_kernel():
    attributes = (
        tracing._string(tracing._TABLE, "filter")
        + tracing._string(tracing._CHAIN, "INPUT")
        + tracing._attribute(tracing._HANDLE, (7).to_bytes(8, "big"))
        + tracing._word(tracing._TYPE, 3)
        + tracing._nested(tracing._VERDICT, tracing._word(1, 0))
        + tracing._word(tracing._ID, 42)
        + tracing._attribute(tracing._NETWORK, b"net")
        + tracing._attribute(tracing._TRANSPORT, b"transport")
    )
    body = struct.pack("!BBH", 2, 0, 0) + attributes
    message = tracing._header(tracing._SUBSYSTEM | tracing._TRACE, 0, body)
    (found,) = tracing.decisions(message, "r", 1)
    assert (found.table, found.chain, found.handle) == ("ip filter", "INPUT", 7)
    assert (found.verdict, found.packet, found.header) == ("drop", 42, b"nettransport")


@given(st.binary(max_size=120))
def test_no_message_is_too_odd(data):
    list(tracing.decisions(data, "r", 1))
