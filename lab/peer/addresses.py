"""Which of a node's own addresses may be told to others (RFC 8445, section 5.1.1.1)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from pathlib import Path

_DEPRECATED, _TENTATIVE = 0x20, 0x40
"""IFA_F_DEPRECATED and IFA_F_TENTATIVE of Linux."""


def worth_telling(addresses: Iterable[str]) -> tuple[str, ...]:
    """`addresses` without those that only their link knows, or that are on their way out or in.

    IPv6 first: it is what pairs try first where all else is equal (RFC 8421).
    """
    avoided = _avoided(Path("/proc/thread-self/net/if_inet6"))
    found = [
        address
        for address in addresses
        if ":" not in address
        or (address not in avoided and not ipaddress.ip_address(address).is_link_local)
    ]
    return tuple(sorted(found, key=lambda address: ":" not in address))


def _avoided(table: Path) -> frozenset[str]:
    """The IPv6 addresses that the kernel would not choose as a source any more, or not yet."""
    try:
        lines = table.read_text().splitlines()
    except OSError:
        return frozenset()  # There is no IPv6 here, and no address of it either.
    found = set()
    for line in lines:
        digits, _, _, _, flags, _ = line.split()
        if int(flags, 16) & (_DEPRECATED | _TENTATIVE):
            found.add(str(ipaddress.IPv6Address(bytes.fromhex(digits))))
    return frozenset(found)
