"""What a prediction knows of the two nodes that connect: addresses and services."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lab.plan.model import Node, Plan
from lab.predict.packet import Endpoint

PEER = "peer"


@dataclass(frozen=True, slots=True)
class Peer:
    """One end of a prediction, as docs/contract.md tells the program in it."""

    name: str
    addresses: tuple[str, ...]
    """IPv4 first."""
    stun: tuple[Endpoint, ...]
    """Where it asks from where its packets come: one endpoint in each family that it reaches."""
    rendezvous: tuple[Endpoint, ...]
    relay: tuple[Endpoint, ...]
    stun_sites: tuple[Endpoint, ...] = ()
    """Every IPv4 endpoint of the STUN server: each of its addresses at each of its ports."""
    relay_tls: tuple[Endpoint, ...] = ()
    """Where the relay speaks TLS."""
    web_relay: tuple[Endpoint, ...] = ()
    silent: bool = False
    """Whether what runs there is known not to be a peer."""

    @classmethod
    def of(cls, plan: Plan, name: str, addresses: tuple[str, ...]) -> Peer:
        """The peer in the node `name`, which has `addresses`.

        A node without a program is taken for one that is told what the others
        are told: somebody may run a peer in it by hand.
        """
        node = plan.node(name)
        told = _environment(plan, node)
        own = tuple(filter(None, told.get("LAB_ADDRESSES", "").split(",")))
        if node.program and set(own) <= set(addresses):
            # It may have been told one of several; a host that moved has none of them.
            addresses = own or addresses
        families = {6 if ":" in address else 4 for address in addresses}
        if "LAB_NAT64" in told:
            families.add(4)

        def reached(variable: str) -> tuple[Endpoint, ...]:
            endpoints = _endpoints(told.get(variable, ""))
            return tuple(e for e in endpoints if e.family in families) or endpoints

        roles = node.program.roles if node.program else ()
        return cls(
            name=name,
            addresses=addresses,
            stun=reached("LAB_STUN"),
            rendezvous=reached("LAB_RENDEZVOUS"),
            relay=reached("LAB_RELAY"),
            relay_tls=reached("LAB_RELAY_TLS"),
            web_relay=tuple(_listed(told.get("LAB_WEB_RELAY", ""))),
            stun_sites=_sites(told.get("LAB_STUN", "")) if 4 in families else (),
            silent=bool(roles) and PEER not in roles,
        )


def _environment(plan: Plan, node: Node) -> dict[str, str]:
    program = node.program or next((other.program for other in plan.nodes if other.program), None)
    return dict(program.env) if program else {}


def _endpoints(text: str) -> tuple[Endpoint, ...]:
    """The first endpoint of each family in a list."""
    found: dict[int, Endpoint] = {}
    for endpoint in _listed(text):
        found.setdefault(endpoint.family, endpoint)
    return tuple(found.values())


def _sites(text: str) -> tuple[Endpoint, ...]:
    """The IPv4 addresses of a list at each of its ports, in the order in which peers ask them."""
    told = [endpoint for endpoint in _listed(text) if endpoint.family == 4]
    addresses = dict.fromkeys(endpoint.address for endpoint in told)
    ports = dict.fromkeys(endpoint.port for endpoint in told)
    return tuple(Endpoint(address, port) for port in ports for address in addresses)


def _listed(text: str) -> Iterator[Endpoint]:
    for part in text.split(","):
        address, _, port = part.rpartition(":")
        if address and port.isdigit():
            yield Endpoint(address.strip("[]"), int(port))
