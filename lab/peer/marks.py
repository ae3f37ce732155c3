"""The first byte of each family of packets, all in one place, so that any port can tell them apart.

RFC 7983 (as updated by RFC 9443) divides the first byte among the protocols of
one socket: STUN 0-3, ZRTP 16-19, DTLS 20-63, TURN's channels 64-79, QUIC
64-127 and 192-255, RTP and RTCP 128-191.  Peers here speak no QUIC; what they
say to each other begins with bytes that would be its long headers.
"""

from __future__ import annotations

from enum import IntEnum


class Mark(IntEnum):
    """Who reads a packet that begins so."""

    PATH = 0xF5
    """The two peers of an attempt (`lab.peer.traversal.seal`)."""
    VOLUNTEER = 0xF6
    """A peer that is a relay, and those who use it (`lab.peer.volunteer.wire`)."""
    SESSION = 0xF7
    """The two ends of a session (`lab.peer.session.wire`)."""


BETWEEN_PEERS = frozenset((Mark.PATH, Mark.SESSION))
"""What two peers seal for each other: a relay passes on these, and can't read them."""
