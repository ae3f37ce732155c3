"""The packets between a volunteer and those who use it, over UDP or framed on TCP.

::

    | mark | type | attempt (8 bytes) | more |

    JOIN       72 bytes of nothing: an answer must not be longer than its question
    CHALLENGE  cookie (16 bytes), an X25519 key (32 bytes)
    PROVE      cookie, an X25519 key, and a signature (64 bytes) over the attempt, the cookie,
               both X25519 keys and the volunteer's own
    JOINED     what shows that the volunteer has the key agreed on (16 bytes)
    REFUSED
    LEAVE      cookie: the pair needs the volunteer no more
    REACH      token (16 bytes), from the rendezvous service (in place of the attempt: zeros)

The mark is `Mark.VOLUNTEER`.  Everything else that is passed on has a stamp of
its sender for the volunteer (`lab.peer.volunteer.stamp`), and was sealed by the
two for each other: packets of the attempt (`lab.peer.traversal.seal`), which
name it in the same place, and of the session that uses the path
(`lab.peer.session.wire`), which has a number of its own.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from lab.peer.identity import KEY_BYTES, SIGNATURE_BYTES, Identity, verify
from lab.peer.marks import Mark
from lab.peer.volunteer.stamp import WELCOME_BYTES

ATTEMPT_BYTES = 8
COOKIE_BYTES = TOKEN_BYTES = 16
PURPOSE = b"lab relay join 2"
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
    Type.CHALLENGE: COOKIE_BYTES + KEY_BYTES,
    Type.PROVE: COOKIE_BYTES + KEY_BYTES + SIGNATURE_BYTES,
    Type.JOINED: WELCOME_BYTES,
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


class Exchange(NamedTuple):
    """A cookie and an X25519 key: the volunteer's in a CHALLENGE, the peer's in a PROVE."""

    cookie: bytes
    ephemeral: bytes


def exchange(packet: Packet) -> Exchange:
    """What a CHALLENGE or PROVE holds beside a signature."""
    more = packet.more
    return Exchange(more[:COOKIE_BYTES], more[COOKIE_BYTES : COOKIE_BYTES + KEY_BYTES])


def prove(
    identity: Identity, attempt: bytes, challenge: Exchange, ephemeral: bytes, volunteer: bytes
) -> bytes:
    """The answer to a challenge of the volunteer with that key; `ephemeral` is the peer's."""
    said = _said(attempt, challenge.cookie, ephemeral, challenge.ephemeral, volunteer)
    more = challenge.cookie + ephemeral + identity.sign(PURPOSE, said)
    return Packet(Type.PROVE, attempt, more).encode()


def proven_by(packet: Packet, key: bytes, challenge: Exchange, volunteer: bytes) -> bool:
    """Whether the owner of `key` made a PROVE for that volunteer's challenge."""
    said = exchange(packet)
    if said.cookie != challenge.cookie:
        return False
    signature = packet.more[COOKIE_BYTES + KEY_BYTES :]
    text = _said(packet.attempt, *said, challenge.ephemeral, volunteer)
    return verify(key, signature, PURPOSE, text)


def _said(*parts: bytes) -> bytes:
    # All have a fixed length, so that there is one way to read it.
    return b"".join(parts)


def reach(token: bytes) -> bytes:
    """What the rendezvous service sends to find out whether it gets there."""
    return Packet(Type.REACH, bytes(ATTEMPT_BYTES), token).encode()
