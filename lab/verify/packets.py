"""Frames made and read by hand: Ethernet, ARP, IPv4, UDP, TCP, ICMP (IPv6 in `packets6`).

Every packet carries a tag by which it is known wherever it comes out again,
whatever was translated on the way: the payload of a datagram, the sequence
number of a TCP segment, the payload of a ping.  ICMP errors quote the packet
that they are about, and with it its tag (RFC 792, RFC 1812 section 4.3.2.3).
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, replace

from lab.peer.endpoint import Endpoint

SYN, RST, ACK = 0x02, 0x04, 0x10
ECHO_REPLY, UNREACHABLE, ECHO_REQUEST = 0, 3, 8
PORT_UNREACHABLE, PROHIBITED = 3, 13

BROADCAST = b"\xff" * 6
_IPV4, _ARP = 0x0800, 0x0806
_NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17}
_NAMES = {number: name for name, number in _NUMBERS.items()}
_MARK = b"labv"


@dataclass(frozen=True, slots=True)
class Packet:
    """An IP packet; ports are 0 where the protocol has none."""

    protocol: str
    source: Endpoint
    destination: Endpoint
    tag: int
    flags: int = 0
    """Of a TCP segment."""
    acknowledged: int = 0
    """The tag that a TCP segment acknowledges; the tag of what an ICMP error is about."""
    icmp: tuple[int, int] = (-1, 0)
    """Type and code, those of ICMPv6 as their like in ICMP."""
    ttl: int = 64

    def answered(self, tag: int) -> Packet:
        """What the destination of a SYN sends back: SYN and ACK."""
        return Packet(
            "tcp", self.destination, self.source, tag, flags=SYN | ACK, acknowledged=self.tag
        )

    def to(self, destination: Endpoint) -> Packet:
        return replace(self, destination=destination)


@dataclass(frozen=True, slots=True)
class ArpRequest:
    """Who has `wanted`, asked by `address`."""

    wanted: str
    address: str
    mac: bytes


def mac(text: str) -> bytes:
    """The six bytes of a MAC address."""
    return bytes.fromhex(text.replace(":", ""))


def encode(packet: Packet, source_mac: bytes, destination_mac: bytes) -> bytes:
    """`packet` as a frame."""
    ends = socket.inet_aton(packet.source.address) + socket.inet_aton(packet.destination.address)
    body = transport(packet, ends, _NUMBERS[packet.protocol])
    head = struct.pack(
        "!BBHHHBBH8s",
        0x45,
        0,
        20 + len(body),
        packet.tag & 0xFFFF,
        0,
        packet.ttl,
        _NUMBERS[packet.protocol],
        0,
        ends,
    )
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return destination_mac + source_mac + struct.pack("!H", _IPV4) + head + body


def transport(
    packet: Packet, ends: bytes, number: int, icmp6: tuple[int, int] | None = None
) -> bytes:
    """What follows the IP header, whose addresses are `ends`; `icmp6` is type and code there.

    The checksum's pseudo header has its fields in another order in IPv6, and
    the same sum (RFC 8200, section 8.1).
    """
    ports = struct.pack("!HH", packet.source.port, packet.destination.port)
    match packet.protocol:
        case "udp":
            payload = _MARK + struct.pack("!I", packet.tag)
            body = ports + struct.pack("!HH", 8 + len(payload), 0) + payload
            at = 6
        case "tcp":
            acknowledged = (packet.acknowledged + 1) & 0xFFFFFFFF if packet.flags & ACK else 0
            body = ports + struct.pack(
                "!IIBBHHH", packet.tag, acknowledged, 5 << 4, packet.flags, 65535, 0, 0
            )
            at = 16
        case _:
            body = struct.pack("!BBHI", *(icmp6 or packet.icmp), 0, packet.tag)
            body += _MARK + struct.pack("!I", packet.tag)
            if icmp6 is None:
                return body[:2] + struct.pack("!H", checksum(body)) + body[4:]
            at = 2
    total = checksum(ends + struct.pack("!II", len(body), number) + body) or 0xFFFF
    return body[:at] + struct.pack("!H", total) + body[at + 2 :]


def decode(frame: bytes) -> Packet | ArpRequest | None:
    """What is in `frame`; None for what no probe cares about."""
    try:
        (kind,) = struct.unpack_from("!H", frame, 12)
        if kind == _ARP:
            return _arp(frame[14:])
        return _ipv4(frame[14:]) if kind == _IPV4 else None
    except (struct.error, IndexError):
        return None


def arp_reply(request: ArpRequest, own_mac: bytes) -> bytes:
    """The frame that says that `request.wanted` is at `own_mac`."""
    body = struct.pack("!HHBBH", 1, _IPV4, 6, 4, 2)
    body += own_mac + socket.inet_aton(request.wanted)
    body += request.mac + socket.inet_aton(request.address)
    return request.mac + own_mac + struct.pack("!H", _ARP) + body


def arp_request(address: str, wanted: str, own_mac: bytes) -> bytes:
    """The frame in which `address`, at `own_mac`, asks everybody who has `wanted`."""
    body = struct.pack("!HHBBH", 1, _IPV4, 6, 4, 1)
    body += own_mac + socket.inet_aton(address) + bytes(6) + socket.inet_aton(wanted)
    return BROADCAST + own_mac + struct.pack("!H", _ARP) + body


def _arp(data: bytes) -> ArpRequest | None:
    (operation,) = struct.unpack_from("!H", data, 6)
    if operation != 1:
        return None
    asker, address, wanted = struct.unpack_from("!6s4s6x4s", data, 8)
    return ArpRequest(socket.inet_ntoa(wanted), socket.inet_ntoa(address), asker)


def _ipv4(data: bytes) -> Packet | None:
    size = (data[0] & 0xF) * 4
    (offset,) = struct.unpack_from("!H", data, 6)
    name = _NAMES.get(data[9])
    if name is None or offset & 0x1FFF:
        return None
    source = socket.inet_ntoa(data[12:16])
    destination = socket.inet_ntoa(data[16:20])
    body = data[size:]
    if name == "icmp":
        return _icmp(source, destination, body)
    return segment(name, source, destination, body)


def segment(name: str, source: str, destination: str, body: bytes) -> Packet | None:
    """What UDP or TCP has after the IP header; None if it is no probe's."""
    ports = struct.unpack_from("!HH", body)
    ends = Endpoint(source, ports[0]), Endpoint(destination, ports[1])
    if name == "udp":
        if body[8:12] != _MARK:
            return None
        return Packet(name, *ends, tag=struct.unpack_from("!I", body, 12)[0])
    tag, acknowledged = struct.unpack_from("!II", body, 4)
    flags = body[13] & 0x3F
    if flags & ACK:
        acknowledged = (acknowledged - 1) & 0xFFFFFFFF
    return Packet(name, *ends, tag=tag, flags=flags, acknowledged=acknowledged)


def _icmp(source: str, destination: str, body: bytes) -> Packet | None:
    kind = (body[0], body[1])
    ends = Endpoint(source, 0), Endpoint(destination, 0)
    if kind[0] in (ECHO_REPLY, ECHO_REQUEST):
        if body[8:12] != _MARK:
            return None
        return Packet("icmp", *ends, tag=struct.unpack_from("!I", body, 12)[0], icmp=kind)
    quoted = body[8:]
    size = (quoted[0] & 0xF) * 4
    tag = quoted_tag(_NAMES.get(quoted[9]), quoted[size:])
    return None if tag is None else Packet("icmp", *ends, tag=0, acknowledged=tag, icmp=kind)


def quoted_tag(protocol: str | None, body: bytes) -> int | None:
    """The tag in what an ICMP error quotes after the IP header; None if it is no probe's."""
    if protocol == "tcp":
        return int.from_bytes(body[4:8], "big")
    if protocol in ("udp", "icmp") and body[8:12] == _MARK:
        return int.from_bytes(body[12:16], "big")
    return None


def checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
