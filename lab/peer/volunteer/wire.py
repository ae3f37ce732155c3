"""The packets between a volunteer and those who use it, over UDP or framed on TCP.

::

    | mark | type | attempt (8 bytes) | more |

    JOIN       72 bytes of nothing: an answer must not be longer than its question
    CHALLENGE  cookie (16 bytes)
    PROVE      cookie, and a signature (64 bytes) over attempt, cookie and the volunteer's key
    JOINED
    REFUSED
    LEAVE      cookie: the pair needs the volunteer no more
    REACH      token (16 bytes), from the rendezvous service (in place of the attempt: zeros)

The mark is `Mark.VOLUNTEER`.  Everything else that is passed on was sealed by
the two for each other: packets of the attempt (`lab.peer.traversal.seal`), which
name it in the same place, and of the session that uses the path
(`lab.peer.session.wire`), which has a number of its own.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from lab.peer.identity import SIGNATURE_BYTES, Identity, verify
from lab.peer.marks import Mark

ATTEMPT_BYTES = 8
COOKIE_BYTES = TOKEN_BYTES = 16
PURPOSE = b"lab relay join 1"
_JOIN_PADDING = 72


class Type(IntEnum):
    """What a packet says."""

    JOIN = 1
    CHALLENGE = 2
    PROVE = 3
    JOINED = 4
    REFUSED = 5
    REACH = 6
    LEAVE = 7


_SIZES = {
    Type.JOIN: _JOIN_PADDING,
    Type.CHALLENGE: COOKIE_BYTES,
    Type.PROVE: COOKIE_BYTES + SIGNATURE_BYTES,
    Type.JOINED: 0,
    Type.REFUSED: 0,
    Type.REACH: TOKEN_BYTES,
    Type.LEAVE: COOKIE_BYTES,
}


class Packet(NamedTuple):
    """One of the above."""

    type: Type
    attempt: bytes
    more: bytes = b""

    def encode(self) -> bytes:
        """The packet as bytes."""
        return bytes((Mark.VOLUNTEER, self.type)) + self.attempt + self.more


def parse(data: bytes) -> Packet | None:
    """The packet in `data`; None if it is none of these."""
    if len(data) < 2 + ATTEMPT_BYTES or data[0] != Mark.VOLUNTEER or data[1] not in _SIZES:
        return None
    kind = Type(data[1])
    if len(data) != 2 + ATTEMPT_BYTES + _SIZES[kind]:
        return None
    return Packet(kind, data[2 : 2 + ATTEMPT_BYTES], data[2 + ATTEMPT_BYTES :])


def join(attempt: bytes) -> bytes:
    """The wish to take part."""
    return Packet(Type.JOIN, attempt, bytes(_JOIN_PADDING)).encode()


def prove(identity: Identity, attempt: bytes, cookie: bytes, volunteer: bytes) -> bytes:
    """The answer to a challenge of the volunteer with that key."""
    signature = identity.sign(PURPOSE, attempt + cookie + volunteer)
    return Packet(Type.PROVE, attempt, cookie + signature).encode()


def proven_by(packet: Packet, key: bytes, volunteer: bytes) -> bool:
    """Whether the owner of `key` made a PROVE for that volunteer."""
    cookie, signature = packet.more[:COOKIE_BYTES], packet.more[COOKIE_BYTES:]
    return verify(key, signature, PURPOSE, packet.attempt + cookie + volunteer)


def reach(token: bytes) -> bytes:
    """What the rendezvous service sends to find out whether it gets there."""
    return Packet(Type.REACH, bytes(ATTEMPT_BYTES), token).encode()
