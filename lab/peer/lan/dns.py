"""DNS messages (RFC 1035), as far as mDNS (RFC 6762) and LLMNR (RFC 4795) need them."""

from __future__ import annotations

import struct
from dataclasses import dataclass

MAX_BYTES = 1400
MAX_RECORDS = 32
A, TXT = 1, 16
IN = 1
UNICAST = 0x8000
"""Of a question's class: "QU" (RFC 6762, section 5.4)."""
_RESPONSE, _AUTHORITATIVE = 0x8000, 0x0400
_HEADER = struct.Struct("!6H")
_POINTER = 0xC0
_MOST_JUMPS = 16


class MalformedError(ValueError):
    """Not a message of DNS."""


@dataclass(frozen=True, slots=True)
class Record:
    """An answer: `data` is the 4 bytes of an A record, or the texts of a TXT record."""

    name: str
    type: int
    data: bytes
    ttl_s: int = 120


@dataclass(frozen=True, slots=True)
class Message:
    """A query (`questions`) or a response (`answers`)."""

    number: int = 0
    response: bool = False
    questions: tuple[tuple[str, int], ...] = ()
    answers: tuple[Record, ...] = ()


def encode(message: Message, *, authoritative: bool = True) -> bytes:
    """The message; names are not compressed."""
    flags = 0
    if message.response:
        flags = _RESPONSE | (_AUTHORITATIVE if authoritative else 0)
    counts = len(message.questions), len(message.answers), 0, 0
    data = _HEADER.pack(message.number, flags, *counts)
    for name, kind in message.questions:
        data += _name(name) + struct.pack("!HH", kind, IN)
    for record in message.answers:
        size = len(record.data)
        data += _name(record.name) + struct.pack("!HHIH", record.type, IN, record.ttl_s, size)
        data += record.data
    return data


def texts(*pairs: str) -> bytes:
    """The data of a TXT record: `key=value` pairs."""
    return b"".join(bytes([len(pair.encode())]) + pair.encode() for pair in pairs)


def pairs(data: bytes) -> dict[str, str]:
    """The `key=value` pairs of a TXT record; what is none is left out."""
    found = {}
    while data:
        size, data = data[0], data[1:]
        key, equals, value = data[:size].partition(b"=")
        data = data[size:]
        if equals and key.isascii() and value.isascii():
            found[key.decode()] = value.decode()
    return found


def parse(data: bytes) -> Message:
    """The message in `data`; MalformedError if it is none, or longer than is taken."""
    if not _HEADER.size <= len(data) <= MAX_BYTES:
        raise MalformedError("no such length")
    number, flags, asked, answered, _, _ = _HEADER.unpack_from(data)
    if asked + answered > MAX_RECORDS:
        raise MalformedError("too many records")
    at = _HEADER.size
    questions, answers = [], []
    try:
        for _ in range(asked):
            name, at = _read_name(data, at)
            kind, _class = struct.unpack_from("!HH", data, at)
            at += 4
            questions.append((name, kind))
        for _ in range(answered):
            name, at = _read_name(data, at)
            kind, _class, ttl_s, size = struct.unpack_from("!HHIH", data, at)
            at += 10
            if at + size > len(data):
                raise MalformedError("a record is cut short")
            answers.append(Record(name, kind, data[at : at + size], ttl_s))
            at += size
    except (struct.error, IndexError) as error:
        raise MalformedError("the message is cut short") from error
    return Message(number, bool(flags & _RESPONSE), tuple(questions), tuple(answers))


def _name(name: str) -> bytes:
    labels = [label.encode() for label in name.split(".") if label]
    if any(len(label) > 63 for label in labels):
        raise ValueError("a label is too long")
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def _read_name(data: bytes, at: int) -> tuple[str, int]:
    labels: list[str] = []
    end, jumps = -1, 0
    while data[at]:
        if data[at] & _POINTER == _POINTER:
            end = at + 2 if end < 0 else end
            at = (data[at] & ~_POINTER) << 8 | data[at + 1]
            jumps += 1
            if jumps > _MOST_JUMPS:
                raise MalformedError("a name that does not end")
            continue
        size = data[at]
        label = data[at + 1 : at + 1 + size]
        if size > 63 or len(label) < size or len(labels) > 32:
            raise MalformedError("not a name")
        labels.append(label.decode("ascii", "replace").lower())
        at += 1 + size
    return ".".join(labels), (at + 1 if end < 0 else end)
