"""HTTP/1.1 messages: what we write is what h11 reads, and the other way round."""

from __future__ import annotations

import contextlib

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.peer.web.fetch import split
from lab.peer.web.message import HttpError, Parser, request, response

POST = request("POST", "/a?b", "host", (("X-Y", "z"),), b"body")


def parsed(data: bytes, *, requests: bool, pieces: int = 1):
    parser = Parser(requests=requests)
    for start in range(0, len(data), pieces):
        parser.feed(data[start : start + pieces])
        if message := parser.next():
            return message
    return parser.next()


def read(data: bytes, *, requests: bool, pieces: int = 1):
    """As `parsed`, None for what is no HTTP."""
    with contextlib.suppress(HttpError):
        return parsed(data, requests=requests, pieces=pieces)


def test_h11_reads_our_requests():
    conn = h11.Connection(h11.SERVER)
    conn.receive_data(POST)
    head = conn.next_event()
    assert (head.method, head.target) == (b"POST", b"/a?b")
    assert (b"x-y", b"z") in head.headers
    assert conn.next_event().data == b"body"
    assert isinstance(conn.next_event(), h11.EndOfMessage)


def test_we_read_the_chunks_of_h11():
    conn = h11.Connection(h11.SERVER)
    conn.receive_data(request("GET", "/", "host"))
    conn.next_event()
    data = conn.send(h11.Response(status_code=200, headers=[("Transfer-Encoding", "chunked")]))
    data += conn.send(h11.Data(data=b"one")) + conn.send(h11.Data(data=b"two"))
    data += conn.send(h11.EndOfMessage(headers=[("trailer", "x")]))
    message = parsed(data, requests=False)
    assert message.body == b"onetwo"
    assert parsed(data, requests=False, pieces=3) == message


def test_bytes_after_a_message_are_kept():
    parser = Parser(requests=False)
    parser.feed(b"HTTP/1.1 200 Connection established\r\n\r\nraw")
    message = parser.next(bodiless=True)
    assert (message.status, message.body) == (200, b"")
    assert parser.rest() == b"raw"


def test_a_response_may_end_with_the_connection():
    parser = Parser(requests=False)
    parser.feed(b"HTTP/1.1 200 OK\r\n\r\nsome")
    assert parser.next() is None
    parser.feed(b"")
    assert parser.next().body == b"some"


@pytest.mark.parametrize(
    "data",
    [
        b"GET /\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\na",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\n folded: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 20000,
    ],
)
def test_what_is_ambiguous_or_too_long_is_refused(data):
    with pytest.raises(HttpError):
        parsed(data, requests=True)


def test_nothing_is_smuggled_into_a_head():
    with pytest.raises(HttpError):
        response(200, "OK", (("X", "a\r\nY: b"),))


@pytest.mark.parametrize(
    "url", ["ftp://1.2.3.4/", "http:///x", "http://name/", "http://1.2.3.4:x/"]
)
def test_only_addresses_are_asked(url):
    with pytest.raises(HttpError):
        split(url)


@given(st.binary(max_size=400), st.booleans(), st.integers(1, 50))
def test_whatever_comes_is_the_same_message_or_none_however_it_is_cut(data, requests, pieces):
    assert read(data, requests=requests, pieces=pieces) == read(data, requests=requests)


@given(st.data())
def test_messages_with_damage_are_messages_or_none(data):
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    whole = data.draw(st.sampled_from([POST, chunked, response(200, "OK", (), b"body")]))
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = whole[:at] + data.draw(st.binary(max_size=3)) + whole[at + 1 :]
    for requests in (True, False):
        message = read(damaged, requests=requests)
        assert message == read(damaged, requests=requests, pieces=7)
        assert message is None or len(message.body) <= len(damaged)
