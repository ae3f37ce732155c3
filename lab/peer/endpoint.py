"""Transport addresses: what a socket is bound to, and where packets go."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple


class Endpoint(NamedTuple):
    """An IP address and a port; compares equal to the pair that a socket reports."""

    address: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """The endpoint written `1.2.3.4:5` or `[::1]:5`; ValueError if it is not one."""
        host, colon, port = text.rpartition(":")
        if not colon or not (port.isascii() and port.isdigit()) or len(port) > 5:
            raise ValueError(f"not an address and port: {text[:80]!r}")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        number = int(port)
        if number > 0xFFFF:
            raise ValueError(f"no such port: {number}")
        return cls(str(ipaddress.ip_address(host)), number)

    @property
    def sendable(self) -> bool:
        """Whether one host may be sent packets there (no multicast, no port 0)."""
        ip = ipaddress.ip_address(self.address)
        broadcast = self.address == "255.255.255.255"
        return self.port > 0 and not (ip.is_multicast or ip.is_unspecified or broadcast)


def parse_list(text: str) -> tuple[Endpoint, ...]:
    """The endpoints of a comma-separated list; ValueError if one of them is none."""
    return tuple(Endpoint.parse(part.strip()) for part in text.split(",") if part.strip())
