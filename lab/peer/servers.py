"""The services that a node offers to others, by its roles: STUN, rendezvous, relay, web relay."""

from __future__ import annotations

import ipaddress
from typing import Protocol

from lab.peer.endpoint import Endpoint
from lab.peer.relay.allocation import Limits
from lab.peer.relay.credentials import Gatekeeper
from lab.peer.relay.server import RelayServer
from lab.peer.relay.service import RelayService
from lab.peer.rendezvous.service import RendezvousService
from lab.peer.settings import RENDEZVOUS_PORT, STUN_PORT, Settings, SettingsError
from lab.peer.stun.responder import Site
from lab.peer.stun.service import StunService
from lab.peer.web.relay import WebRelay


class Closable(Protocol):
    """What runs until it is closed."""

    def close(self) -> None: ...


async def serve(settings: Settings, services: list[Closable]) -> None:
    """Start every service of the node; each is in `services` once it listens.

    OSError if a port is taken, SettingsError if a role lacks what it needs.
    """
    if "stun" in settings.roles:
        for site in stun_sites(settings):
            stun = StunService(site)
            await stun.start()
            services.append(stun)
    if "rendezvous" in settings.roles:
        port = settings.rendezvous[0].port if settings.rendezvous else RENDEZVOUS_PORT
        rendezvous = RendezvousService()
        await rendezvous.start(settings.addresses, port)
        services.append(rendezvous)
    if "relay" in settings.roles:
        services.append(await _relay(settings))
    if "web-relay" in settings.roles:
        services.append(await _web_relay(settings))


async def _relay(settings: Settings) -> Closable:
    if not settings.relay_user or not settings.relay_password:
        raise SettingsError(
            "the role relay needs LAB_RELAY_USER and LAB_RELAY_PASSWORD: "
            "a relay without credentials would be open to everyone"
        )
    users = {settings.relay_user: settings.relay_password}
    addresses = tuple(own[0] for own in _by_family(settings))
    loopback = all(ipaddress.ip_address(address).is_loopback for address in addresses)
    gatekeeper = Gatekeeper(settings.lab or "lab", users)
    server = RelayServer(gatekeeper, Limits(loopback=loopback), settings.families)
    relay = RelayService(server)
    await relay.start(addresses, _port(settings.relays, settings))
    return relay


async def _web_relay(settings: Settings) -> Closable:
    addresses = _addresses(settings)
    ports = {e.port for e in settings.web_relays if e.address in addresses} or {80}
    user, password = settings.relay_user, settings.relay_password
    if not user or not password:
        raise SettingsError("the role web-relay needs LAB_RELAY_USER and LAB_RELAY_PASSWORD")
    relay = WebRelay(user, password)
    await relay.start(addresses, tuple(sorted(ports)))
    return relay


def stun_sites(settings: Settings) -> tuple[Site, ...]:
    """The endpoints of the STUN role in each address family that the node has.

    Two addresses if it has them, port and port + 1.
    """
    return tuple(_site(settings.stun, addresses) for addresses in _by_family(settings))


def _site(told: tuple[Endpoint, ...], addresses: tuple[str, ...]) -> Site:
    mine = [endpoint for endpoint in told if endpoint.address in addresses]
    if mine:
        first = mine[0]
        others = [e.address for e in mine[1:]] or [a for a in addresses if a != first.address]
        return Site(first.address, others[0] if others else "", first.port, first.port + 1)
    alternate = addresses[1] if len(addresses) > 1 else ""
    return Site(addresses[0], alternate, STUN_PORT, STUN_PORT + 1)


def _by_family(settings: Settings) -> tuple[tuple[str, ...], ...]:
    """The node's own addresses, those of IPv4 and those of IPv6; only what there is."""
    addresses = _addresses(settings)
    ipv4 = tuple(address for address in addresses if ":" not in address)
    ipv6 = tuple(address for address in addresses if ":" in address)
    return tuple(own for own in (ipv4, ipv6) if own)


def _port(service: tuple[Endpoint, ...], settings: Settings) -> int:
    """The port of a service that may be this node's own."""
    addresses = _addresses(settings)
    return next((e.port for e in service if e.address in addresses), STUN_PORT)


def _addresses(settings: Settings) -> tuple[str, ...]:
    if not settings.addresses:
        raise SettingsError("LAB_ADDRESSES is not set: a server must know where it is")
    return settings.addresses
