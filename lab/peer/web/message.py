"""HTTP/1.1 messages (RFC 9112) as bytes, and back, without a socket.

What a peer and its relay need and no more: bodies have a Content-Length or
are chunked (or end with the connection, in a response), heads are small.
Whatever is ambiguous is malformed: there is no guessing where a message ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

MAX_HEAD = 16 * 1024
MAX_BODY = 1024 * 1024

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_TARGET = re.compile(r"[\x21-\x7e]+\Z")
_STATUS = re.compile(r"HTTP/1\.[01] ([1-5][0-9][0-9])(?: ([^\x00-\x08\x0a-\x1f\x7f]*))?\Z")
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*\Z")
_NUMBER = re.compile(r"[0-9]{1,9}\Z")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,7})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?\Z")
_HEAD_END = b"\r\n\r\n"
_NO_BODY = frozenset({204, 304})

Headers = tuple[tuple[str, str], ...]


class HttpError(ValueError):
    """Not HTTP/1.1, or more of it than is taken."""


@dataclass(frozen=True, slots=True)
class Message:
    """A request (`method`, `target`) or a response (`status`, `reason`)."""

    headers: Headers = ()
    body: bytes = b""
    method: str = ""
    target: str = ""
    status: int = 0
    reason: str = ""

    def header(self, name: str) -> str:
        """The value of a header, values of repeated ones joined by commas; "" if absent."""
        return ", ".join(value for key, value in self.headers if key.lower() == name.lower())

    def says(self, name: str, word: str) -> bool:
        """Whether a header that is a list of words has `word`."""
        return word in (part.strip().lower() for part in self.header(name).split(","))


def request(
    method: str, target: str, host: str, headers: Iterable[tuple[str, str]] = (), body: bytes = b""
) -> bytes:
    """A request; `target` in whatever form the receiver wants (RFC 9112, section 3.2)."""
    lengthy = [("Content-Length", str(len(body)))] if body or method == "POST" else []
    return _message(f"{method} {target} HTTP/1.1", [("Host", host), *headers, *lengthy], body)


def response(
    status: int, reason: str, headers: Iterable[tuple[str, str]] = (), body: bytes = b""
) -> bytes:
    """A response; with a Content-Length unless its status forbids one."""
    bodiless = status < 200 or status in _NO_BODY
    lengthy = [] if bodiless else [("Content-Length", str(len(body)))]
    return _message(f"HTTP/1.1 {status} {reason}", [*headers, *lengthy], body)


def _message(start: str, headers: Iterable[tuple[str, str]], body: bytes) -> bytes:
    lines = [start, *(f"{name}: {value}" for name, value in headers)]
    if any("\r" in line or "\n" in line for line in lines):
        raise HttpError("a line break within a line")
    return "\r\n".join(lines).encode("latin-1") + _HEAD_END + body


class Parser:
    """Takes the bytes of one direction of a connection, gives messages.

    `requests` says which of the two kinds.  After a message that hands the
    connection over (101, or 2xx to CONNECT), the caller stops asking for
    messages and takes `rest`.
    """

    def __init__(self, *, requests: bool, max_body: int = MAX_BODY) -> None:
        self._requests = requests
        self._max_body = max_body
        self._buffer = bytearray()
        self._ended = False
        self._head: Message | None = None
        """Of the message that is coming; nothing is read twice, however it is cut up."""
        self._coding = self._length = ""
        self._searched = 0
        self._body = bytearray()
        """Chunks that have come."""
        self._last = False
        """Whether the last chunk has, so that trailers follow."""

    def feed(self, data: bytes) -> None:
        """Bytes that came; b"" is the end of the connection."""
        self._buffer += data
        self._ended = self._ended or not data

    def rest(self) -> bytes:
        """Take what is not part of a message that was given."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def next(self, *, bodiless: bool = False) -> Message | None:
        """The next whole message, None if there is none yet.

        `bodiless`: it answers a CONNECT, so that what follows a 2xx is no body.
        Raises HttpError if none can come.
        """
        if self._head is None and not self._read_head():
            return None
        head = self._head
        assert head  # noqa: S101 - it was just read
        body = self._read_body(head, bodiless=bodiless)
        if body is None:
            if self._ended:
                raise HttpError("the connection ended within a message")
            return None
        self._head, self._last = None, False
        return Message(head.headers, body, head.method, head.target, head.status, head.reason)

    def _read_head(self) -> bool:
        """Take the head out of the buffer; whether it is all there."""
        end = self._buffer.find(_HEAD_END, self._searched)
        if end > MAX_HEAD or (end < 0 and len(self._buffer) > MAX_HEAD):
            raise HttpError("the head of a message is too long")
        if end < 0:
            self._searched = max(0, len(self._buffer) - len(_HEAD_END) + 1)
            if self._ended and self._buffer:
                raise HttpError("the connection ended within a message")
            return False
        self._head = _head(self._take(end).decode("latin-1"), requests=self._requests)
        self._take(len(_HEAD_END))
        self._coding = self._head.header("Transfer-Encoding")
        self._length = self._head.header("Content-Length")
        return True

    def _take(self, size: int) -> bytes:
        """The next `size` bytes of the buffer, or all if there are fewer."""
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._searched = 0
        return data

    def _read_body(self, head: Message, *, bodiless: bool) -> bytes | None:
        """The body (RFC 9112, section 6.3); None if it is not all there."""
        if head.status and (head.status < 200 or head.status in _NO_BODY):
            return b""
        if bodiless and 200 <= head.status < 300:
            return b""
        coding, length = self._coding, self._length
        if coding:
            if coding.strip().lower() != "chunked" or length:
                raise HttpError("no such transfer coding, or two lengths")
            return self._read_chunks()
        if length:
            if not _NUMBER.match(length):
                raise HttpError("Content-Length is no number")
            size = int(length)
            self._bound(size)
            return self._take(size) if len(self._buffer) >= size else None
        if self._requests:
            return b""
        self._bound(len(self._buffer))
        return self._take(len(self._buffer)) if self._ended else None

    def _read_chunks(self) -> bytes | None:
        while not self._last:
            end = self._buffer.find(b"\r\n", self._searched)
            if end > MAX_HEAD or (end < 0 and len(self._buffer) > MAX_HEAD):
                raise HttpError("a chunk's size is too long")
            if end < 0:
                self._searched = max(0, len(self._buffer) - 1)
                return None
            self._searched = end
            size_line = _CHUNK.match(self._buffer[:end])
            if not size_line:
                raise HttpError("a chunk's size is no number")
            size, at = int(size_line[1], 16), end + 2
            if size == 0:
                self._take(at)
                self._last = True
                break
            self._bound(len(self._body) + size)
            if len(self._buffer) < at + size + 2:
                return None
            if self._buffer[at + size : at + size + 2] != b"\r\n":
                raise HttpError("a chunk does not end where it says")
            self._take(at)
            self._body += self._take(size)
            self._take(2)
        return self._read_trailers()

    def _read_trailers(self) -> bytes | None:
        if self._buffer[:2] == b"\r\n":
            end = 2
        else:
            end = self._buffer.find(_HEAD_END, self._searched) + len(_HEAD_END)
            if end > MAX_HEAD or (end < len(_HEAD_END) and len(self._buffer) > MAX_HEAD):
                raise HttpError("trailers are too long")
            if end < len(_HEAD_END):
                self._searched = max(0, len(self._buffer) - len(_HEAD_END) + 1)
                return None
        self._take(end)
        body = bytes(self._body)
        self._body.clear()
        return body

    def _bound(self, size: int) -> None:
        if size > self._max_body:
            raise HttpError("the body of a message is too long")


def _head(text: str, *, requests: bool) -> Message:
    start, *lines = text.split("\r\n")
    headers = tuple(_header(line) for line in lines)
    for name in ("content-length", "transfer-encoding", "host"):
        if sum(key.lower() == name for key, _ in headers) > 1:
            raise HttpError(f"{name} twice")
    if requests:
        words = start.split(" ")
        if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0"):
            raise HttpError("not a request of HTTP/1.1")
        if not _TOKEN.match(words[0]) or not _TARGET.match(words[1]):
            raise HttpError("not a request of HTTP/1.1")
        return Message(headers, method=words[0], target=words[1])
    found = _STATUS.match(start)
    if not found:
        raise HttpError("not a response of HTTP/1.1")
    return Message(headers, status=int(found[1]), reason=found[2] or "")


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    value = value.strip(" \t")
    if not colon or not _TOKEN.match(name) or not _VALUE.match(value):
        raise HttpError("not a header")
    return name, value
