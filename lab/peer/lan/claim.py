"""Claiming an IPv4 link-local address (RFC 3927), as a state machine without I/O.

Time is given from outside: `tick` when `due` has come, `heard` for each ARP
packet.  Both answer with what is to be done.  A candidate is probed for three
times; if nobody objects it is announced and from then on defended.
"""

from __future__ import annotations

import ipaddress
import random
import struct
from dataclasses import dataclass

PROBE_WAIT_S, PROBES, PROBE_MIN_S, PROBE_MAX_S = 1.0, 3, 1.0, 2.0
ANNOUNCE_WAIT_S, ANNOUNCEMENTS, ANNOUNCE_EACH_S = 2.0, 2, 2.0
MAX_CONFLICTS, RATE_LIMIT_S, DEFEND_S = 10, 60.0, 10.0
"""The constants of RFC 3927, section 9."""
_FIRST, _LAST = (
    int(ipaddress.IPv4Address("169.254.1.0")),
    int(ipaddress.IPv4Address("169.254.254.255")),
)
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_ETHERNET, _IPV4, REQUEST, REPLY = 1, 0x0800, 1, 2
_NOBODY = "0.0.0.0"
"""The sender of a probe."""


@dataclass(frozen=True, slots=True)
class Arp:
    """An ARP packet for IPv4 on Ethernet (RFC 826); a probe has no `sender_ip`."""

    operation: int
    sender: bytes
    sender_ip: str
    target_ip: str

    def encode(self) -> bytes:
        own, other = (ipaddress.IPv4Address(a).packed for a in (self.sender_ip, self.target_ip))
        head = _ETHERNET, _IPV4, 6, 4, self.operation
        return _ARP.pack(*head, self.sender, own, bytes(6), other)

    @property
    def probe(self) -> bool:
        return self.operation == REQUEST and self.sender_ip == _NOBODY


def parse(data: bytes) -> Arp | None:
    """The packet in `data`; None if it is none."""
    if len(data) < _ARP.size:
        return None
    kind, protocol, size, length, operation, sender, own, _, other = _ARP.unpack_from(data)
    if (kind, protocol, size, length) != (_ETHERNET, _IPV4, 6, 4) or operation not in (1, 2):
        return None
    return Arp(
        operation, sender, str(ipaddress.IPv4Address(own)), str(ipaddress.IPv4Address(other))
    )


@dataclass(frozen=True, slots=True)
class Send:
    """Broadcast this packet."""

    packet: Arp


@dataclass(frozen=True, slots=True)
class Take:
    """The address is this host's now."""

    address: str


@dataclass(frozen=True, slots=True)
class Yield:
    """The address is another's: use it no more."""

    address: str


Action = Send | Take | Yield


class Claim:
    """One interface's claim; `draw` is its own stream of chance (section 2.1)."""

    def __init__(self, mac: bytes, draw: random.Random, now: float, preferred: str = "") -> None:
        self.address = ""
        """What has been claimed; "" until then."""
        self.candidate = ""
        self.conflicts = 0
        self.due: float | None = None
        """When `tick` is to be called; None if there is nothing to wait for."""
        self._mac = mac
        self._draw = draw
        self._sent = 0
        self._defended: float | None = None
        self._begin(now, preferred if claimable(preferred) else self._another())

    def tick(self, now: float) -> list[Action]:
        """What is to be done at `now`."""
        if self.due is None or now < self.due:
            return []
        if self.address:
            return [self._announce(now)]
        if self._sent < PROBES:
            self._sent += 1
            pause = self._draw.uniform(PROBE_MIN_S, PROBE_MAX_S)
            self.due = now + (pause if self._sent < PROBES else ANNOUNCE_WAIT_S)
            return [Send(Arp(REQUEST, self._mac, _NOBODY, self.candidate))]
        self.address, self._sent, self.conflicts = self.candidate, 0, 0
        return [Take(self.address), self._announce(now)]

    def heard(self, packet: Arp, now: float) -> list[Action]:
        """What is to be done about a packet from this network."""
        if packet.sender == self._mac:
            return []
        theirs = packet.sender_ip == self.candidate
        if not self.address:
            if theirs or (packet.probe and packet.target_ip == self.candidate):
                self._conflict(now)
            return []
        if not theirs:
            return []  # A probe for it is answered by the kernel, whose address it is.
        if self._defended is None or now - self._defended >= DEFEND_S:
            self._defended = now
            return [Send(Arp(REQUEST, self._mac, self.address, self.address))]
        lost, self.address = self.address, ""
        self._conflict(now)
        return [Yield(lost)]

    def _announce(self, now: float) -> Send:
        self._sent += 1
        self.due = now + ANNOUNCE_EACH_S if self._sent < ANNOUNCEMENTS else None
        return Send(Arp(REQUEST, self._mac, self.address, self.address))

    def _conflict(self, now: float) -> None:
        self.conflicts += 1
        late = RATE_LIMIT_S if self.conflicts > MAX_CONFLICTS else 0.0
        self._begin(now + late, self._another())

    def _begin(self, at: float, candidate: str) -> None:
        self.candidate, self._sent, self._defended = candidate, 0, None
        self.due = at + self._draw.uniform(0, PROBE_WAIT_S)

    def _another(self) -> str:
        while True:
            found = str(ipaddress.IPv4Address(self._draw.randint(_FIRST, _LAST)))
            if found != self.candidate:
                return found


def claimable(address: str) -> bool:
    """Whether it is one of those that may be claimed (section 2.1)."""
    try:
        return _FIRST <= int(ipaddress.IPv4Address(address)) <= _LAST
    except ValueError:
        return False
