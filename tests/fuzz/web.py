"""What comes by HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, cast

from lab.peer.rendezvous.polling import PolledStream, understood
from lab.peer.rendezvous.web import Asked, Streams
from lab.peer.web import websocket
from lab.peer.web.connection import RefusedError
from lab.peer.web.fetch import split
from lab.peer.web.message import MAX_HEAD, HttpError, Parser, request, response
from lab.peer.web.message import Message as HttpMessage
from lab.peer.web.requests import Requests
from tests.fuzz.common import HERE, THERE, pieces, run


def http(data: bytes) -> None:
    """A stream gives the same messages however it comes, none longer than it may be.

    What was read can be written, and is the same when read.
    """
    for requests in (True, False):
        found = [
            _messages(Parser(requests=requests, max_body=_LONGEST), feed, _LONGEST)
            for feed in ([data[1:]], list(pieces(data)))
        ]
        assert found[0] == found[1]
        for one in found[0]:
            if isinstance(one, HttpMessage):
                (again,) = _messages(Parser(requests=requests), [_written(one)])
                assert _essence(again) == _essence(one)


_LONGEST = 1024
"""Bytes of a body: less than an input may have."""
_LENGTHS = ("content-length", "transfer-encoding")


def _written(message: HttpMessage) -> bytes:
    """`message` as it goes onto a stream, with a length of its own."""
    told = _told(message)
    if message.method:
        host = message.header("Host")
        return request(message.method, message.target, host, told, message.body)
    return response(message.status, message.reason, told, message.body)


def _essence(message: object) -> tuple[object, ...]:
    """What a message says, however its length is told."""
    assert isinstance(message, HttpMessage)
    what = (message.method, message.target, message.header("Host"), message.status)
    return (*what, message.reason, *_told(message), message.body)


def _told(message: HttpMessage) -> list[tuple[str, str]]:
    """Headers but those of the length, and of a request the host, which is always written."""
    ours = (*_LENGTHS, "host") if message.method else _LENGTHS
    return [(name, value) for name, value in message.headers if name.lower() not in ours]


def _messages(parser: Parser, feed: list[bytes], most: int = 2048) -> list[object]:
    found: list[object] = []
    try:
        for piece in [*(one for one in feed if one), b""]:
            parser.feed(piece)
            while (message := parser.next()) is not None:
                assert len(message.body) <= most
                found.append(message)
            assert len(parser._buffer) + len(parser._body) <= MAX_HEAD + most + 4
    except HttpError:
        found.append("refused")
    return found


def web_socket(data: bytes) -> None:
    """Frames are the same however they come, and come out as they went in."""
    for masked in (True, False):
        found: list[list[websocket.Frame | str]] = [[], []]
        for number, feed in enumerate(([data[1:]], pieces(data))):
            decoder = websocket.Decoder(masked=masked)
            try:
                for piece in feed:
                    found[number] += decoder.feed(piece)
            except websocket.FrameError:
                found[number] = ["refused"]
        assert found[0] == found[1]
        whole = [one for one in found[0] if isinstance(one, websocket.Frame)]
        assert sum(len(frame.payload) for frame in whole) <= len(data)
        mask = b"mask" if masked else b""
        written = (websocket.encode(frame.opcode, frame.payload, mask) for frame in whole)
        assert websocket.Decoder(masked=masked).feed(b"".join(written)) == whole


class _Line:
    """A connection, as far as the service for requests uses it."""

    def __init__(self) -> None:
        self.said = bytearray()
        self.over = False

    def write(self, data: bytes) -> None:
        self.said += data

    def close(self) -> None:
        self.over = True

    abort = close

    def is_closing(self) -> bool:
        return self.over

    def get_extra_info(self, name: str) -> Any:
        return tuple(HERE if name == "sockname" else THERE)


class _Service:
    """What becomes of streams that come by requests."""

    def __init__(self) -> None:
        self.streams: dict[int, Any] = {}
        self.heard_of: dict[int, bytes] = {}

    def admit(self, transport: Any) -> int:
        number = len(self.streams) + 1
        self.streams[number], self.heard_of[number] = transport, b""
        transport.write(b"welcome")
        return number

    def heard(self, number: int, data: bytes) -> None:
        self.heard_of[number] += data
        self.streams[number].write(data)

    def gone(self, number: int) -> None:
        self.streams[number].close()

    def enter(self, address: str) -> bool:
        return len(self.streams) < 8

    def leave(self, address: str) -> None:
        assert self.streams


STREAM = "0123456789abcdef" * 2


def polling(data: bytes) -> None:
    """Requests that carry a stream are answered in order with whole responses, or not at all.

    The first half of `data` comes after a stream has begun, the second on
    another connection of the same one.
    """
    run(_polled(data))


async def _polled(data: bytes) -> None:
    service = _Service()
    streams = Streams(service)
    lines = (_Line(), _Line())
    asked = [Asked(streams, cast("asyncio.Transport", line)) for line in lines]
    asked[0].received(request("POST", f"/rendezvous/{STREAM}/0", "a", (), b"frame"))
    half = len(data) // 2
    for connection, line, part in zip(asked, lines, (data[:half], data[half:]), strict=True):
        for piece in pieces(part):
            if not line.over:
                connection.received(piece)
        connection.lost()
    streams.tick(asyncio.get_running_loop().time() + 100.0)
    assert not streams.connections
    assert service.heard_of[1].startswith(b"frame")
    for line in lines:
        _messages(Parser(requests=False, max_body=1 << 20), [bytes(line.said)], most=1 << 20)
    assert all(stream.over for stream in service.streams.values())


def polled(data: bytes) -> None:
    """A client of such a stream reads what its server or a proxy answers, and then the end."""
    run(_asked(data))


async def _asked(data: bytes) -> None:
    answers = [one for one in _messages(Parser(requests=False), [data]) if one != "refused"]
    bodies = [one.body for one in answers if isinstance(one, HttpMessage)]
    stream = PolledStream(HERE, "", THERE)
    stream._requests = cast("Requests", _Answers(answers))
    try:
        await stream.open()
    except (OSError, HttpError, RefusedError):
        return
    stream.write(b"frame")
    heard = b""
    while said := await stream.read(4096):
        heard += said
    assert len(heard) <= sum(map(len, bodies))
    stream.close()


class _Answers:
    """In place of a server: answers in turn, then none."""

    def __init__(self, answers: list[object]) -> None:
        self._answers = answers

    async def ask(self, method: str, path: str, body: bytes = b"") -> object:
        if not self._answers:
            raise ConnectionResetError
        return self._answers.pop(0)

    def close(self) -> None:
        self._answers.clear()


def targets(data: bytes) -> None:
    """What a request is about, and where a URL leads, is understood or not."""
    text = data.decode("latin-1")
    for method in ("GET", "POST"):
        what = understood(HttpMessage(method=method, target=text))
        assert what is None or (len(what.stream) == 32 and 0 <= what.offset < 10**15)
    with contextlib.suppress(HttpError):
        server, path = split(text)
        assert server.port in range(1 << 16)
        assert path
