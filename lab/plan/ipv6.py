"""IPv6 addresses and prefixes as numbers, like those of IPv4 in `ipv4`."""

from __future__ import annotations

import socket

from lab.plan.ipv4 import Prefix, address_number

LAN_LENGTH = 64
"""Of every subnet (RFC 4291, section 2.5.1)."""


class Prefix6(Prefix):
    """A block of IPv6 addresses."""

    __slots__ = ()

    @classmethod
    def bits(cls) -> int:
        """How many bits an address has."""
        return 128

    @classmethod
    def number(cls, text: str) -> int:
        """The number of an address; ValueError if `text` isn't one."""
        try:
            return int.from_bytes(socket.inet_pton(socket.AF_INET6, text), "big")
        except OSError as error:
            raise ValueError(text) from error

    @classmethod
    def text(cls, address: int) -> str:
        """An address as RFC 5952 has it."""
        return socket.inet_ntop(socket.AF_INET6, address.to_bytes(16, "big"))

    def lan(self) -> Prefix6:
        """The first subnet in it."""
        return Prefix6(self.first, LAN_LENGTH)

    def contains(self, other: Prefix6) -> bool:
        """Whether all of `other` is in it."""
        return self.first <= other.first and other.last <= self.last


def mapped(address: str, prefix: str) -> str:
    """The IPv4 `address` behind a NAT64 `prefix` of 96 bits (RFC 6052, section 2.2)."""
    return Prefix6.text(Prefix6.parse(prefix).first | address_number(address))
