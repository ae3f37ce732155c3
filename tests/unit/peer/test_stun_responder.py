"""What the STUN server answers."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.peer.endpoint import Endpoint
from lab.peer.stun.codec import Class, Message, Method, encode, parse, request
from lab.peer.stun.responder import Site, respond

SITE = Site("192.0.2.1", "192.0.2.2", 3478, 3479)
LONELY = Site("192.0.2.1", "", 3478, 3479)
HERE = Endpoint("192.0.2.1", 3478)
CLIENT = Endpoint("198.51.100.7", 40000)


def ask(attributes=None, site=SITE, local=HERE, **more):
    reply = respond(encode(request(Method.BINDING, attributes)), CLIENT, local, site, **more)
    return reply, parse(reply.payload)


@pytest.mark.parametrize(
    ("flags", "origin"),
    [
        (0, Endpoint("192.0.2.1", 3478)),
        (2, Endpoint("192.0.2.1", 3479)),
        (4, Endpoint("192.0.2.2", 3478)),
        (6, Endpoint("192.0.2.2", 3479)),
    ],
)
def test_change_request(flags, origin):
    reply, message = ask({"CHANGE-REQUEST": flags})
    assert reply.origin == origin
    assert reply.destination == CLIENT
    assert message.endpoint("RESPONSE-ORIGIN") == origin
    assert message.endpoint("OTHER-ADDRESS") == Endpoint("192.0.2.2", 3479)
    assert message.endpoint("XOR-MAPPED-ADDRESS") == CLIENT
    assert message.endpoint("MAPPED-ADDRESS") == CLIENT


def test_the_other_address_is_seen_from_where_it_was_asked():
    _, message = ask(local=Endpoint("192.0.2.2", 3478))
    assert message.endpoint("OTHER-ADDRESS") == Endpoint("192.0.2.1", 3479)


def test_a_client_of_rfc_3489():
    asked = Message(Method.BINDING, Class.REQUEST, bytes(range(16)), {"CHANGE-REQUEST": 6})
    reply = respond(encode(asked), CLIENT, HERE, SITE)
    message = parse(reply.payload)
    assert message.transaction == asked.transaction
    assert message.attributes == {
        "MAPPED-ADDRESS": CLIENT,
        "SOURCE-ADDRESS": Endpoint("192.0.2.2", 3479),
        "CHANGED-ADDRESS": Endpoint("192.0.2.2", 3479),
    }


def test_one_address_knows_nothing_of_rfc_5780():
    _, message = ask({"CHANGE-REQUEST": 2}, site=LONELY)
    assert message.error == (420, "Unknown Attribute")
    assert message.attributes["UNKNOWN-ATTRIBUTES"] == (3,)
    _, message = ask(site=LONELY)
    assert "OTHER-ADDRESS" not in message.attributes


def test_a_stream_answers_from_nowhere_else():
    _, message = ask({"CHANGE-REQUEST": 2}, stream=True)
    assert message.error[0] == 420
    _, message = ask(stream=True)
    assert message.endpoint("XOR-MAPPED-ADDRESS") == CLIENT


def test_response_port():
    reply, _ = ask({"RESPONSE-PORT": 555})
    assert reply.destination == Endpoint(CLIENT.address, 555)


def test_padding_amplifies_nothing():
    padded = encode(request(Method.BINDING, {"PADDING": bytes(1200)}))
    reply = respond(padded, CLIENT, HERE, SITE)
    assert len(parse(reply.payload).attributes["PADDING"]) == 1200
    _, message = ask({"PADDING": bytes(1200), "RESPONSE-PORT": 555})
    assert message.error[0] == 400


def test_silence_for_what_is_no_request():
    for message in (
        Message(Method.BINDING, Class.RESPONSE, bytes(12)),
        Message(Method.BINDING, Class.INDICATION, bytes(12)),
        Message(Method.ALLOCATE, Class.REQUEST, bytes(12)),
    ):
        assert respond(encode(message), CLIENT, HERE, SITE) is None


@given(st.binary(max_size=120), st.booleans(), st.booleans())
def test_anything_is_answered_or_not(data, framed, stream):
    if framed:
        body = data[: len(data) // 4 * 4]
        data = struct.pack("!HH", 1, len(body)) + b"\x21\x12\xa4\x42" + bytes(12) + body
    reply = respond(data, CLIENT, HERE, SITE, stream=stream)
    if reply:
        assert reply.origin in SITE.endpoints
