"""Each family of packets can be told from all others by its first byte."""

from __future__ import annotations

from lab.peer.marks import BETWEEN_PEERS, Mark
from lab.peer.session.wire import SessionSeal
from lab.peer.stun.codec import Class, Message, Method, encode
from lab.peer.traversal.seal import Agreement
from lab.peer.volunteer import wire


def test_no_family_has_the_first_byte_of_another():
    other = Agreement()
    path = Agreement().seal(bytes(8), other.ephemeral, b"", caller=True).payload(10)[1]
    session = SessionSeal(bytes(8), bytes(32), bytes(32)).data(1, b"")
    volunteer = wire.join(bytes(8))
    stun = encode(Message(Method.BINDING, Class.REQUEST, bytes(12)))
    first = [packet[0] for packet in (path, session, volunteer, stun)]
    assert first[:3] == [Mark.PATH, Mark.SESSION, Mark.VOLUNTEER]
    assert len(set(first)) == 4
    assert wire.parse(session) is wire.parse(path) is None
    assert Mark.VOLUNTEER not in BETWEEN_PEERS


def test_marks_are_none_of_stun_dtls_turn_or_rtp():
    """RFC 7983, section 7."""
    taken = {*range(4), *range(16, 20), *range(20, 80), *range(128, 192)}
    assert len(set(Mark)) == len(Mark.__members__)
    assert not taken & set(Mark)
