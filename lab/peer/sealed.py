"""Packets that only two ends can make or read, whatever they are about.

On the wire::

    | mark (`lab.peer.marks`) | kind | session (8 bytes) | sequence (8 bytes) | sealed body | tag |

Body and tag (16 bytes) are ChaCha20-Poly1305 with nonce 0^32 | sequence, and the
18 bytes before them are authenticated too.  A sequence number is used once, and
taken once.  Each is some random distance above the one before: an answer names
the number of what it answers, and so proves that whoever gives it received that,
even where he is the other peer himself and forges the address that he answers from.
"""

from __future__ import annotations

import heapq
import secrets
import struct
from typing import ClassVar, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from lab.peer.marks import Mark

SESSION_BYTES = 8
_HEADER = struct.Struct("!BB8sQ")
SHELL = _HEADER.size + 16
"""Bytes of a packet beside its body."""
WINDOW = 1024
"""How many packets may overtake one before it is dropped."""
FARTHEST = 1 << 32
"""The largest distance between two sequence numbers: to guess one takes as many tries."""


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


class Unsealed(NamedTuple):
    """What an authentic packet, seen for the first time, holds."""

    kind: int
    sequence: int
    body: bytes


class Sealed:
    """One end: seals what it sends, opens what the other end sealed."""

    mark: ClassVar[Mark]

    def __init__(self, session: bytes, outward: bytes, inward: bytes) -> None:
        self.session = session
        self.rejected = 0
        """Packets with this session's number that were forged, damaged or replayed."""
        self._outward = ChaCha20Poly1305(outward)
        self._inward = ChaCha20Poly1305(inward)
        self._sequence = 0
        self._window = ReplayWindow()

    def _seal(self, kind: int, body: bytes) -> tuple[int, bytes]:
        """A packet, with its sequence number."""
        self._sequence += 1 + secrets.randbelow(FARTHEST)
        header = _HEADER.pack(self.mark, kind, self.session, self._sequence)
        return self._sequence, header + self._outward.encrypt(_nonce(self._sequence), body, header)

    def _claims(self, data: bytes) -> bool:
        """Whether `data` claims to belong to this session; costs nothing to ask."""
        return len(data) >= SHELL and data[0] == self.mark and data[2:10] == self.session

    def _unseal(self, data: bytes) -> Unsealed | None:
        """What is in `data`; None if the other end did not make it, or it was seen before."""
        _, kind, _, sequence = _HEADER.unpack_from(data)
        if not self._window.fresh(sequence):
            return None
        header = data[: _HEADER.size]
        try:
            body = self._inward.decrypt(_nonce(sequence), data[_HEADER.size :], header)
        except InvalidTag:
            return None
        self._window.note(sequence)
        return Unsealed(kind, sequence, body)


def _nonce(sequence: int) -> bytes:
    return struct.pack("!IQ", 0, sequence)
