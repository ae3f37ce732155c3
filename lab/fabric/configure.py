"""From one configuration of a node to the next: addresses, routes, forwarding, bridge ports.

Only what differs is touched, so connections and NAT mappings of a router
outlive a change to one of its interfaces.  The kernel removes more than it is
told to: with the primary address of a subnet its secondary ones, with the
last address of an interface every route over it.  What has to stay is
therefore put again after each removal; putting what is there does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lab.errors import LabError
from lab.fabric import messages, sysctls, tun
from lab.fabric.netlink import Request, Session, index_of
from lab.fabric.settling import settle
from lab.plan.model import Interface, Node, NodeKind, Route
from lab.plan.names import NAT64

BRIDGE = "br0"
"""The bridge in the namespace of a segment."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Who is at the other end of a wire: known, so not asked for by ARP."""

    interface: str
    address: str
    mac: str


def configure(after: Node, before: Node | None, neighbours: Sequence[Neighbour] = ()) -> None:
    """Bring the calling thread's namespace from `before` to `after`.

    `before` None is a new node, whose namespace forwards as it should from its
    creation (`sysctls.settings`); what exists already is fine.  When it returns,
    what is sent goes out, and what comes is taken.  Raises LabError if an
    interface is not there or the kernel refuses.
    """
    known = {port.name: port for port in before.interfaces} if before else {}
    settings: tuple[sysctls.Setting, ...] = ()
    if before is not None and sysctls.forwarding(before) != sysctls.forwarding(after):
        settings += sysctls.forwarding(after)
    for port in after.interfaces:
        if _has_ipv6(port) and not (port.name in known and _has_ipv6(known[port.name])):
            settings += sysctls.link_local(port.name)
    sysctls.apply(settings, after.name)
    if after.nat64:
        tun.ensure(NAT64)
    indexes = _indexes(after)
    requests = differences(after, before, indexes)
    requests += [
        messages.put_neighbour(indexes[it.interface], it.address, it.mac, it.interface)
        for it in neighbours
    ]
    if before is not None and before.nat64 and not after.nat64:
        requests.append(messages.delete_link(NAT64))
    if requests:
        with Session() as session:
            session.demand(requests, after.name)
    settle(
        [indexes[port.name] for port in after.interfaces if port.name not in known],
        [address for port in after.interfaces for address in _new_ipv6(port, known)],
        after.name,
    )


def differences(after: Node, before: Node | None, indexes: Mapping[str, int]) -> list[Request]:
    """The requests that bring `before` to `after`, in order; pure.

    `indexes` are those of the interfaces of `after`, and of the bridge.
    """
    known = {port.name: port for port in before.interfaces} if before else {}
    requests: list[Request] = []
    if after.kind is NodeKind.SEGMENT:
        for port in after.interfaces:
            if port.name not in known:
                requests.append(messages.enslave(port.name, indexes[BRIDGE]))
                requests.append(messages.forward(indexes[port.name], port.name))
    touched = False
    for port in after.interfaces:
        old = known.get(port.name, Interface(name=port.name))
        if port.addresses != old.addresses:
            touched = True
            requests += _readdress(port, old, indexes[port.name])
    return requests + _reroute(after, before, indexes, everything=touched)


def _readdress(port: Interface, old: Interface, index: int) -> list[Request]:
    put = [messages.put_address(index, address, port.name) for address in port.addresses]
    delete = [
        messages.delete_address(index, address, port.name)
        for address in old.addresses
        if address not in port.addresses
    ]
    return [*put, *delete, *put] if delete else put


def _reroute(
    after: Node, before: Node | None, indexes: Mapping[str, int], *, everything: bool
) -> list[Request]:
    known = before.routes if before else ()
    # A gateway is found by a route on the link, which therefore comes first.
    put = [
        messages.put_route(route.destination, route.gateway, _index(route, indexes, after))
        for route in sorted(after.routes, key=lambda route: bool(route.gateway))
        if everything or route not in known
    ]
    replaced = {route.destination for route in after.routes}
    delete = [
        messages.delete_route(route.destination, route.gateway)
        for route in known
        if route.destination not in replaced
    ]
    return put + delete


def _index(route: Route, indexes: Mapping[str, int], node: Node) -> int:
    if not route.interface:
        return 0
    try:
        return indexes[route.interface]
    except KeyError:
        raise LabError(
            f"{node.name}: the route to {route.destination} names the interface "
            f"{route.interface}, which the node has not"
        ) from None


def _indexes(node: Node) -> dict[str, int]:
    names = [port.name for port in node.interfaces]
    if node.kind is NodeKind.SEGMENT:
        names.append(BRIDGE)
    if node.nat64:
        names.append(NAT64)
    return {name: index_of(name, node.name) for name in names}


def _new_ipv6(port: Interface, known: Mapping[str, Interface]) -> list[str]:
    """The IPv6 addresses that `port` did not have."""
    old = known[port.name].addresses if port.name in known else ()
    return [address for address in port.addresses if ":" in address and address not in old]


def _has_ipv6(port: Interface) -> bool:
    return any(":" in address for address in port.addresses)
