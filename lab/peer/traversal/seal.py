"""Packets between two peers, sealed so that only the two can make or read them.

Both draw an X25519 key for one attempt and sign it with the identity that the
rendezvous service vouched for (`lab.peer.traversal.signals`).  From the shared
secret come two keys, one for each direction::

    HKDF-SHA256(X25519(a, b), salt = SHA-256(offer | b's ephemeral key | b's identity),
                info = "lab peer path 1", 64 bytes)

On the wire::

    | 0xF5 | type | session (8 bytes) | sequence (8 bytes) | sealed body | tag (16 bytes) |

The first byte is none of STUN's, TURN's, DTLS's or RTP's (RFC 7983).  Body and
tag are ChaCha20-Poly1305 with nonce 0^32 | sequence, and the 18 bytes before
them are authenticated too.  A sequence number is used once, and taken once.
Each is some random distance above the one before: an answer names the number of
what it answers, and so proves that whoever gives it received that, even where
he is the other peer himself and forges the address that he answers from.
The body of DATA is payload that means nothing; that of all others is 27 bytes::

    | echo (8 bytes) | family: 4 or 6 | port (2 bytes) | address (16 bytes, zero-padded) |

`echo` is the sequence number of the packet that is answered, 0 for none; the
endpoint is where that packet was seen to come from.
"""

from __future__ import annotations

import hashlib
import heapq
import ipaddress
import secrets
import struct
from dataclasses import dataclass
from enum import IntEnum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from lab.peer.endpoint import Endpoint

MARK = 0xF5
SESSION_BYTES = 8
_HEADER = struct.Struct("!BB8sQ")
_BODY = struct.Struct("!QBH16s")
PACKET_BYTES = _HEADER.size + _BODY.size + 16
WINDOW = 1024
"""How many packets may overtake one before it is dropped."""
FARTHEST = 1 << 32
"""The largest distance between two sequence numbers: to guess one takes as many tries."""
NOWHERE = Endpoint("0.0.0.0", 0)
MAX_PAYLOAD = 1200
"""Bytes of a DATA packet's body: with all headers below 1280, what IPv6 carries anywhere."""
_SHELL = _HEADER.size + 16


class Type(IntEnum):
    """What a packet says; `lab.peer.traversal.prober` has the exchange."""

    PROBE = 1
    REPLY = 2
    CONFIRM = 3
    DONE = 4
    DATA = 5
    """Payload that measures what the path carries (`lab.peer.traversal.flow`)."""
    ACK = 6
    """Answers one DATA."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A packet that the other peer made, seen for the first time."""

    type: Type
    sequence: int
    echo: int
    observed: Endpoint


class ReplayWindow:
    """Which sequence numbers have been seen (as RFC 4303, section 3.4.3, but counting packets).

    The highest `WINDOW` numbers are remembered; what is below all of them is
    too old to tell.
    """

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._order: list[int] = []
        self._floor = 0

    def fresh(self, sequence: int) -> bool:
        """Whether `sequence` was never noted and is not too old to tell."""
        return sequence > self._floor and sequence not in self._seen

    def note(self, sequence: int) -> None:
        """Remember an authentic packet."""
        self._seen.add(sequence)
        heapq.heappush(self._order, sequence)
        if len(self._order) > WINDOW:
            self._floor = heapq.heappop(self._order)
            self._seen.discard(self._floor)


def following(sequence: int) -> int:
    """The sequence number after `sequence`; nobody can tell it in advance."""
    return sequence + 1 + secrets.randbelow(FARTHEST)


class Seal:
    """One end of a session: seals what it sends, opens what the other end sealed."""

    def __init__(self, session: bytes, outward: bytes, inward: bytes) -> None:
        self.session = session
        self.rejected = 0
        """Packets with this session's number that were forged, damaged or replayed."""
        self._outward = ChaCha20Poly1305(outward)
        self._inward = ChaCha20Poly1305(inward)
        self._sequence = 0
        self._window = ReplayWindow()

    def seal(self, kind: Type, echo: int = 0, observed: Endpoint = NOWHERE) -> tuple[int, bytes]:
        """A packet, with its sequence number."""
        self._sequence = following(self._sequence)
        header = _HEADER.pack(MARK, kind, self.session, self._sequence)
        ip = ipaddress.ip_address(observed.address)
        body = _BODY.pack(echo, ip.version, observed.port, ip.packed)
        sealed = self._outward.encrypt(_nonce(self._sequence), body, header)
        return self._sequence, header + sealed

    def payload(self, size: int) -> tuple[int, bytes]:
        """A DATA packet with `size` bytes of payload, and its sequence number."""
        self._sequence = following(self._sequence)
        header = _HEADER.pack(MARK, Type.DATA, self.session, self._sequence)
        return self._sequence, header + self._outward.encrypt(
            _nonce(self._sequence), bytes(size), header
        )

    def ours(self, data: bytes) -> bool:
        """Whether `data` claims to belong to this session; costs nothing to ask."""
        if len(data) < _SHELL or data[0] != MARK or data[2:10] != self.session:
            return False
        if data[1] == Type.DATA:
            return len(data) <= _SHELL + MAX_PAYLOAD
        return len(data) == PACKET_BYTES

    def open(self, data: bytes) -> Opened | None:
        """The packet in `data`; None if the other end did not make it, or it was seen before."""
        opened = self._open(data) if self.ours(data) else None
        if opened is None:
            self.rejected += 1
        return opened

    def _open(self, data: bytes) -> Opened | None:
        _, kind, _, sequence = _HEADER.unpack_from(data)
        if not self._window.fresh(sequence):
            return None
        header = data[: _HEADER.size]
        try:
            body = self._inward.decrypt(_nonce(sequence), data[_HEADER.size :], header)
        except InvalidTag:
            return None
        self._window.note(sequence)
        if kind == Type.DATA:
            return Opened(Type.DATA, sequence, 0, NOWHERE)
        echo, family, port, packed = _BODY.unpack(body)
        if kind not in Type._value2member_map_ or family not in (4, 6):
            return None
        address = str(ipaddress.ip_address(packed[:4] if family == 4 else packed))
        return Opened(Type(kind), sequence, echo, Endpoint(address, port))


class Agreement:
    """The key agreement of one attempt: draw, exchange, derive."""

    def __init__(self) -> None:
        self._private = X25519PrivateKey.generate()
        self.ephemeral = self._private.public_key().public_bytes_raw()
        """The public half, 32 bytes, for the other peer."""

    def seal(
        self, session: bytes, other: bytes, transcript: bytes, *, caller: bool, path: int = 1
    ) -> Seal:
        """The session's seal; ValueError if `other` is a key that no honest peer sends.

        An attempt with several paths has a seal for each, told apart by number:
        two that seal the same sequence numbers must not share keys.
        """
        salt = hashlib.sha256(transcript).digest()
        keys = self.derive(other, salt, b"lab peer path %d" % path)
        to_callee, to_caller = keys[:32], keys[32:]
        return Seal(session, *((to_callee, to_caller) if caller else (to_caller, to_callee)))

    def derive(self, other: bytes, salt: bytes, info: bytes) -> bytes:
        """64 bytes that only the two know; ValueError if `other` is no key of an honest peer."""
        secret = self._private.exchange(X25519PublicKey.from_public_bytes(other))
        return HKDF(SHA256(), length=64, salt=salt, info=info).derive(secret)


def _nonce(sequence: int) -> bytes:
    return struct.pack("!IQ", 0, sequence)
