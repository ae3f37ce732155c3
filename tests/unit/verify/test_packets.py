"""Frames that probes make and read, in both families."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from lab.peer.endpoint import Endpoint
from lab.verify import packets, packets6
from lab.verify.packets import ECHO_REQUEST, PORT_UNREACHABLE, SYN, UNREACHABLE, Packet

HERE, THERE = packets.mac("02:00:00:00:00:01"), packets.mac("02:00:00:00:00:02")
FOUR = (Endpoint("198.51.100.11", 4000), Endpoint("45.0.0.2", 3478))
SIX = (Endpoint("2001:db8:1::11", 4000), Endpoint("2a02:1:1::2", 3478))
CODECS = {4: packets, 6: packets6}
ENDS = st.sampled_from([FOUR, SIX])
TAGS = st.integers(0, 0xFFFFFFFF)


def sent(ends, protocol, tag):
    if protocol == "icmp":
        one, other = (Endpoint(end.address, 0) for end in ends)
        return Packet("icmp", one, other, tag, icmp=(ECHO_REQUEST, 0))
    return Packet(protocol, *ends, tag, flags=SYN if protocol == "tcp" else 0)


def summed(frame, six):
    """Whether the checksum above IP is right, worked out as a receiver does."""
    data = frame[14:]
    body = data[40:] if six else data[20:]
    number = data[6] if six else data[9]
    pseudo = data[8:40] if six else data[12:20]
    plain = number == 1
    text = body if plain else pseudo + struct.pack("!II", len(body), number) + body
    return packets.checksum(text) == 0


@given(ENDS, st.sampled_from(["udp", "tcp", "icmp"]), TAGS)
def test_what_is_made_is_read_and_its_checksum_is_right(ends, protocol, tag):
    family = ends[0].family
    packet = sent(ends, protocol, tag)
    frame = CODECS[family].encode(packet, HERE, THERE)
    read = CODECS[family].decode(frame)
    assert (read.protocol, read.source, read.destination, read.tag, read.icmp, read.flags) == (
        packet.protocol,
        packet.source,
        packet.destination,
        packet.tag,
        packet.icmp,
        packet.flags,
    )
    assert summed(frame, family == 6)


@given(st.sampled_from(["udp", "tcp", "icmp"]), TAGS)
def test_an_icmpv6_error_is_known_by_what_it_quotes(protocol, tag):
    quoted = packets6.encode(sent(SIX, protocol, tag), HERE, THERE)[14:]
    body = struct.pack("!BBHI", 1, 4, 0, 0) + quoted
    head = struct.pack("!IHBB", 6 << 28, len(body), 58, 64) + quoted[24:40] + quoted[8:24]
    error = packets6.decode(bytes(12) + struct.pack("!H", packets6.ETHERTYPE) + head + body)
    assert (error.acknowledged, error.icmp) == (tag, (UNREACHABLE, PORT_UNREACHABLE))
    assert error.source.address == SIX[1].address


def test_neighbours_are_asked_and_answered():
    asked = packets6.decode(packets6.solicitation(SIX[0].address, SIX[1].address, HERE))
    assert asked == packets6.Solicitation(SIX[1].address, SIX[0].address, HERE)
    answer = packets6.advertisement(asked, THERE)
    assert answer[:12] == HERE + THERE
    assert answer[14 + 40] == 136
    for frame in (packets6.solicitation(SIX[0].address, SIX[1].address, HERE), answer):
        assert summed(frame, six=True)


@given(st.binary(max_size=200))
def test_anything_may_be_on_a_wire(data):
    packets6.decode(bytes(12) + struct.pack("!H", packets6.ETHERTYPE) + data)
    packets.decode(data)
