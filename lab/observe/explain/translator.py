"""NAT64 on a packet's way: addresses that stand for IPv4, and a router passed twice as one stop.

A router with NAT64 hands a packet to its translator by a device, `lab.plan.names.NAT64`,
and has it back by the same one in the other family (`lab.plan.translation`).
To people it is one translation, of IPv6 inside to IPv4 outside.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from lab.observe.explain.stops import Stop
from lab.peer.endpoint import Endpoint
from lab.plan.model import Plan
from lab.plan.names import NAT64

_WELL_KNOWN = "64:ff9b::/96"
_PREFIX_LENGTH = 96


def prefixes(*plans: Plan) -> tuple[str, ...]:
    """The prefixes behind which hosts of `plans` find IPv4, each of 96 bits."""
    nodes = (node for plan in plans for node in plan.nodes)
    return tuple(dict.fromkeys(node.nat64.prefix for node in nodes if node.nat64))


def plain(endpoint: Endpoint, known: Iterable[str]) -> Endpoint:
    """The IPv4 endpoint that `endpoint` stands for behind one of the prefixes `known`, or itself.

    RFC 6052, section 2.2: with 96 bits, the last 32 are the IPv4 address.
    """
    if endpoint.family == 4:
        return endpoint
    number = int(ipaddress.IPv6Address(endpoint.address))
    for prefix in known:
        network = ipaddress.IPv6Network(prefix)
        if number >> (128 - _PREFIX_LENGTH) == int(network.network_address) >> 32:
            return Endpoint(str(ipaddress.IPv4Address(number & 0xFFFFFFFF)), endpoint.port)
    return endpoint


def joined(stops: list[Stop]) -> list[Stop]:
    """`stops` of one packet, with each passage to a translator and back as one stop."""
    found: list[Stop] = []
    for stop in stops:
        last = found[-1] if found else None
        if last is not None and last.node == stop.node and last.went_by == stop.came_by == NAT64:
            found[-1] = Stop(
                node=stop.node,
                came=last.came or last.went,
                came_ns=last.came_ns or last.went_ns,
                came_by=last.came_by,
                went=stop.went,
                went_ns=stop.went_ns,
                went_by=stop.went_by,
                traced=last.traced and stop.traced,
                decisions=(*last.decisions, *stop.decisions),
                dropped_by=stop.dropped_by,
                led_by=stop.led_by,
            )
        else:
            found.append(stop)
    return found


def refusal(stop: Stop, known: Iterable[str]) -> str:
    """Why the translator of a router did not give a packet back, as far as it is known."""
    packet = stop.went or stop.packet
    target = plain(packet.destination, known)
    if target.family == 4 and target != packet.destination:
        inner = ipaddress.IPv4Address(target.address)
        begins = int(ipaddress.IPv6Address(packet.destination.address)) >> 32
        well_known = begins == int(ipaddress.IPv6Network(_WELL_KNOWN).network_address) >> 32
        if inner.is_private and well_known:
            return f"{_WELL_KNOWN} may not stand for the private {target.address} (RFC 6052)"
    return f"its NAT64 translates nothing to {target.address}"
