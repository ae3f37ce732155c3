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
    def family(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.address else 4

    @property
    def sendable(self) -> bool:
        """Whether one host may be sent packets there.

        No multicast, no port 0, and nothing that only a link knows: an IPv6
        address of that kind says nothing to who isn't told which link.
        """
        ip = ipaddress.ip_address(self.address)
        if self.port == 0 or ip.is_multicast or ip.is_unspecified:
            return False
        return not ip.is_link_local if ip.version == 6 else self.address != "255.255.255.255"


def parse_list(text: str) -> tuple[Endpoint, ...]:
    """The endpoints of a comma-separated list; ValueError if one of them is none."""
    return tuple(Endpoint.parse(part.strip()) for part in text.split(",") if part.strip())
