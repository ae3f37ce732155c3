"""The program inside a node: its roles in one event loop (docs/contract.md)."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import json
import os
import signal
import sys
from dataclasses import replace
from typing import Any, Protocol

from lab.peer.control import ControlServer
from lab.peer.endpoint import Endpoint
from lab.peer.identity import Identity
from lab.peer.lan.autoip import LinkLocal
from lab.peer.lan.neighbours import Neighbours
from lab.peer.record import Record
from lab.peer.relay.allocation import Limits
from lab.peer.relay.credentials import Gatekeeper
from lab.peer.relay.server import RelayServer
from lab.peer.relay.service import RelayService
from lab.peer.rendezvous.client import RendezvousClient, RendezvousError
from lab.peer.rendezvous.service import RendezvousService
from lab.peer.roaming import AddressWatch, here, with_present
from lab.peer.session.sessions import Sessions
from lab.peer.settings import (
    RENDEZVOUS_PORT,
    STUN_PORT,
    Settings,
    SettingsError,
    UnsupportedRoleError,
    from_environment,
)
from lab.peer.stun.responder import Site
from lab.peer.stun.service import StunService
from lab.peer.traversal.attempts import Attempts
from lab.peer.traversal.lan import NAME as LAN
from lab.peer.traversal.signalling import Signalling
from lab.peer.traversal.signals import Offer
from lab.peer.volunteer.candidate import Candidate
from lab.peer.web.relay import WebRelay

REGISTER_S = 10.0
"""How long a peer waits to be registered before it is ready without; it goes on trying."""
UNSUPPORTED = 127


def run() -> int:
    """Serve until SIGTERM; the exit code.

    Reads the environment of the contract, writes JSON lines to standard
    output.  0 after SIGTERM or SIGINT, 1 if a role cannot be served, 2 if the
    environment is wrong, 127 if a role is not supported.
    """
    try:
        settings = from_environment(os.environ)
    except UnsupportedRoleError as error:
        return _fail(str(error), UNSUPPORTED)
    except SettingsError as error:
        return _fail(str(error), 2)
    try:
        return asyncio.run(_serve(settings))
    except (OSError, RendezvousError, SettingsError) as error:
        return _fail(str(error), 1)
    except KeyboardInterrupt:
        return 0


def emit(event: str, **more: Any) -> None:
    """Write one JSON line of the contract.

    Raises OSError if it is `ready` that finds no space: who waits for it would
    wait in vain.
    """
    line = json.dumps({"event": event, **more}, separators=(",", ":")) + "\n"
    try:
        sys.stdout.write(line)
        sys.stdout.flush()
    except OSError as error:
        # Nobody may be listening any more; peers go on without.
        if event == "ready" and error.errno == errno.ENOSPC:
            raise


def _fail(reason: str, code: int) -> int:
    emit("failed", reason=reason)
    print(f"lab.peer: {reason}", file=sys.stderr, flush=True)
    return code


class _Closable(Protocol):
    def close(self) -> None: ...


class Node:
    """Everything that runs in this process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._services: list[_Closable] = []
        self._told = settings
        self._attempts: Attempts | None = None
        self._sessions: Sessions | None = None
        self._control: ControlServer | None = None
        self._client: RendezvousClient | None = None
        self._client_task: asyncio.Task[None] | None = None
        self._candidate: Candidate | None = None
        self._neighbours: Neighbours | None = None
        self._moves: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Serve every role; returns when all of them do."""
        await self._claim()
        settings = self._settings
        if "stun" in settings.roles:
            for site in stun_sites(settings):
                stun = StunService(site)
                await stun.start()
                self._services.append(stun)
        if "rendezvous" in settings.roles:
            port = settings.rendezvous[0].port if settings.rendezvous else RENDEZVOUS_PORT
            rendezvous = RendezvousService()
            await rendezvous.start(settings.addresses, port)
            self._services.append(rendezvous)
        if "relay" in settings.roles:
            await self._start_relay()
        if "web-relay" in settings.roles:
            await self._start_web_relay()
        if "peer" in settings.roles:
            await self._start_peer()
        settings.folder.mkdir(parents=True, exist_ok=True)
        self._control = ControlServer(
            settings.folder / "control.sock", self._attempts, self._sessions, self.status
        )
        await self._control.start()
        if self._client:
            # A peer that the network keeps from the service is one all the same: its
            # attempts say why they fail.
            await self._client.settled(REGISTER_S)

    async def close(self) -> None:
        """End everything, in the order in which it depends on each other."""
        if self._control:
            await self._control.close()
        if self._sessions:
            await self._sessions.close()
        if self._attempts:
            await self._attempts.close()
        if self._client_task:
            self._client_task.cancel()
            await asyncio.gather(self._client_task, return_exceptions=True)
        for service in self._services:
            service.close()

    def status(self) -> dict[str, Any]:
        """The answer to the order `status`."""
        client = self._client
        return {
            "node": self._settings.node,
            "roles": list(self._settings.roles),
            "registered": client.registered if client else False,
            "trouble": client.trouble if client else "",
            "sessions": self._attempts.running if self._attempts else [],
            "kept": self._sessions.running if self._sessions else [],
            **({"volunteer": self._candidate.status()} if self._candidate else {}),
            **({"lan": self._neighbours.status()} if self._neighbours else {}),
        }

    async def _claim(self) -> None:
        """Come by an address, where there is none and one may be claimed."""
        settings = self._settings
        if settings.addresses:
            return
        there = tuple(a for a in here() if ipaddress.ip_address(a).is_link_local and ":" not in a)
        if not settings.link_local:
            # Somebody claims one for this host, and defends it.
            self._told = self._settings = replace(settings, addresses=there)
            return
        # A program that starts again finds what it had.
        first = (*there, settings.link_local_first)[0]
        own = LinkLocal(settings.link_local, settings.seed, first, self._claimed)
        self._services.append(own)
        await own.start()

    def _claimed(self, address: str) -> None:
        before = self._settings
        self._told = self._settings = replace(before, addresses=(address,))
        if not before.addresses:
            return
        emit("readdressed", addresses=[address])
        self._follow_network()
        if self._attempts:
            self._attempts.settings = self._settings
        if self._sessions:
            self._sessions.moved(frozenset(before.addresses))

    async def _start_web_relay(self) -> None:
        settings = self._settings
        addresses = _addresses(settings)
        ports = {e.port for e in settings.web_relays if e.address in addresses} or {80}
        user, password = settings.relay_user, settings.relay_password
        if not user or not password:
            raise SettingsError("the role web-relay needs LAB_RELAY_USER and LAB_RELAY_PASSWORD")
        relay = WebRelay(user, password)
        await relay.start(addresses, tuple(sorted(ports)))
        self._services.append(relay)

    async def _start_relay(self) -> None:
        settings = self._settings
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
        self._services.append(relay)

    async def _start_peer(self) -> None:
        settings = self._settings
        settings.folder.mkdir(parents=True, exist_ok=True)
        identity = Identity.load(settings.folder / "identity.key")
        signalling = Signalling(identity, self._offered)
        self._attempts = Attempts(settings, signalling, _answered)
        self._sessions = Sessions(self._attempts, _announce)
        self._follow_addresses()
        await self._start_nearby(identity)
        if not settings.rendezvous:
            print("lab.peer: LAB_RENDEZVOUS is not set: no peer can be found", file=sys.stderr)
            return
        self._client = RendezvousClient(
            settings.reachable(settings.rendezvous) or settings.rendezvous,
            settings.node,
            identity,
            signalling.deliver,
            source=self._source,
            nat64=settings.nat64,
            proxy=settings.proxy,
            on_state=self._registration,
        )
        signalling.client = self._client
        await self._start_candidate(identity, signalling)
        self._client_task = asyncio.get_running_loop().create_task(self._client.run())

    def _follow_addresses(self) -> None:
        """Go on with the addresses that the host has, should they change."""
        watch = AddressWatch(self._readdressed)
        try:
            watch.start()
        except OSError as error:
            print(f"lab.peer: not told of other addresses: {error}", file=sys.stderr)
            return
        self._services.append(watch)

    def _source(self, server: Endpoint) -> str:
        return self._settings.source(server)

    def _readdressed(self) -> None:
        settings, before = with_present(self._told, here()), self._settings
        if settings.addresses == before.addresses:
            self._follow_network()
            return
        emit("readdressed", addresses=list(settings.addresses))
        self._settings = settings
        self._follow_network()
        if self._attempts:
            self._attempts.settings = settings
        if self._client:
            self._client.renew()
        if self._sessions:
            self._sessions.moved(frozenset(before.addresses) - frozenset(settings.addresses))

    async def _start_nearby(self, identity: Identity) -> None:
        """Be found on this network, and on the one that the host comes to."""
        if not self._attempts:
            return
        signalling = Signalling(identity, self._offered_nearby)
        wanted = self._settings.lan_name or self._settings.node
        self._neighbours = Neighbours(wanted, identity, signalling.deliver, emit)
        self._services.append(self._neighbours)
        signalling.client = self._neighbours
        self._attempts.nearby = signalling
        await self._stay_nearby(self._neighbours)

    async def _stay_nearby(self, neighbours: Neighbours) -> None:
        """Be found where this host is now; a peer that can't be is one all the same."""
        try:
            await neighbours.settle_at(self._settings.lan_address)
        except OSError as error:
            print(f"lab.peer: not to be found on the LAN: {error}", file=sys.stderr)

    def _follow_network(self) -> None:
        """The same address elsewhere is another network too, so this comes with every change."""
        if self._neighbours:
            task = asyncio.get_running_loop().create_task(self._stay_nearby(self._neighbours))
            self._moves.add(task)
            task.add_done_callback(self._moves.discard)

    async def _start_candidate(self, identity: Identity, signalling: Signalling) -> None:
        """Stand for election as a relay; a peer that can't is one all the same."""
        settings = self._settings
        if not settings.volunteer or not self._client or not settings.addresses:
            return
        candidate = Candidate(settings.volunteer, identity, self._client, settings.addresses)
        self._services.append(candidate)
        try:
            await candidate.start()
        except OSError as error:
            print(f"lab.peer: no relay for others: {error}", file=sys.stderr)
            return
        self._candidate = candidate
        signalling.carrier = candidate.carry

    def _registration(self, trouble: str) -> None:
        if trouble:
            emit("unregistered", reason=trouble)
            return
        emit("registered")
        if self._candidate:
            self._candidate.registered()

    def _offered_nearby(self, sender: str, key: bytes, offer: Offer, size: int) -> None:
        # Nobody vouches for a neighbour: what else there is goes by the service.
        if self._attempts and offer.technique == LAN:
            self._attempts.offered(sender, key, offer, size)

    def _offered(self, *offer: Any) -> None:
        if self._attempts:
            self._attempts.offered(*offer)


async def _serve(settings: Settings) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    node = Node(settings)
    try:
        start, stopped = loop.create_task(node.start()), loop.create_task(stop.wait())
        await asyncio.wait((start, stopped), return_when=asyncio.FIRST_COMPLETED)
        if start.done():
            start.result()
            emit("ready", roles=list(settings.roles))
            await stopped
        start.cancel()
        return 0
    finally:
        await node.close()


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


def _announce(event: dict[str, Any]) -> None:
    emit(**event)


def _answered(record: Record) -> None:
    emit("answered", record=record.to_json())
