"""Frames of IPv6 made and read by hand: neighbour discovery, UDP, TCP, ICMPv6.

As `packets`, whose words are used for both: a ping is a ping and "port
unreachable" means the same, whichever numbers stand for it on the wire
(RFC 4443 beside RFC 792).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from lab.peer.endpoint import Endpoint
from lab.verify.packets import (
    ECHO_REPLY,
    ECHO_REQUEST,
    PORT_UNREACHABLE,
    PROHIBITED,
    UNREACHABLE,
    Packet,
    checksum,
    quoted_tag,
    segment,
    transport,
)

ETHERTYPE = 0x86DD
ICMP = 58
SOLICITATION, _ADVERTISEMENT = 135, 136
_HEADER = 40
_SOURCE_OPTION, _TARGET_OPTION = 1, 2
_SOLICITED_OVERRIDE = 0x60000000

_NUMBERS: Mapping[str, int] = MappingProxyType({"icmp": ICMP, "tcp": 6, "udp": 17})
_NAMES: Mapping[int, str] = MappingProxyType({6: "tcp", 17: "udp", ICMP: "icmp"})
_KINDS: Mapping[int, int] = MappingProxyType({128: ECHO_REQUEST, 129: ECHO_REPLY, 1: UNREACHABLE})
_TYPES: Mapping[int, int] = MappingProxyType({kind: number for number, kind in _KINDS.items()})
_CODES: Mapping[int, int] = MappingProxyType({4: PORT_UNREACHABLE, 1: PROHIBITED})


@dataclass(frozen=True, slots=True)
class Solicitation:
    """Who has `wanted`, asked by `address` (RFC 4861, section 4.3)."""

    wanted: str
    address: str
    mac: bytes


def encode(packet: Packet, source_mac: bytes, destination_mac: bytes) -> bytes:
    """`packet` as a frame."""
    ends = _packed(packet.source.address) + _packed(packet.destination.address)
    number = _NUMBERS[packet.protocol]
    if packet.protocol == "icmp":
        kind, code = packet.icmp
        body = transport(packet, ends, number, (_TYPES[kind], code))
    else:
        body = transport(packet, ends, number)
    return _frame(destination_mac + source_mac, ends, number, packet.ttl, body)


def decode(frame: bytes) -> Packet | Solicitation | None:
    """What is in `frame`, whose type says IPv6; None for what no probe cares about."""
    try:
        return _packet(frame[14:], frame[6:12])
    except (struct.error, IndexError, ValueError):
        return None


def advertisement(asked: Solicitation, own_mac: bytes) -> bytes:
    """The frame that says that `asked.wanted` is at `own_mac`."""
    ends = _packed(asked.wanted) + _packed(asked.address)
    body = struct.pack("!BBHI", _ADVERTISEMENT, 0, 0, _SOLICITED_OVERRIDE) + _packed(asked.wanted)
    body += struct.pack("!BB", _TARGET_OPTION, 1) + own_mac
    return _frame(asked.mac + own_mac, ends, ICMP, 255, _summed(body, ends))


def solicitation(address: str, wanted: str, own_mac: bytes) -> bytes:
    """The frame in which `address`, at `own_mac`, asks who has `wanted`."""
    group = _packed("ff02::1:ff00:0")[:13] + _packed(wanted)[13:]
    ends = _packed(address) + group
    body = struct.pack("!BBHI", SOLICITATION, 0, 0, 0) + _packed(wanted)
    body += struct.pack("!BB", _SOURCE_OPTION, 1) + own_mac
    everybody = b"\x33\x33" + group[12:]
    return _frame(everybody + own_mac, ends, ICMP, 255, _summed(body, ends))


def _frame(macs: bytes, ends: bytes, number: int, hops: int, body: bytes) -> bytes:
    head = struct.pack("!IHBB", 6 << 28, len(body), number, hops) + ends
    return macs + struct.pack("!H", ETHERTYPE) + head + body


def _summed(body: bytes, ends: bytes) -> bytes:
    total = checksum(ends + struct.pack("!II", len(body), ICMP) + body)
    return body[:2] + struct.pack("!H", total) + body[4:]


def _packet(data: bytes, from_mac: bytes) -> Packet | Solicitation | None:
    name = _NAMES.get(data[6])
    if name is None:
        return None
    source, destination = _text(data[8:24]), _text(data[24:40])
    body = data[_HEADER:]
    if name != "icmp":
        return segment(name, source, destination, body)
    if body[0] == SOLICITATION:
        return Solicitation(_text(body[8:24]), source, from_mac)
    kind = _KINDS.get(body[0])
    ends = Endpoint(source, 0), Endpoint(destination, 0)
    if kind in (ECHO_REPLY, ECHO_REQUEST):
        tag = quoted_tag("icmp", body)
        return None if tag is None else Packet("icmp", *ends, tag=tag, icmp=(kind, 0))
    if body[0] >= 128:
        return None
    # An error: it quotes as much of the packet as fits, header first (RFC 4443, section 2.4).
    quoted = body[8:]
    tag = quoted_tag(_NAMES.get(quoted[6]), quoted[_HEADER:])
    if tag is None:
        return None
    what = (body[0], body[1]) if kind is None else (kind, _CODES.get(body[1], body[1] + 100))
    return Packet("icmp", *ends, tag=0, acknowledged=tag, icmp=what)


def _packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6, address)


def _text(data: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET6, data)
