"""Output of programs and of containers as pure byte streams."""

import json
import struct
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from lab.runtime.contract import Lines, parse
from lab.runtime.output import Demultiplexer


def cut(data, places):
    edges = sorted({min(place, len(data)) for place in places} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(edges)]


@given(st.binary(), st.lists(st.integers(0, 200)))
def test_any_bytes_in_any_pieces_give_the_same_events_and_no_error(noise, places):
    data = b'{"event":"a"}\n' + noise + b'\n{"event":"b","x":[1,null]}\n'
    lines = Lines()
    events = [e for piece in cut(data, places) for e in lines.feed(piece)]
    assert events == [e for line in data.split(b"\n") if (e := parse(line)) is not None]
    assert events[0] == {"event": "a"}
    assert events[-1] == {"event": "b", "x": [1, None]}


@given(st.dictionaries(st.text(), st.text()))
def test_an_event_survives(more):
    event = {**more, "event": "x"}
    assert parse(json.dumps(event).encode()) == event


def test_what_is_not_an_event():
    for line in (b"", b"text", b"[1]", b'"event"', b'{"event": 1}', b'{"event"', b"\xff\xfe"):
        assert parse(line) is None
    assert parse(b'{"event":' + b"[" * 100_000) is None


def test_an_endless_line_is_passed_over_and_not_kept():
    lines = Lines()
    assert list(lines.feed(b'{"event":"a')) == []
    for _ in range(40):
        assert list(lines.feed(b"x" * 65536)) == []
    assert len(lines.partial) <= 1 << 20
    assert list(lines.feed(b'"}\n{"event":"b"}\n')) == [{"event": "b"}]


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary())), st.lists(st.integers(0, 200)))
def test_the_streams_of_a_container_are_told_apart(pieces, places):
    data = b"".join(struct.pack(">BxxxL", stream, len(text)) + text for stream, text in pieces)
    streams = {1: b"", 2: b""}
    demultiplexer = Demultiplexer()
    for part in cut(data, places):
        for stream, text in demultiplexer.feed(part):
            streams[stream] += text
    for stream, text in streams.items():
        assert text == b"".join(t for s, t in pieces if s == stream)
