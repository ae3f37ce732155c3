"""Prefix translation (RFC 6296) as nftables rules: each subnet's first half for the other's."""

from __future__ import annotations

from ipaddress import IPv6Network
from typing import Any

from lab.plan.model import Nptv6

_LAN_LENGTH = 64


def words(nptv6: Nptv6) -> dict[str, Any]:
    """What the template `nptv6.nft.j2` asks for."""
    return {
        "subnets": [
            {
                "inside": inside,
                "outside": outside,
                "inside_half": _half(inside),
                "outside_half": _half(outside),
            }
            for inside, outside in nptv6.subnets
        ]
    }


def _half(subnet: str) -> str:
    """The first 64 bits, as nft writes raw payload."""
    return f"0x{int(IPv6Network(subnet).network_address) >> _LAN_LENGTH:016x}"
