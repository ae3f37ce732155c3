"""WebSocket (RFC 6455) as bytes: the handshake and the frames, without a socket.

Messages are binary and in one frame; a fragmented one is taken and joined.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from dataclasses import dataclass
from enum import IntEnum

from lab.peer.web.message import Message

MAX_MESSAGE = 64 * 1024
KEY_BYTES = 16
VERSION = "13"
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_FIN, _MASKED = 0x80, 0x80


class FrameError(ValueError):
    """Not a frame of RFC 6455, or a longer message than is taken."""


class Opcode(IntEnum):
    """Section 5.2; there are no others."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


@dataclass(frozen=True, slots=True)
class Frame:
    """A whole message, or a control frame."""

    opcode: Opcode
    payload: bytes


def accept_key(key: str) -> str:
    """What a server answers to a client's key (section 4.2.2)."""
    digest = hashlib.sha1(f"{key}{_GUID}".encode()).digest()  # noqa: S324 - as the RFC has it
    return base64.b64encode(digest).decode()


def upgrade_headers(key: bytes) -> tuple[tuple[str, str], ...]:
    """A client's headers; `key` is 16 random bytes (section 4.1)."""
    return (
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", base64.b64encode(key).decode()),
        ("Sec-WebSocket-Version", VERSION),
    )


def accept_headers(message: Message) -> tuple[tuple[str, str], ...] | None:
    """A server's headers; None if the request is no handshake (section 4.2.1)."""
    key = message.header("Sec-WebSocket-Key")
    try:
        long_enough = len(base64.b64decode(key, validate=True)) == KEY_BYTES
    except ValueError:
        return None
    asked = message.says("Upgrade", "websocket") and message.says("Connection", "upgrade")
    if not asked or not long_enough or message.header("Sec-WebSocket-Version") != VERSION:
        return None
    return (
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", accept_key(key)),
    )


def accepted(message: Message, key: bytes) -> bool:
    """Whether a response accepts the handshake with `key`."""
    expected = accept_key(base64.b64encode(key).decode())
    upgraded = message.status == 101 and message.says("Upgrade", "websocket")
    return upgraded and message.header("Sec-WebSocket-Accept") == expected


def encode(opcode: Opcode, payload: bytes, mask: bytes = b"") -> bytes:
    """A frame; clients give a `mask` of 4 random bytes, servers none (section 5.3)."""
    size, masked = len(payload), _MASKED if mask else 0
    if size < 126:
        head = struct.pack("!BB", _FIN | opcode, masked | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", _FIN | opcode, masked | 126, size)
    else:
        head = struct.pack("!BBQ", _FIN | opcode, masked | 127, size)
    return head + mask + _apply(mask, payload)


class Decoder:
    """Cuts what comes into frames; `masked` is whether the other end must mask (a client)."""

    def __init__(self, *, masked: bool) -> None:
        self._masked = masked
        self._buffer = bytearray()
        self._parts: list[bytes] = []
        self._kind = Opcode.CONTINUATION
        self._size = 0

    def feed(self, data: bytes) -> list[Frame]:
        """The messages that are whole now; FrameError if the stream is none of WebSocket's."""
        self._buffer += data
        found = []
        while (cut := self._cut()) is not None:
            frame = self._join(*cut)
            if frame:
                found.append(frame)
        return found

    def _cut(self) -> tuple[bool, Opcode, bytes] | None:
        if len(self._buffer) < 2:
            return None
        first, second = self._buffer[0], self._buffer[1]
        if first & 0x70 or first & 0x0F not in Opcode._value2member_map_:
            raise FrameError("a bit or an opcode that is not agreed on")
        if bool(second & _MASKED) is not self._masked:
            raise FrameError("masked where it should not be, or the reverse")
        opcode, size, at = Opcode(first & 0x0F), second & 0x7F, 2
        if opcode >= Opcode.CLOSE and (size > 125 or not first & _FIN):
            raise FrameError("a control frame is short and whole")
        if size >= 126:
            form = "!H" if size == 126 else "!Q"
            if len(self._buffer) < at + struct.calcsize(form):
                return None
            (size,) = struct.unpack_from(form, self._buffer, at)
            at += struct.calcsize(form)
        if size > MAX_MESSAGE:
            raise FrameError("a message is too long")
        mask_bytes = 4 if self._masked else 0
        if len(self._buffer) < at + mask_bytes + size:
            return None
        mask = bytes(self._buffer[at : at + mask_bytes])
        at += mask_bytes
        payload = _apply(mask, bytes(self._buffer[at : at + size]))
        del self._buffer[: at + size]
        return bool(first & _FIN), opcode, payload

    def _join(self, final: bool, opcode: Opcode, payload: bytes) -> Frame | None:
        if opcode >= Opcode.CLOSE:
            return Frame(opcode, payload)
        if (opcode is Opcode.CONTINUATION) is not bool(self._parts):
            raise FrameError("a message within another")
        if not self._parts:
            self._kind, self._size = opcode, 0
        self._parts.append(payload)
        self._size += len(payload)
        if self._size > MAX_MESSAGE or len(self._parts) > 1024:
            raise FrameError("a message is too long")
        if not final:
            return None
        whole, self._parts = b"".join(self._parts), []
        return Frame(self._kind, whole)


def _apply(mask: bytes, payload: bytes) -> bytes:
    if not mask or not payload:
        return payload
    size = len(payload)
    pattern = (mask * (size // 4 + 1))[:size]
    number = int.from_bytes(payload, "big") ^ int.from_bytes(pattern, "big")
    return number.to_bytes(size, "big")
