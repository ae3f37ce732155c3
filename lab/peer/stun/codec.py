"""STUN messages to bytes and back (RFC 8489, section 5).

Each attribute's value is packed and unpacked by aioice, which is well kept
and speaks to real servers every day; the frame around them is read here,
strictly, because a server must survive what it is sent and must know what it
did not understand.  On the wire::

     0                   1                   2                   3
    |0 0| type (14 bits)            | length of what follows 20    |
    | magic cookie 0x2112A442 (RFC 3489: first part of the id)     |
    | transaction id, 96 bits (RFC 3489: 128 with the above)       |
    | attribute type                | attribute length             |
    | value, padded with zeros to a multiple of 4                  | ...
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from aioice import stun as aio

from lab.peer.endpoint import Endpoint

Class = aio.Class
Method = aio.Method

COOKIE = struct.pack("!I", aio.COOKIE)
HEADER = 20
MAX_MESSAGE = 65_000
"""Nothing larger fits a datagram."""


class MalformedError(ValueError):
    """The bytes are not a STUN message."""


class _Attribute(NamedTuple):
    number: int
    name: str
    pack: Callable[..., bytes]
    unpack: Callable[..., Any]


def _unpack_numbers(data: bytes) -> tuple[int, ...]:
    return tuple(struct.unpack(f"!{len(data) // 2}H", data[: len(data) // 2 * 2]))


def _unpack_error(data: bytes) -> tuple[int, str]:
    """Class and number (section 14.8); the bits before them mean nothing."""
    if data[3] > 99:
        raise ValueError("a number from 0 to 99 is what there is")
    return (data[2] & 7) * 100 + data[3], data[4:].decode()


def _table() -> Iterator[_Attribute]:
    yield from (_Attribute(*entry) for entry in aio.ATTRIBUTES)
    yield _Attribute(0x0009, "ERROR-CODE", aio.pack_error_code, _unpack_error)
    # What a server of RFC 5780 and RFC 8656 needs beside the attributes of an ICE agent.
    yield _Attribute(
        0x000A, "UNKNOWN-ATTRIBUTES", lambda v: struct.pack(f"!{len(v)}H", *v), _unpack_numbers
    )
    yield _Attribute(
        0x0017,
        "REQUESTED-ADDRESS-FAMILY",
        lambda v: bytes((v, 0, 0, 0)),
        lambda d: struct.unpack("!B3x", d)[0],
    )
    yield _Attribute(0x0018, "EVEN-PORT", lambda v: bytes((v << 7,)), lambda d: d[0] >> 7)
    yield _Attribute(0x0026, "PADDING", aio.pack_bytes, aio.unpack_bytes)
    yield _Attribute(
        0x0027,
        "RESPONSE-PORT",
        aio.pack_unsigned_short,
        lambda d: struct.unpack("!H", d[:2])[0],
    )


_BY_NUMBER: Mapping[int, _Attribute] = MappingProxyType({a.number: a for a in _table()})
_BY_NAME: Mapping[str, _Attribute] = MappingProxyType({a.name: a for a in _table()})
_XOR = frozenset(("XOR-MAPPED-ADDRESS", "XOR-PEER-ADDRESS", "XOR-RELAYED-ADDRESS"))
_OPTIONAL = 0x8000
"""Attributes from here on may be ignored by who does not know them (section 14)."""


@dataclass(frozen=True, slots=True)
class Message:
    """A STUN message; `attributes` by name, in order, decoded."""

    method: int
    kind: Class
    transaction: bytes
    """12 bytes; 16 for a message of RFC 3489, which has no magic cookie."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    unknown: tuple[int, ...] = ()
    """Numbers of attributes that must be, and were not, understood."""
    signed: bytes = b""
    """What MESSAGE-INTEGRITY covers, of a message that came with one."""

    @property
    def legacy(self) -> bool:
        """Whether it speaks RFC 3489."""
        return len(self.transaction) == 16

    def endpoint(self, name: str) -> Endpoint | None:
        """The attribute of that name as an endpoint; None if it is absent."""
        value = self.attributes.get(name)
        return Endpoint(*value) if value is not None else None

    @property
    def error(self) -> tuple[int, str] | None:
        """ERROR-CODE: number and reason."""
        value = self.attributes.get("ERROR-CODE")
        return (value[0], value[1]) if value is not None else None

    def authentic(self, key: bytes) -> bool:
        """Whether MESSAGE-INTEGRITY was made with `key`; False without one."""
        if not self.signed:
            return False
        expected = aio.message_integrity(self.signed, key)
        return hmac.compare_digest(self.attributes["MESSAGE-INTEGRITY"], expected)


def new_transaction() -> bytes:
    """A transaction id that nobody off the path can guess (section 5)."""
    return secrets.token_bytes(12)


def request(method: Method, attributes: Mapping[str, Any] | None = None) -> Message:
    """A request with a fresh transaction id."""
    return Message(method, Class.REQUEST, new_transaction(), dict(attributes or {}))


def long_term_key(user: str, realm: str, password: str) -> bytes:
    """The key of a long-term credential (section 9.2.2): MD5, because the RFC says so."""
    text = f"{user}:{realm}:{password}".encode()
    return hashlib.md5(text, usedforsecurity=False).digest()


def encode(message: Message, *, key: bytes = b"", fingerprint: bool = False) -> bytes:
    """`message` as bytes; signed if a `key` is given, then sealed by FINGERPRINT if asked."""
    body = b""
    for name, value in message.attributes.items():
        attribute = _BY_NAME[name]
        if name in _XOR:
            packed = attribute.pack(value, message.transaction)
        else:
            packed = attribute.pack(value)
        body += _tlv(attribute.number, packed)
    start = b"" if message.legacy else COOKIE
    head = struct.pack("!HH", message.method | message.kind, len(body))
    data = head + start + message.transaction + body
    if key:
        data = _append(data, _BY_NAME["MESSAGE-INTEGRITY"].number, aio.message_integrity(data, key))
    if fingerprint:
        packed = struct.pack("!I", aio.message_fingerprint(data))
        data = _append(data, _BY_NAME["FINGERPRINT"].number, packed)
    return data


def _tlv(number: int, value: bytes) -> bytes:
    return struct.pack("!HH", number, len(value)) + value + bytes(-len(value) % 4)


def _append(data: bytes, number: int, value: bytes) -> bytes:
    data += _tlv(number, value)
    return aio.set_body_length(data, len(data) - HEADER)


def is_stun(data: bytes) -> bool:
    """Whether the first bytes look like STUN, for a socket that carries more than that."""
    return len(data) >= HEADER and data[0] < 0x40


def parse(data: bytes) -> Message:
    """The message in `data`; MalformedError for anything else.

    An attribute that appears twice counts once (section 14); what follows
    MESSAGE-INTEGRITY is ignored, except FINGERPRINT (section 14.5).
    """
    if not is_stun(data) or len(data) > MAX_MESSAGE:
        raise MalformedError("no STUN header")
    kind, length = struct.unpack_from("!HH", data)
    if length % 4 or HEADER + length != len(data):
        raise MalformedError("the length field is not the message's length")
    legacy = data[4:8] != COOKIE
    attributes: dict[str, Any] = {}
    unknown: list[int] = []
    signed = b""
    for position, number, value in _walk(data):
        known = _BY_NUMBER.get(number)
        name = known.name if known else ""
        if signed and name != "FINGERPRINT":
            continue
        if known is None or (legacy and name in _XOR):
            if number < _OPTIONAL:
                unknown.append(number)
            continue
        if name in attributes:
            continue
        attributes[name] = _decode(known, value, data[8:20])
        if name == "MESSAGE-INTEGRITY":
            signed = data[:position]
        elif name == "FINGERPRINT":
            if attributes[name] != aio.message_fingerprint(data[:position]):
                raise MalformedError("the fingerprint is wrong")
            break
    transaction = data[4:20] if legacy else data[8:20]
    return Message(
        kind & 0x3EEF, Class(kind & 0x0110), transaction, attributes, tuple(unknown), signed
    )


def _walk(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Position, number and value of each attribute."""
    position = HEADER
    while position < len(data):
        number, length = struct.unpack_from("!HH", data, position)
        end = position + 4 + length
        if end > len(data):
            raise MalformedError("an attribute runs past the end")
        yield position, number, data[position + 4 : end]
        position = end + -length % 4


def _decode(attribute: _Attribute, value: bytes, transaction: bytes) -> Any:
    try:
        if attribute.name in _XOR:
            return attribute.unpack(value, transaction_id=transaction)
        return attribute.unpack(value)
    except (ValueError, IndexError, struct.error) as error:
        raise MalformedError(f"{attribute.name}: {error}") from error
