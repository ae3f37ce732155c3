"""What is written is read as it was, however it is cut; and no stream is kept that has no end."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.peer.relay.wire import channel_data, is_channel_data, parse_channel_data
from lab.peer.rendezvous import frames
from lab.peer.streams import MAX_PACKET, Packets
from lab.peer.stun import codec
from lab.peer.stun.codec import MAX_MESSAGE, Class, MalformedError, Message, Method, encode, parse
from lab.peer.stun.framing import Splitter
from lab.peer.stun.framing import frame as padded
from lab.peer.web import message as http
from lab.peer.web import websocket

few = settings(max_examples=25)
"""The corpus and the guided search see to more."""


def cut(stream: bytes, at: list[int]) -> Iterator[bytes]:
    """`stream` in pieces that end at some of its bytes."""
    ends = sorted({place % (len(stream) + 1) for place in at})
    for start, end in zip([0, *ends], [*ends, len(stream)], strict=True):
        if start < end:
            yield stream[start:end]


CUTS = st.lists(st.integers(0, 1 << 16), max_size=8)
NUMBER16, NUMBER32, NUMBER64 = (st.integers(0, (1 << bits) - 1) for bits in (16, 32, 64))
ADDRESS = st.tuples(st.ip_addresses().map(str), NUMBER16)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)

VALUES: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(
        ("MAPPED-ADDRESS", "SOURCE-ADDRESS", "CHANGED-ADDRESS", "RESPONSE-ORIGIN"), ADDRESS
    ),
    **dict.fromkeys(("OTHER-ADDRESS", "XOR-MAPPED-ADDRESS", "XOR-PEER-ADDRESS"), ADDRESS),
    "XOR-RELAYED-ADDRESS": ADDRESS,
    **dict.fromkeys(("USERNAME", "REALM", "SOFTWARE"), TEXT),
    **dict.fromkeys(("DATA", "NONCE", "PADDING"), st.binary(max_size=40)),
    **dict.fromkeys(("CHANGE-REQUEST", "LIFETIME", "REQUESTED-TRANSPORT", "PRIORITY"), NUMBER32),
    **dict.fromkeys(("ICE-CONTROLLED", "ICE-CONTROLLING"), NUMBER64),
    **dict.fromkeys(("CHANNEL-NUMBER", "RESPONSE-PORT"), NUMBER16),
    "ERROR-CODE": st.tuples(st.integers(0, 799), TEXT),
    "UNKNOWN-ATTRIBUTES": st.lists(NUMBER16, max_size=5).map(tuple),
    "REQUESTED-ADDRESS-FAMILY": st.integers(0, 255),
    "EVEN-PORT": st.integers(0, 1),
    "USE-CANDIDATE": st.none(),
}
MESSAGES = st.builds(
    Message,
    st.sampled_from(list(Method)),
    st.sampled_from(list(Class)),
    st.binary(min_size=12, max_size=12),
    st.fixed_dictionaries({}, optional=VALUES),
)


def test_no_attribute_of_stun_and_turn_is_left_out():
    assert {*VALUES, "MESSAGE-INTEGRITY", "FINGERPRINT"} == set(codec._BY_NAME)


@few
@given(MESSAGES, st.binary(min_size=1, max_size=20), st.booleans(), CUTS)
def test_messages_of_stun_and_turn(message, key, fingerprint, cuts):
    assert parse(encode(message)) == message
    written = encode(message, key=key, fingerprint=fingerprint)
    again = parse(written)
    assert again.authentic(key)
    assert not again.authentic(key + b"x")
    told = dict(again.attributes)
    assert len(told.pop("MESSAGE-INTEGRITY")) == 20
    assert ("FINGERPRINT" in told) is fingerprint
    told.pop("FINGERPRINT", None)
    assert (again.method, again.kind, told) == (message.method, message.kind, message.attributes)
    splitter = Splitter()
    assert [one for piece in cut(written, cuts) for one in splitter.feed(piece)] == [written]


@few
@given(st.lists(st.tuples(st.integers(0x4000, 0x7FFF), st.binary(max_size=300)), max_size=4), CUTS)
def test_channel_data_on_a_stream(sent, cuts):
    stream = b"".join(padded(channel_data(*one)) for one in sent)
    splitter = Splitter()
    found = [one for piece in cut(stream, cuts) for one in splitter.feed(piece)]
    assert all(is_channel_data(one) for one in found)
    assert [parse_channel_data(one) for one in found] == sent


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@few
@given(st.lists(st.dictionaries(TEXT, JSON, max_size=4), max_size=4), CUTS)
def test_frames_of_the_rendezvous_service(messages, cuts):
    written = [frames.encode(message) for message in messages]
    reader = frames.FrameReader()
    found = [one for piece in cut(b"".join(written), cuts) for one in reader.feed(piece)]
    assert found == list(zip(messages, map(len, written), strict=True))


TOKEN = st.text("!#$%&'*+.^_`|~-abcXYZ019", min_size=1, max_size=12)
NAME = TOKEN.map(lambda token: f"X-{token}")
VALUE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=20).map(
    lambda text: "".join(char for char in text if char != "\x7f").strip(" \t")
)
HEADERS = st.lists(st.tuples(NAME, VALUE), max_size=4).map(tuple)
TARGET = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=20)
STATUS = st.integers(200, 599).filter(lambda status: status not in {204, 304})


def messages_of(parser: http.Parser, stream: bytes, cuts: list[int]) -> list[http.Message]:
    found = []
    for piece in cut(stream, cuts):
        parser.feed(piece)
        while (message := parser.next()) is not None:
            found.append(message)
    return found


@few
@given(st.lists(st.tuples(TOKEN, TARGET, HEADERS, st.binary(max_size=99)), max_size=3), CUTS)
def test_requests(sent, cuts):
    stream = b"".join(
        http.request(method, target, "host:1", headers, body)
        for method, target, headers, body in sent
    )
    found = messages_of(http.Parser(requests=True), stream, cuts)
    assert [(one.method, one.target, one.body) for one in found] == [
        (method, target, body) for method, target, _, body in sent
    ]
    for one, (_, _, headers, _) in zip(found, sent, strict=True):
        assert one.header("Host") == "host:1"
        assert one.headers[1 : 1 + len(headers)] == headers


@few
@given(
    st.lists(st.tuples(STATUS, VALUE, HEADERS, st.lists(st.binary(min_size=1, max_size=40)))),
    st.booleans(),
    CUTS,
)
def test_responses_with_a_length_and_in_chunks(sent, chunked, cuts):
    stream = b""
    for status, reason, headers, parts in sent:
        if chunked:
            coding = ("Transfer-Encoding", "chunked")
            head = http._message(f"HTTP/1.1 {status} {reason}", (*headers, coding), b"")
            chunks = b"".join(b"%x;n=v\r\n%b\r\n" % (len(part), part) for part in parts)
            stream += head + chunks + b"0\r\nTrailer: x\r\n\r\n"
        else:
            stream += http.response(status, reason, headers, b"".join(parts))
    found = messages_of(http.Parser(requests=False), stream, cuts)
    assert [(one.status, one.reason, one.headers[:-1], one.body) for one in found] == [
        (status, reason, headers, b"".join(parts)) for status, reason, headers, parts in sent
    ]


def _http(reader: http.Parser, data: bytes) -> None:
    reader.feed(data)
    while reader.next() is not None:
        pass


def _kept(reader: Any) -> int:
    """Bytes that a reader holds."""
    held = [getattr(reader, name, b"") for name in ("_buffer", "_body")]
    return sum(map(len, held)) + sum(map(len, getattr(reader, "_parts", ())))


def _parser(*, requests: bool = True) -> http.Parser:
    return http.Parser(requests=requests, max_body=_BODY)


_BODY = 20_000
_CHUNKED = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
_LONG = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n"
_HTTP = http.MAX_HEAD + _BODY + 4
_PIECE = 1000


@pytest.mark.parametrize(
    ("reader", "begin", "more", "error", "most"),
    [
        pytest.param(_parser(), b"GET / HTTP/1.1\r\nX: ", b"x", http.HttpError, _HTTP, id="head"),
        pytest.param(_parser(), _CHUNKED, b"1", http.HttpError, _HTTP, id="size of a chunk"),
        pytest.param(_parser(), _CHUNKED, b"1\r\na\r\n", http.HttpError, _HTTP, id="chunks"),
        pytest.param(_parser(), _CHUNKED + b"0\r\n", b"x: y\r\n", http.HttpError, _HTTP,
                     id="trailers"),
        pytest.param(_parser(), _LONG % (_BODY + 1), b"x", http.HttpError, _HTTP, id="body"),
        pytest.param(_parser(requests=False), b"HTTP/1.1 200 OK\r\n\r\n", b"x", http.HttpError,
                     _HTTP, id="body without a length"),
        pytest.param(frames.FrameReader(), struct.pack("!I", frames.MAX_FRAME + 1), b"{",
                     frames.FrameError, frames.MAX_FRAME + 4, id="rendezvous"),
        pytest.param(Splitter(4096), b"\0\1\xff\xfc", b"x", MalformedError, 4096, id="STUN"),
        pytest.param(Splitter(4096), b"\x40\0\xff\xff", b"x", MalformedError, 4096, id="TURN"),
        pytest.param(Packets(), struct.pack("!H", MAX_PACKET + 1), b"x", ValueError,
                     MAX_PACKET + 2, id="packets"),
        pytest.param(websocket.Decoder(masked=False), b"\x02\0", b"\0\x10" + bytes(16),
                     websocket.FrameError, websocket.MAX_MESSAGE + 18, id="parts of a message"),
    ],
)  # fmt: skip
def test_what_has_no_end_is_refused_and_not_kept(
    reader: Any, begin: bytes, more: bytes, error: type[Exception], most: int
):
    feed: Callable[[bytes], object] = reader.feed
    if isinstance(reader, http.Parser):
        feed = partial(_http, reader)

    def come() -> None:
        feed(begin)
        for _ in range(MAX_MESSAGE * 20 // _PIECE):
            feed(more * (_PIECE // len(more)))
            assert _kept(reader) <= most

    with pytest.raises(error):
        come()
    assert _kept(reader) <= most + _PIECE
