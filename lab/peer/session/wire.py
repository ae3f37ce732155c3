"""What is said within a session: frames sealed with keys that no path has.

Each peer draws an X25519 key for the session and puts it into the signed offer
or answer of the attempt for the first path, with the session's number.  From
the shared secret come two keys, one for each direction::

    HKDF-SHA256(X25519(a, b), salt = SHA-256(number | lead's identity | follower's identity
                | lead's X25519 key | follower's), info = "lab peer session 1", 64 bytes)

The keys, and the sequence numbers, stay when paths come and go: an attempt for
another path names the session, and that path is used once frames of the session
went over it and back (as RFC 9000, section 8.2 validates paths).
They are sealed as `lab.peer.sealed` does.

The body of DATA is its number
(8 bytes), then the datagram.  That of all others is 33 bytes::

    | path (8 bytes) | use (1) | echo (8 bytes) | sent (8 bytes) | received (8 bytes) |

`path` is the number of the attempt that found the path on which the frame is
sent, so that nobody can make it speak for another; `use` is 1 if the lead says
that this is the path from now on; `echo` is the sequence number that is
answered; `sent` and `received` are how many datagrams the sender numbered and got.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from enum import IntEnum

from lab.peer.marks import Mark
from lab.peer.sealed import SHELL, Sealed
from lab.peer.traversal.seal import Agreement

NUMBER_BYTES = 8
MAX_PAYLOAD = 1200
_DATA = struct.Struct("!Q")
_WORD = struct.Struct("!8sBQQQ")


class Kind(IntEnum):
    """What a frame says."""

    DATA = 1
    CHECK = 2
    """Are you there? (RFC 7675: consent; it keeps mappings alive too.)"""
    CHECKED = 3
    BYE = 4
    """The session is over."""
    FAREWELL = 5
    """Answers BYE."""


@dataclass(frozen=True, slots=True)
class Frame:
    """An authentic frame, seen for the first time."""

    kind: Kind
    sequence: int
    number: int = 0
    """Of DATA."""
    payload: bytes = b""
    path: bytes = b""
    use: bool = False
    echo: int = 0
    sent: int = 0
    received: int = 0


class SessionSeal(Sealed):
    """One end of a session: seals frames, opens those that the other end sealed."""

    mark = Mark.SESSION

    def data(self, number: int, payload: bytes) -> bytes:
        """A frame that carries a datagram."""
        return self._seal(Kind.DATA, _DATA.pack(number) + payload)[1]

    def word(
        self, kind: Kind, path: bytes, *, use: bool, echo: int, sent: int, received: int
    ) -> tuple[int, bytes]:
        """Any other frame, with its sequence number."""
        return self._seal(kind, _WORD.pack(path, use, echo, sent, received))

    def ours(self, data: bytes) -> bool:
        """Whether `data` claims to belong to this session; costs nothing to ask."""
        return len(data) <= SHELL + _DATA.size + MAX_PAYLOAD and self._claims(data)

    def open(self, data: bytes) -> Frame | None:
        """The frame in `data`; None if the other end did not make it, or it was seen before."""
        unsealed = self._unseal(data) if self.ours(data) else None
        frame = _frame(*unsealed) if unsealed else None
        if frame is None:
            self.rejected += 1
        return frame


def _frame(kind: int, sequence: int, body: bytes) -> Frame | None:
    if kind == Kind.DATA:
        if len(body) < _DATA.size:
            return None
        (number,) = _DATA.unpack_from(body)
        return Frame(Kind.DATA, sequence, number, body[_DATA.size :])
    if kind not in Kind._value2member_map_ or len(body) != _WORD.size:
        return None
    path, use, echo, sent, received = _WORD.unpack(body)
    return Frame(Kind(kind), sequence, 0, b"", path, bool(use), echo, sent, received)


def agreed(
    own: Agreement, session: bytes, identities: tuple[bytes, bytes], other: bytes, *, leads: bool
) -> SessionSeal:
    """The seal of a session; `identities` are the lead's and the follower's.

    ValueError if `other` is a key that no honest peer sends.
    """
    keys = (own.ephemeral, other) if leads else (other, own.ephemeral)
    salt = hashlib.sha256(b"".join((session, *identities, *keys))).digest()
    secret = own.derive(other, salt, b"lab peer session 1")
    to_follower, to_lead = secret[:32], secret[32:]
    return SessionSeal(session, *((to_follower, to_lead) if leads else (to_lead, to_follower)))
