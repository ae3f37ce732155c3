"""IP packets read as far as following and naming them takes.

Lengths are those of the packet, not of what was kept of it.
"""

from __future__ import annotations

import hashlib
import ipaddress
import struct
from dataclasses import dataclass, replace
from functools import lru_cache

from lab.peer.endpoint import Endpoint

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
_NAMES = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6"}
_EXTENSIONS = frozenset((0, 43, 60))
_FRAGMENT = 44
_ECHO = frozenset(((8, 0), (128, 0)))
_ERRORS = {"icmp": frozenset((3, 4, 5, 11, 12)), "icmp6": frozenset((1, 2, 3, 4))}


@dataclass(frozen=True, slots=True)
class Packet:
    """One IP packet; ports are 0 where the protocol has none."""

    protocol: str
    """`udp`, `tcp`, `icmp`, `icmp6`, or a number."""
    source: Endpoint
    destination: Endpoint
    payload: bytes
    """What UDP and TCP carry; of ICMP what follows type, code and checksum."""
    size: int
    """Bytes of the whole packet."""
    ttl: int
    flags: int = 0
    sequence: int = 0
    acknowledged: int = 0
    icmp: tuple[int, int] = (-1, -1)
    number: int = 0
    """The identification of an IPv4 packet, which hosts count up and routers keep."""
    offset: int = 0
    """Of a part that is not the first."""

    @property
    def about(self) -> Packet | None:
        """The packet that an ICMP error quotes; None for anything else."""
        if self.icmp[0] not in _ERRORS.get(self.protocol, ()):
            return None
        return parse(self.payload[4:])

    @property
    def flow(self) -> tuple[str, Endpoint, Endpoint]:
        return self.protocol, self.source, self.destination

    @property
    def many(self) -> bool:
        """Whether it is for more than one host."""
        address = ipaddress.ip_address(self.destination.address)
        return address.is_multicast or self.destination.address.endswith(".255")

    @property
    def identity(self) -> tuple[object, ...]:
        """What is the same in this packet before and after any translation on its way.

        Two packets may share it, if a program says the same thing twice.
        """
        about = self.about
        if about is not None:
            return ("error", about.protocol, about.sequence, _digest(about.payload))
        if self.offset:
            return ("fragment", self.number, self.offset, self.size)
        if self.protocol == "tcp":
            return ("tcp", self.flags, self.sequence, self.acknowledged, _digest(self.payload))
        if self.protocol.startswith("icmp"):
            return ("icmp", self.icmp in _ECHO, _digest(self.payload[4:]))
        return (self.protocol, _digest(self.payload))


def _digest(data: bytes) -> bytes:
    # Errors quote the beginning only, and it is enough to know a packet by.
    return (
        hashlib.blake2b(data[:18], digest_size=12).digest()
        + hashlib.blake2b(data[18:], digest_size=4).digest()
    )


@lru_cache(maxsize=1 << 14)
def parse(data: bytes) -> Packet | None:
    """The packet in `data`, which may be cut short; None if it is no IP packet."""
    try:
        version = data[0] >> 4
        return _ip4(data) if version == 4 else _ip6(data) if version == 6 else None
    except (IndexError, struct.error, ValueError):
        return None


def _ip4(data: bytes) -> Packet:
    head = (data[0] & 0xF) * 4
    size, identification, offset = struct.unpack_from("!HHH", data, 2)
    ends = (_address(data[12:16]), _address(data[16:20]))
    body = data[head:size] if size else data[head:]
    at = (offset & 0x1FFF) * 8
    return _transport(data[9], ends, body, size=size, ttl=data[8], number=identification, offset=at)


def _ip6(data: bytes) -> Packet:
    length, following, ttl = struct.unpack_from("!HBB", data, 4)
    ends = (_address(data[8:24]), _address(data[24:40]))
    body = data[40 : 40 + length]
    identification = at = 0
    while following in _EXTENSIONS or following == _FRAGMENT:
        if following == _FRAGMENT:
            offset, identification = struct.unpack_from("!HI", body, 2)
            at = offset & 0xFFF8
            following, body = body[0], body[8:]
        else:
            following, body = body[0], body[8 + body[1] * 8 :]
    return _transport(
        following, ends, body, size=40 + length, ttl=ttl, number=identification, offset=at
    )


@lru_cache(maxsize=1 << 12)
def _address(packed: bytes) -> str:
    return str(ipaddress.ip_address(packed))


def _transport(
    protocol: int,
    ends: tuple[str, str],
    body: bytes,
    *,
    size: int,
    ttl: int,
    number: int,
    offset: int,
) -> Packet:
    name = _NAMES.get(protocol, str(protocol))
    bare = Packet(
        name, Endpoint(ends[0], 0), Endpoint(ends[1], 0), body, size, ttl, number=number,
        offset=offset,
    )  # fmt: skip
    if offset or name not in _NAMES.values():
        return bare
    if name.startswith("icmp"):
        return replace(bare, payload=body[4:], icmp=(body[0], body[1]))
    ports = struct.unpack_from("!HH", body)
    whole = replace(
        bare, source=Endpoint(ends[0], ports[0]), destination=Endpoint(ends[1], ports[1])
    )
    if name == "udp":
        return replace(whole, payload=body[8:])
    (sequence,) = struct.unpack_from("!I", body, 4)
    if len(body) < 14:
        # As an ICMP error may quote it.
        return replace(whole, payload=b"", sequence=sequence)
    return replace(
        whole,
        payload=body[(body[12] >> 4) * 4 :],
        flags=body[13] & 0x3F,
        sequence=sequence,
        acknowledged=int.from_bytes(body[8:12], "big"),
    )
