"""Packets of a prediction, and what becomes of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import NamedTuple

UDP, TCP = "udp", "tcp"


class Endpoint(NamedTuple):
    """An IP address and a port."""

    address: str
    port: int

    @property
    def family(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.address else 4

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.family == 6 else self.address
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Packet:
    """What is left of a packet when only its way matters."""

    protocol: str
    source: Endpoint
    destination: Endpoint

    @property
    def family(self) -> int:
        """4 or 6."""
        return self.destination.family

    @property
    def key(self) -> tuple[str, Endpoint, Endpoint]:
        """What tells flows apart."""
        return self.protocol, self.source, self.destination

    def moved(self, source: Endpoint, destination: Endpoint) -> Packet:
        """The packet with other addresses: what a NAT makes of it."""
        return replace(self, source=source, destination=destination)


class Why(Enum):
    """What stops a packet."""

    FILTERED = auto()
    """A NAT's filter does not admit its source to the mapping that it is addressed to."""
    UNMAPPED = auto()
    """A NAT has no mapping at the port that it is addressed to."""
    NO_HAIRPIN = auto()
    """It comes from the inside of a NAT that does not turn packets around."""
    UNTRANSLATED = auto()
    """It is addressed past a NAT, to an inside address."""
    OUTBOUND = auto()
    """A firewall lets no such packet out."""
    INBOUND = auto()
    """A firewall lets no such packet in."""
    CAPTIVE = auto()
    """A captive portal holds back who has not accepted its page."""
    NO_ROUTE = auto()
    """Nothing leads to its destination from there."""
    STRANGER = auto()
    """It reaches somebody else, who has the same address."""


@dataclass(frozen=True, slots=True)
class Step:
    """A NAT on a packet's way that gave it another source."""

    at: str
    source: Endpoint
    """From there on."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A packet that goes no further."""

    why: Why
    at: str
    """The node that stops it."""
    packet: Packet
    """As that node sees it."""
    trail: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Arrived:
    """A packet that reached a host."""

    at: str
    packet: Packet
    """As the host sees it."""
    trail: tuple[Step, ...] = ()
    entered: tuple[str, ...] = ()
    """The NATs that let it in, outermost first."""
    turned_by: str = ""
    """The NAT that turned it around, if one did."""
    answering: tuple[str, ...] = ()
    """Routers whose firewall let it in only because its receiver had sent out before."""
