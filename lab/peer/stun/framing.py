"""STUN messages and ChannelData on a TCP stream (RFC 8489, section 6.2.2; RFC 8656, 12.5).

Both say their length in bytes 2 and 3: a STUN message is 20 bytes longer than
that, a ChannelData message 4 bytes and, on a stream, padded to a multiple of 4.
"""

from __future__ import annotations

import struct

from lab.peer.stun.codec import MAX_MESSAGE, MalformedError


class Splitter:
    """Cuts a stream into messages; `feed` it what arrives."""

    def __init__(self, limit: int = MAX_MESSAGE) -> None:
        self._buffer = bytearray()
        self._limit = limit

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are complete now, in order.

        MalformedError if the stream is none of ours: it has to be closed, for
        there is no way to find the next message.
        """
        self._buffer += data
        found = []
        while len(self._buffer) >= 4:
            first, length = struct.unpack_from("!HH", self._buffer)
            if first >= 0x8000:
                raise MalformedError("neither STUN nor ChannelData")
            size = length + 20 if first < 0x4000 else length + 4
            padded = size + -size % 4
            if padded > self._limit:
                raise MalformedError("the message is too long")
            if len(self._buffer) < padded:
                break
            found.append(bytes(self._buffer[:size]))
            del self._buffer[:padded]
        return found


def frame(message: bytes) -> bytes:
    """`message` as it goes onto a stream: padded."""
    return message + bytes(-len(message) % 4)
