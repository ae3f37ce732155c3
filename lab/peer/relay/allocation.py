"""What the relay remembers of one client (RFC 8656, section 3.2), and how much it may ask."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import NamedTuple

from lab.peer.endpoint import Endpoint
from lab.peer.relay.wire import CHANNEL_S, PERMISSION_S


class Client(NamedTuple):
    """The 5-tuple that an allocation belongs to."""

    transport: str
    """`udp` or `tcp`."""
    endpoint: Endpoint
    server: Endpoint


@dataclass(frozen=True, slots=True)
class Limits:
    """What the relay grants at most."""

    allocations: int = 4096
    per_user: int = 2048
    per_address: int = 1024
    """Many clients may share one address: behind a carrier's NAT all of them do."""
    permissions: int = 64
    """Per allocation; channels too."""
    lifetime_s: int = 3600
    octets_per_s: float = 12.5e6
    """Of one allocation, both directions together (100 Mbit/s), and as many at once."""
    refusals_per_s: float = 200.0
    """Answers to one address over UDP that are no yes; twice as many at once."""
    loopback: bool = False
    """Whether peers on loopback addresses may be reached: only where all else is too."""

    def admits(self, address: str) -> bool:
        """Whether packets may be relayed to `address`."""
        ip = ipaddress.ip_address(address)
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
            return False  # the same address by another name
        if ip.is_multicast or ip.is_unspecified or address == "255.255.255.255":
            return False
        return self.loopback or not ip.is_loopback


@dataclass(slots=True)
class Allocation:
    """A relayed endpoint and who may use it; times are those of the caller's clock."""

    client: Client
    user: str
    key: bytes
    relayed: Endpoint
    expires_at: float
    transaction: bytes
    """Of the Allocate request: the same request again gets the same answer."""
    permissions: dict[str, float] = field(default_factory=dict)
    channels: dict[int, tuple[Endpoint, float]] = field(default_factory=dict)
    peers: dict[Endpoint, int] = field(default_factory=dict)

    def permits(self, address: str, now: float) -> bool:
        """Whether packets from and to `address` are relayed at `now`."""
        return self.permissions.get(address, 0.0) > now

    def permit(self, address: str, now: float) -> None:
        """Install or refresh a permission (section 9.2)."""
        self.permissions[address] = now + PERMISSION_S

    def channel_to(self, peer: Endpoint, now: float) -> int | None:
        """The channel bound to `peer`, if it lives."""
        number = self.peers.get(peer)
        if number is None or self.channels[number][1] <= now:
            return None
        return number

    def bind(self, number: int, peer: Endpoint, now: float) -> bool:
        """Bind or refresh a channel; False if it or the peer is bound otherwise (12.2)."""
        bound = self.channels.get(number)
        if bound is not None and bound[0] != peer:
            return False
        if self.peers.get(peer, number) != number:
            return False
        self.channels[number] = (peer, now + CHANNEL_S)
        self.peers[peer] = number
        self.permit(peer.address, now)
        return True

    def prune(self, now: float) -> None:
        """Forget what has expired."""
        self.permissions = {a: t for a, t in self.permissions.items() if t > now}
        for number, (peer, until) in tuple(self.channels.items()):
            if until <= now:
                del self.channels[number]
                del self.peers[peer]
