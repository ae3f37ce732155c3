"""The internet as nodes: one core, or one for each region, joined to every other one.

Between two regions there is one link, with the delay that lies between them.
Its addresses come from the space that benchmarks have for themselves (RFC
2544, RFC 5180), and from nothing but the places of the two in the matrix: a
region more changes no address.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping

from lab.plan.ipv4 import address_text
from lab.plan.model import Interface, Node, NodeKind, Route
from lab.plan.names import core_region
from lab.topology.model import Regions

Attachment = tuple[Interface, tuple[Route, ...]]
"""A core's interface to what is attached there, and the routes to what is behind that."""

_TRANSIT4 = 198 << 24 | 18 << 16
_TRANSIT6 = int(ipaddress.IPv6Address("2001:2::"))
_PLACES = 256


def core_nodes(
    attached: Mapping[str, tuple[Attachment, ...]],
    ports: Mapping[str, Mapping[str, str]],
    regions: Regions | None,
) -> Iterator[Node]:
    """The cores by name, with what is attached to each; `ports` are interface names by node."""
    for core, mine in attached.items():
        interfaces = [face for face, _ in mine]
        routes = [route for _, behind in mine for route in behind]
        for other, theirs in attached.items():
            if other == core or regions is None:
                continue
            near, far = (_transit(regions, one, to) for one, to in ((core, other), (other, core)))
            prefixes = tuple(_reached(theirs))
            six = any(":" in prefix for prefix in (*prefixes, *_reached(mine)))
            port = ports[core][other]
            interfaces.append(Interface(name=port, addresses=near if six else near[:1]))
            for prefix in prefixes:
                gateway = far[":" in prefix].partition("/")[0]
                routes.append(Route(destination=prefix, gateway=gateway, interface=port))
        yield Node(
            name=core,
            kind=NodeKind.INTERNET,
            forwarding=True,
            interfaces=tuple(interfaces),
            routes=tuple(routes),
        )


def _reached(attachments: tuple[Attachment, ...]) -> Iterator[str]:
    """The prefixes that are reached by these attachments, their own subnets first."""
    for face, routes in attachments:
        for address in face.addresses:
            yield str(ipaddress.ip_interface(address).network)
        for route in routes:
            yield route.destination


def _transit(regions: Regions, one: str, other: str) -> tuple[str, str]:
    """The IPv4 and IPv6 addresses of `one` on its link to `other`."""
    places = [regions.names.index(core_region(core)) for core in (one, other)]
    low, high = sorted(places)
    pair, end = low * _PLACES + high, int(places[0] == high)
    six = ipaddress.IPv6Address(_TRANSIT6 + (pair << 64) + 1 + end)
    return f"{address_text(_TRANSIT4 + 2 * pair + end)}/31", f"{six}/64"
