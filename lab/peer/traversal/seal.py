"""Packets between two peers, sealed so that only the two can make or read them.

Both draw an X25519 key for one attempt and sign it with the identity that the
rendezvous service vouched for (`lab.peer.traversal.signals`).  From the shared
secret come two keys, one for each direction::

    HKDF-SHA256(X25519(a, b), salt = SHA-256(offer | b's ephemeral key | b's identity),
                info = "lab peer path 1", 64 bytes)

They are sealed as `lab.peer.sealed` does.
The body of DATA is payload that means nothing; that of all others is 27 bytes::

    | echo (8 bytes) | family: 4 or 6 | port (2 bytes) | address (16 bytes, zero-padded) |

`echo` is the sequence number of the packet that is answered, 0 for none; the
endpoint is where that packet was seen to come from.
"""

from __future__ import annotations

import hashlib
import ipaddress
import struct
from dataclasses import dataclass
from enum import IntEnum

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from lab.peer.endpoint import Endpoint
from lab.peer.marks import Mark
from lab.peer.sealed import SHELL, Sealed

_BODY = struct.Struct("!QBH16s")
PACKET_BYTES = SHELL + _BODY.size
NOWHERE = Endpoint("0.0.0.0", 0)
MAX_PAYLOAD = 1200
"""Bytes of a DATA packet's body: with all headers below 1280, what IPv6 carries anywhere."""


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


class Seal(Sealed):
    """One end of an attempt's path."""

    mark = Mark.PATH

    def seal(self, kind: Type, echo: int = 0, observed: Endpoint = NOWHERE) -> tuple[int, bytes]:
        """A packet, with its sequence number."""
        ip = ipaddress.ip_address(observed.address)
        return self._seal(kind, _BODY.pack(echo, ip.version, observed.port, ip.packed))

    def payload(self, size: int) -> tuple[int, bytes]:
        """A DATA packet with `size` bytes of payload, and its sequence number."""
        return self._seal(Type.DATA, bytes(size))

    def ours(self, data: bytes) -> bool:
        """Whether `data` claims to belong to this session; costs nothing to ask."""
        if not self._claims(data):
            return False
        if data[1] == Type.DATA:
            return len(data) <= SHELL + MAX_PAYLOAD
        return len(data) == PACKET_BYTES

    def open(self, data: bytes) -> Opened | None:
        """The packet in `data`; None if the other end did not make it, or it was seen before."""
        opened = self._open(data) if self.ours(data) else None
        if opened is None:
            self.rejected += 1
        return opened

    def _open(self, data: bytes) -> Opened | None:
        unsealed = self._unseal(data)
        if unsealed is None or unsealed.kind not in Type._value2member_map_:
            return None
        kind, sequence, body = unsealed
        if kind == Type.DATA:
            return Opened(Type.DATA, sequence, 0, NOWHERE)
        echo, family, port, packed = _BODY.unpack(body)
        if family not in (4, 6):
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
