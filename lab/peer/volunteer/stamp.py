"""What shows a relay that a packet is of one of its pair: a count and a tag behind it.

The packets that two peers seal for each other tell a relay nothing, and whoever
forges the address of one of them could spend what the pair may use.  So each of
the two agrees with the relay on a key when it joins, and what it sends there ends
with a stamp, which the relay checks, and takes off before it passes the packet on::

    | packet | count (4 bytes) | tag (8 bytes) |

The tag is keyed BLAKE2b (RFC 7693) over packet and count; each count is taken
once, so that copies are worth nothing either.  The key is the first half of::

    HKDF-SHA256(X25519(peer, relay), salt = SHA-256(attempt | cookie | peer's X25519 key
                | relay's), info = "lab relay stamp 1", 64 bytes)

and with the second half the relay shows that it has the key, too (`welcome`).
"""

from __future__ import annotations

import hashlib
import hmac
import struct

from lab.peer.marks import BETWEEN_PEERS
from lab.peer.sealed import ReplayWindow
from lab.peer.traversal.seal import Agreement

WELCOME_BYTES = 16
_TAG_BYTES = 8
_COUNT = struct.Struct("!I")
STAMP_BYTES = _COUNT.size + _TAG_BYTES
_MOST = (1 << 32) - 1


class Stamps:
    """The stamps of one joining: made by the peer, checked by the relay."""

    def __init__(self, keys: bytes) -> None:
        self._key, self._other = keys[:32], keys[32:]
        self._count = 0
        self._seen = ReplayWindow()

    @property
    def welcome(self) -> bytes:
        """What only the relay with which the key was agreed says."""
        return hashlib.blake2b(b"joined", key=self._other, digest_size=WELCOME_BYTES).digest()

    def put(self, packet: bytes) -> bytes:
        """`packet`, with a stamp; it is never the same twice."""
        self._count = min(self._count + 1, _MOST)
        counted = packet + _COUNT.pack(self._count)
        return counted + self._tag(counted)

    def stamped(self, data: bytes) -> bytes:
        """`data` as it goes to the relay: with a stamp, unless it is for the relay itself."""
        return self.put(data) if data[0] in BETWEEN_PEERS else data

    def taken(self, data: bytes) -> bytes | None:
        """The packet under the stamp; None if the peer did not put it there, or it came before."""
        counted, tag = data[:-_TAG_BYTES], data[-_TAG_BYTES:]
        if len(data) < STAMP_BYTES or not hmac.compare_digest(tag, self._tag(counted)):
            return None
        (count,) = _COUNT.unpack_from(counted, len(counted) - _COUNT.size)
        if not self._seen.fresh(count):
            return None
        self._seen.note(count)
        return counted[: -_COUNT.size]

    def _tag(self, counted: bytes) -> bytes:
        return hashlib.blake2b(counted, key=self._key, digest_size=_TAG_BYTES).digest()


def agreed(
    own: Agreement, attempt: bytes, cookie: bytes, keys: tuple[bytes, bytes], *, relay: bool
) -> Stamps:
    """The stamps of a peer; `keys` are the X25519 keys of the peer and the relay.

    `own` is the caller's half: the relay's, or the peer's.  ValueError if the
    other's is a key that no honest one sends.
    """
    salt = hashlib.sha256(b"".join((attempt, cookie, *keys))).digest()
    return Stamps(own.derive(keys[0] if relay else keys[1], salt, b"lab relay stamp 1"))
