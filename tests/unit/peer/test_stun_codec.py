"""STUN on the wire: the vectors of RFC 5769, and anything that is not STUN."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.peer.endpoint import Endpoint
from lab.peer.stun import codec
from lab.peer.stun.codec import Class, MalformedError, Message, Method, encode, parse
from lab.peer.stun.framing import Splitter, frame

KEY = b"VOkJxbRl1RmTxUk/WvJxBt"
REQUEST = bytes.fromhex(
    "000100582112a442b7e7a701bc34d686fa87dfae"
    "802200105354554e207465737420636c69656e74"
    "002400046e0001ff80290008932ff9b151263b36"
    "000600096576746a3a68367659202020"
    "000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2"
    "80280004e57a3bcf"
)
RESPONSE = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae"
    "8022000b7465737420766563746f7220"
    "002000080001a147e112a643"
    "000800142b91f599fd9e90c38c7489f92af9ba53f06be7d7"
    "80280004c07d4c96"
)
RESPONSE6 = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae"
    "8022000b7465737420766563746f7220"
    "002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9"
    "00080014a382954e4be67bf11784c97c8292c275bfe3ed41"
    "80280004c8fb0b4c"
)


def test_request_of_rfc_5769():
    message = parse(REQUEST)
    assert message.method == Method.BINDING
    assert message.kind is Class.REQUEST
    assert message.attributes["USERNAME"] == "evtj:h6vY"
    assert message.authentic(KEY)
    assert not message.authentic(b"another key")
    assert message.unknown == ()


def test_response_of_rfc_5769():
    message = parse(RESPONSE)
    assert message.endpoint("XOR-MAPPED-ADDRESS") == Endpoint("192.0.2.1", 32853)
    assert message.authentic(KEY)


def test_response_over_ipv6_of_rfc_5769():
    message = parse(RESPONSE6)
    seen = message.endpoint("XOR-MAPPED-ADDRESS")
    assert seen == Endpoint("2001:db8:1234:5678:11:2233:4455:6677", 32853)
    assert message.authentic(KEY)


@pytest.mark.parametrize("position", range(20, len(REQUEST), 7))
def test_damage_is_noticed(position):
    damaged = bytearray(REQUEST)
    damaged[position] ^= 1
    try:
        message = parse(bytes(damaged))
    except MalformedError:
        return
    assert not message.authentic(KEY)


def test_a_message_without_cookie_is_of_rfc_3489():
    request = Message(Method.BINDING, Class.REQUEST, bytes(range(16)), {"CHANGE-REQUEST": 6})
    assert request.legacy
    again = parse(encode(request))
    assert again.transaction == bytes(range(16))
    assert again.attributes == {"CHANGE-REQUEST": 6}


def test_what_must_be_understood_and_is_not():
    request = Message(Method.BINDING, Class.REQUEST, bytes(12))
    body = struct.pack("!HH", 0x7777, 1) + b"x\0\0\0" + struct.pack("!HH", 0x8FFF, 0)
    data = encode(request)
    data = data[:2] + struct.pack("!H", len(body)) + data[4:] + body
    assert parse(data).unknown == (0x7777,)


def test_what_follows_the_signature_is_ignored():
    signed = encode(Message(Method.BINDING, Class.REQUEST, bytes(12)), key=KEY)
    late = signed + struct.pack("!HH", 6, 4) + b"evil"
    late = late[:2] + struct.pack("!H", len(late) - 20) + late[4:]
    message = parse(late)
    assert message.authentic(KEY)
    assert "USERNAME" not in message.attributes


def test_the_first_of_two_equal_attributes_counts():
    body = b"".join(struct.pack("!HH", 6, 4) + name for name in (b"good", b"evil"))
    data = struct.pack("!HH", 1, len(body)) + codec.COOKIE + bytes(12) + body
    assert parse(data).attributes == {"USERNAME": "good"}


def test_an_error_has_a_class_and_a_number_and_the_bits_before_them_mean_nothing():
    def of(value: bytes) -> bytes:
        body = struct.pack("!HH", 9, len(value)) + value
        return struct.pack("!HH", 0x0111, len(body)) + codec.COOKIE + bytes(12) + body

    assert parse(of(b"\xff\xff\xfc\x01")).error == (401, "")
    for odd in (b"\0\0\x04\x64", b"\0\0\x04", b"\0\0\x04\x01\xff\xff\xff\xff"):
        with pytest.raises(MalformedError):
            parse(of(odd))


ENDPOINTS = st.one_of(
    st.tuples(st.ip_addresses(v=4).map(str), st.integers(0, 65535)),
    st.tuples(st.ip_addresses(v=6).map(str), st.integers(0, 65535)),
).map(lambda pair: Endpoint(*pair))


@given(ENDPOINTS, st.binary(max_size=40), st.binary(min_size=12, max_size=12))
def test_what_is_written_is_read(endpoint, data, transaction):
    attributes = {
        "XOR-MAPPED-ADDRESS": endpoint,
        "OTHER-ADDRESS": endpoint,
        "DATA": data,
        "UNKNOWN-ATTRIBUTES": (1, 2, 3),
        "RESPONSE-PORT": 9,
        "EVEN-PORT": 1,
    }
    message = Message(Method.DATA, Class.INDICATION, transaction, attributes)
    again = parse(encode(message, key=b"key", fingerprint=True))
    assert again.authentic(b"key")
    assert {name: again.attributes[name] for name in attributes} == attributes


@given(st.binary(max_size=200))
def test_anything_is_a_message_or_malformed(data):
    with contextlib.suppress(MalformedError):
        parse(data)


@given(
    st.lists(
        st.tuples(
            st.one_of(st.sampled_from(sorted(codec._BY_NUMBER)), st.integers(0, 0xFFFF)),
            st.binary(max_size=24),
            st.one_of(st.none(), st.integers(0, 0xFFFF)),
        ),
        max_size=6,
    ),
    st.integers(0, 0x3FFF),
    st.booleans(),
)
def test_any_attributes_make_a_message_or_a_malformed_one(attributes, kind, legacy):
    body = b""
    for number, value, lie in attributes:
        body += struct.pack("!HH", number, len(value) if lie is None else lie)
        body += value + bytes(-len(value) % 4)
    cookie = b"\0\0\0\0" if legacy else codec.COOKIE
    data = struct.pack("!HH", kind, len(body)) + cookie + bytes(12) + body
    try:
        message = parse(data)
    except MalformedError:
        return
    message.authentic(KEY)


@given(st.lists(st.sampled_from([REQUEST, RESPONSE, b"\x40\x01\x00\x03abc"])), st.data())
def test_a_stream_is_cut_where_it_was_joined(messages, data):
    stream = b"".join(map(frame, messages))
    splitter, found = Splitter(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += splitter.feed(stream[:size])
        stream = stream[size:]
    assert found == messages


@given(st.lists(st.binary(max_size=100), max_size=5))
def test_any_stream_is_cut_or_malformed(pieces):
    splitter = Splitter(limit=500)
    try:
        for piece in pieces:
            for message in splitter.feed(piece):
                assert len(message) <= 500
    except MalformedError:
        pass


@pytest.mark.parametrize("text", ["1.2.3.4:5", "[2001:db8::1]:65535"])
def test_an_endpoint_is_written_as_it_is_read(text):
    assert str(Endpoint.parse(text)) == text


@given(st.text(max_size=40))
def test_any_text_is_an_endpoint_that_is_written_the_same_or_a_value_error(text):
    with contextlib.suppress(ValueError):
        endpoint = Endpoint.parse(text)
        assert Endpoint.parse(str(endpoint)) == endpoint
