"""Names that compilation gives: interfaces, bridge ports, shared segments.

Interfaces have plain names (`eth0` in a host, `wan` and `lan` in a router), so
that people find them; those of the internet and of a segment are named after
what is attached to them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from lab import seeds
from lab.topology.model import INTERNET

HOST_UPLINK = "eth0"
WAN = "wan"
LAN = "lan"
NAT64 = "nat64"
"""The device of the translator in a router with NAT64."""
SPLICED = "ferry~"
"""How the TAP is called that stands beside an interface whose wire the ferry has taken over,
before the number of that interface; no node is called so."""
UPLINKS = frozenset({HOST_UPLINK, WAN})
"""Interfaces by which a host or a router is attached upstream."""

DEFAULT_ROUTE = "0.0.0.0/0"
DEFAULT_ROUTE6 = "::/0"

_SEGMENT_SUFFIX = ".lan"
_CORE_PREFIX = f"{INTERNET}."
_LONGEST = 15
"""IFNAMSIZ without the final zero."""

_RESERVED = frozenset(
    {
        "lo", NAT64, "br0", "bridge", ".", "..",
        # Folders of /proc/sys/net/ipv4/conf that are no interfaces.
        "all", "default",
        # Interfaces that kernel modules make in every namespace.
        "tunl0", "gre0", "gretap0", "erspan0", "sit0", "ip_vti0", "ip6_vti0", "ip6tnl0", "ip6gre0",
    }
)  # fmt: skip


def segment_name(router: str) -> str:
    """The segment that is the LAN of `router`: the dot keeps it apart from what people name."""
    return router + _SEGMENT_SUFFIX


def segment_owner(segment: str) -> str:
    """The router whose LAN `segment` is; empty if it is not the name of a segment."""
    return segment.removesuffix(_SEGMENT_SUFFIX) if segment.endswith(_SEGMENT_SUFFIX) else ""


def core_name(region: str) -> str:
    """The part of the internet that is in `region`; the internet itself without one."""
    return f"{INTERNET}.{region}" if region else INTERNET


def core_region(core: str) -> str:
    """The region of a part of the internet; empty for another node."""
    return core.removeprefix(_CORE_PREFIX) if core.startswith(_CORE_PREFIX) else ""


def upstream_name(node: str) -> str:
    """What somebody whose link leads to `node` is attached to: a router, or the internet."""
    return INTERNET if core_region(node) else segment_owner(node) or node


def port_names(nodes: Sequence[str]) -> dict[str, str]:
    """An interface name for each of `nodes`: its own name where that is possible.

    Longer ones keep their head and tail around a digest ("subsc-1f0c-0042").
    The result for a node does not depend on the others, unless digests clash.
    """
    ports = {name: name for name in nodes if _possible(name)}
    taken = set(ports)
    for name in nodes:
        if name in ports:
            continue
        salt = ""
        while (port := _shortened(name, salt)) in taken:
            salt += "+"
        taken.add(port)
        ports[name] = port
    return ports


def _possible(name: str) -> bool:
    return len(name.encode()) <= _LONGEST and name not in _RESERVED


def _shortened(name: str, salt: str) -> str:
    digest = hashlib.blake2b((name + salt).encode(), digest_size=2).hexdigest()
    plain = name if name.isascii() else ""
    return f"{plain[:5] or 'x'}-{digest}{plain[5:][-5:]}"


class Macs:
    """Locally administered MAC addresses, each a function of the names it belongs to."""

    def __init__(self) -> None:
        self._given: set[int] = set()

    def give(self, node: str, interface: str) -> str:
        """The address of an interface, unique among those given."""
        number, salt = _mac(node, interface), 0
        while number in self._given:
            salt += 1
            number = _mac(node, interface, str(salt))
        self._given.add(number)
        text = f"{number:010x}"
        return f"02:{text[:2]}:{text[2:4]}:{text[4:6]}:{text[6:8]}:{text[8:]}"


def _mac(*purpose: str) -> int:
    return seeds.derive(0, "mac", *purpose) & 0xFFFFFFFFFF
