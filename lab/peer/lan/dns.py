"""DNS messages (RFC 1035), as far as mDNS (RFC 6762) and LLMNR (RFC 4795) need them."""

from __future__ import annotations

import struct
from dataclasses import dataclass

MAX_BYTES = 1400
MAX_RECORDS = 32
A, PTR, TXT, AAAA, SRV, NSEC, ANY = 1, 12, 16, 28, 33, 47, 255
IN = 1
UNIQUE = 0x8000
"""Of a record's class: whoever holds an older one forgets it (RFC 6762, section 10.2)."""
_ASKS_ALONE = 0x8000
"""Of a question's class: the answer need be told to nobody else (RFC 6762, section 5.4)."""
_RESPONSE, _AUTHORITATIVE = 0x8000, 0x0400
_CONFLICT, _TENTATIVE = 0x0400, 0x0100
"""What the bits of LLMNR say (RFC 4795, section 2.1.1); DNS has another word for the first."""
_HEADER = struct.Struct("!6H")
_POINTER = 0xC0
_MOST_JUMPS = 16


class MalformedError(ValueError):
    """Not a message of DNS."""


@dataclass(frozen=True, slots=True)
class Record:
    """An answer: `data` is the 4 bytes of an A record, the texts of a TXT record, and so on.

    Names in the data of PTR, SRV and NSEC records are not compressed.
    """

    name: str
    type: int
    data: bytes
    ttl_s: int = 120
    unique: bool = False
    """Whether nobody else may have one of this name and type."""

    @property
    def goodbye(self) -> bool:
        """Whether it says that it holds no more (RFC 6762, section 10.1)."""
        return self.ttl_s == 0


@dataclass(frozen=True, slots=True)
class Message:
    """A query (`questions`) or a response (`answers`)."""

    number: int = 0
    response: bool = False
    questions: tuple[tuple[str, int], ...] = ()
    answers: tuple[Record, ...] = ()
    claims: tuple[Record, ...] = ()
    """What the sender of a probe would have (RFC 6762, section 8.2): the authority section."""
    more: tuple[Record, ...] = ()
    """What whoever asked is likely to ask next: the additional section."""
    alone: bool = False
    """Whether the answers to all questions may be sent to who asks alone ("QU")."""
    conflict: bool = False
    """LLMNR: the sender of this query heard two answer."""
    tentative: bool = False
    """LLMNR: the sender of this response does not know yet whether the name is its own."""


def encode(message: Message, *, authoritative: bool = True) -> bytes:
    """The message; names are not compressed.  `authoritative` is of mDNS alone."""
    flags = 0
    if message.response:
        flags = _RESPONSE | (_AUTHORITATIVE if authoritative else 0)
    flags |= (_CONFLICT if message.conflict else 0) | (_TENTATIVE if message.tentative else 0)
    records = (*message.answers, *message.claims, *message.more)
    parts = (message.questions, message.answers, message.claims, message.more)
    data = _HEADER.pack(message.number, flags, *map(len, parts))
    for name, kind in message.questions:
        data += _name(name) + struct.pack("!HH", kind, IN | (_ASKS_ALONE if message.alone else 0))
    for record in records:
        kind = IN | UNIQUE if record.unique else IN
        data += _name(record.name)
        data += struct.pack("!HHIH", record.type, kind, record.ttl_s, len(record.data))
        data += record.data
    return data


def texts(*pairs: str) -> bytes:
    """The data of a TXT record: `key=value` pairs."""
    return b"".join(bytes([len(pair.encode())]) + pair.encode() for pair in pairs)


def pointer(name: str) -> bytes:
    """The data of a PTR record."""
    return _name(name)


def service(port: int, host: str) -> bytes:
    """The data of a SRV record: neither priority nor weight (RFC 2782)."""
    return struct.pack("!3H", 0, 0, port) + _name(host)


def kinds(name: str, *there: int) -> bytes:
    """The data of an NSEC record: that `name` has records of these types alone, all below 256."""
    bits = bytearray(max(there) // 8 + 1)
    for kind in there:
        bits[kind // 8] |= 0x80 >> kind % 8
    # One window of types, with the name itself as the next one (RFC 6762, section 6.1).
    return _name(name) + bytes([0, len(bits)]) + bytes(bits)


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
    number, flags, asked, answered, claimed, more = _HEADER.unpack_from(data)
    if asked + answered + claimed + more > MAX_RECORDS:
        raise MalformedError("too many records")
    at = _HEADER.size
    questions, records, alone = [], [], asked > 0
    try:
        for _ in range(asked):
            name, at = _read_name(data, at)
            kind, of = struct.unpack_from("!HH", data, at)
            at += 4
            alone = alone and bool(of & _ASKS_ALONE)
            questions.append((name, kind))
        for _ in range(answered + claimed + more):
            name, at = _read_name(data, at)
            kind, of, ttl_s, size = struct.unpack_from("!HHIH", data, at)
            at += 10
            if at + size > len(data):
                raise MalformedError("a record is cut short")
            said = _expanded(data, at, size, kind)
            records.append(Record(name, kind, said, ttl_s, bool(of & UNIQUE)))
            at += size
    except (struct.error, IndexError) as error:
        raise MalformedError("the message is cut short") from error
    return Message(
        number,
        bool(flags & _RESPONSE),
        tuple(questions),
        tuple(records[:answered]),
        tuple(records[answered : answered + claimed]),
        tuple(records[answered + claimed :]),
        alone=alone and not flags & _RESPONSE,
        conflict=bool(flags & _CONFLICT) and not flags & _RESPONSE,
        tentative=bool(flags & _TENTATIVE),
    )


def _name(name: str) -> bytes:
    labels = [label.encode() for label in name.split(".") if label]
    if any(len(label) > 63 for label in labels):
        raise ValueError("a label is too long")
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def _expanded(data: bytes, at: int, size: int, kind: int) -> bytes:
    """The data of a record with a name in it that needs no other part of the message."""
    if kind not in (PTR, SRV, NSEC):
        return data[at : at + size]
    before = 6 if kind == SRV else 0
    name, end = _read_name(data, at + before)
    if end > at + size:
        raise MalformedError("a record is cut short")
    try:
        return data[at : at + before] + _name(name) + data[end : at + size]
    except ValueError as error:
        raise MalformedError(str(error)) from error


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
