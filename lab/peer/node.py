"""A node: its services, and the peer with its way to others, wherever the host is just now."""

from __future__ import annotations

import asyncio
import ipaddress
import sys
from dataclasses import replace
from typing import Any

from lab.peer.control import ControlServer
from lab.peer.endpoint import Endpoint
from lab.peer.events import emit
from lab.peer.identity import Identity
from lab.peer.lan.neighbours import Neighbours
from lab.peer.record import Record
from lab.peer.rendezvous.client import RendezvousClient
from lab.peer.roaming import AddressWatch, here, with_present
from lab.peer.servers import Closable, serve
from lab.peer.session.sessions import Sessions
from lab.peer.settings import Settings
from lab.peer.traversal.attempts import Attempts
from lab.peer.traversal.lan import NAME as LAN
from lab.peer.traversal.signalling import Signalling
from lab.peer.traversal.signals import Offer
from lab.peer.volunteer.candidate import Candidate

REGISTER_S = 10.0
"""How long a peer waits to be registered before it is ready without; it goes on trying."""


class Node:
    """Everything that runs in this process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._services: list[Closable] = []
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
        if not self._settings.addresses:
            # Nobody gives any here: what the host has, it has claimed.
            claimed = tuple(
                a for a in here() if ":" not in a and ipaddress.ip_address(a).is_link_local
            )
            self._told = self._settings = replace(self._settings, addresses=claimed)
        settings = self._settings
        await serve(settings, self._services)
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
            print("lab.peer: without LAB_RENDEZVOUS only peers nearby are found", file=sys.stderr)
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
            await neighbours.settle_at(*self._settings.lan_addresses)
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
            self._attempts.answers.offered(sender, key, offer, size)

    def _offered(self, *offer: Any) -> None:
        if self._attempts:
            self._attempts.answers.offered(*offer)


def _announce(event: dict[str, Any]) -> None:
    emit(**event)


def _answered(record: Record) -> None:
    emit("answered", record=record.to_json())
