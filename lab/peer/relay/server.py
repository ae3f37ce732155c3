"""A TURN server without its sockets (RFC 8656).

`from_client`, `from_peer`, `opened`, `gone` and `tick` are told what happened
and return what has to be done.  Served are Allocate (UDP), Refresh,
CreatePermission, ChannelBind, Send and Data, ChannelData, and plain Binding.
Not served are DONT-FRAGMENT (420) and the reservation of a second port (508).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lab.peer.endpoint import Endpoint
from lab.peer.relay.allocation import Allocation, Client, Limits
from lab.peer.relay.answers import binding, granted, refused, success
from lab.peer.relay.commands import Command, Forward, Open, Reply, Shut
from lab.peer.relay.credentials import Admitted, Gatekeeper
from lab.peer.relay.quota import Quota
from lab.peer.relay.wire import (
    DEFAULT_LIFETIME_S,
    FAMILIES,
    FIRST_CHANNEL,
    LAST_OLD_CHANNEL,
    UDP,
    channel_data,
    is_channel_data,
    parse_channel_data,
)
from lab.peer.stun.codec import (
    Class,
    MalformedError,
    Message,
    Method,
    encode,
    new_transaction,
    parse,
)

UDP_MASK = 0xFF << 24
"""The upper byte of REQUESTED-TRANSPORT is the protocol; the rest is reserved."""
RESERVE_NEXT = 1
"""EVEN-PORT's wish that the next port be kept for a second allocation."""


class _RequestError(Exception):
    """The request is answered by this error."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class RelayServer:
    """All allocations of one server, which can have addresses of `families` relayed to."""

    def __init__(
        self,
        gatekeeper: Gatekeeper,
        limits: Limits | None = None,
        families: frozenset[int] = frozenset({4}),
    ) -> None:
        self.allocations: dict[Client, Allocation] = {}
        self._families = families
        self._gate = gatekeeper
        self._limits = limits or Limits()
        self._by_relayed: dict[Endpoint, Allocation] = {}
        self._opening: dict[Client, tuple[Message, Admitted, float]] = {}
        self._quota = Quota(self._limits)
        self._methods: Mapping[int, Callable[[Client, Message, Admitted, float], list[Command]]] = {
            Method.ALLOCATE: self._allocate,
            Method.REFRESH: self._refresh,
            Method.CREATE_PERMISSION: self._create_permission,
            Method.CHANNEL_BIND: self._channel_bind,
        }

    # --- what happens ---

    def from_client(self, client: Client, data: bytes, now: float) -> list[Command]:
        """A message from a client; what is malformed gets no answer."""
        if is_channel_data(data):
            return self._channel_data(client, data, now)
        try:
            message = parse(data)
        except MalformedError:
            return []
        if message.legacy:
            return []
        if message.method == Method.BINDING:
            return binding(client, data)
        if message.kind is Class.INDICATION and message.method == Method.SEND:
            return self._send(client, message, now)
        if message.kind is Class.REQUEST:
            return self._request(client, message, now)
        return []

    def from_peer(
        self, relayed: Endpoint, peer: Endpoint, data: bytes, now: float
    ) -> list[Command]:
        """A datagram that arrived at a relayed endpoint."""
        allocation = self._by_relayed.get(relayed)
        if allocation is None or not allocation.permits(peer.address, now):
            return []
        if not self._quota.carries(allocation.relayed, data, now):
            return []
        channel = allocation.channel_to(peer, now)
        if channel is not None:
            return [Reply(allocation.client, channel_data(channel, data))]
        attributes = {"XOR-PEER-ADDRESS": peer, "DATA": data}
        indication = Message(Method.DATA, Class.INDICATION, new_transaction(), attributes)
        return [Reply(allocation.client, encode(indication))]

    def opened(self, client: Client, relayed: Endpoint | None, now: float) -> list[Command]:
        """The socket that `Open` asked for is open, or could not be (None)."""
        pending = self._opening.pop(client, None)
        if pending is None:
            return [Shut(relayed)] if relayed else []
        request, admitted, lifetime = pending
        if relayed is None:
            self._quota.give_back(admitted.user, client)
            return [refused(client, request, 508, "Insufficient Capacity", key=admitted.key)]
        allocation = Allocation(
            client, admitted.user, admitted.key, relayed, now + lifetime, request.transaction
        )
        self.allocations[client] = allocation
        self._by_relayed[relayed] = allocation
        return [granted(allocation, request, now)]

    def gone(self, client: Client) -> list[Command]:
        """A client's TCP connection has ended: so has its allocation (section 3.1)."""
        if pending := self._opening.pop(client, None):
            self._quota.give_back(pending[1].user, client)
        return self._delete(client)

    def tick(self, now: float) -> list[Command]:
        """Delete what has expired; to be called about every second."""
        commands: list[Command] = []
        for client, allocation in tuple(self.allocations.items()):
            if allocation.expires_at <= now:
                commands += self._delete(client)
            else:
                allocation.prune(now)
        return commands

    # --- requests ---

    def _request(self, client: Client, message: Message, now: float) -> list[Command]:
        handler = self._methods.get(message.method)
        if handler is None:
            return []
        admitted = self._gate.check(message, client.endpoint, now)
        if not isinstance(admitted, Admitted):
            if not self._quota.refuses(client, now):
                return []
            more: dict[str, Any] = {}
            if admitted.challenge:
                more = {"REALM": self._gate.realm, "NONCE": self._gate.nonce(client.endpoint, now)}
            return [refused(client, message, admitted.code, admitted.reason, more=more)]
        if message.unknown:
            more = {"UNKNOWN-ATTRIBUTES": message.unknown[:16]}
            return [refused(client, message, 420, "Unknown Attribute", key=admitted.key, more=more)]
        try:
            return handler(client, message, admitted, now)
        except _RequestError as error:
            return [refused(client, message, error.code, error.reason, key=admitted.key)]

    def _allocate(
        self, client: Client, message: Message, admitted: Admitted, now: float
    ) -> list[Command]:
        existing = self.allocations.get(client)
        if existing and existing.transaction == message.transaction:
            return [granted(existing, message, now)]
        if existing:
            raise _RequestError(437, "Allocation Mismatch")
        if client in self._opening:
            return []
        transport = message.attributes.get("REQUESTED-TRANSPORT")
        if transport is None:
            raise _RequestError(400, "Bad Request")
        if transport & UDP_MASK != UDP:
            raise _RequestError(442, "Unsupported Transport Protocol")
        family = self._family(message)
        if self._quota.exhausted(admitted.user, client):
            raise _RequestError(486, "Allocation Quota Reached")
        if len(self.allocations) + len(self._opening) >= self._limits.allocations:
            raise _RequestError(508, "Insufficient Capacity")
        even = message.attributes.get("EVEN-PORT")
        if even == RESERVE_NEXT:
            raise _RequestError(508, "Insufficient Capacity")
        self._opening[client] = (message, admitted, self._lifetime(message))
        self._quota.take(admitted.user, client)
        return [Open(client, even is not None, family)]

    def _refresh(
        self, client: Client, message: Message, admitted: Admitted, now: float
    ) -> list[Command]:
        allocation = self._own(client, admitted)
        if message.attributes.get("LIFETIME") == 0:
            return [success(client, message, admitted.key, {"LIFETIME": 0}), *self._delete(client)]
        lifetime = self._lifetime(message)
        allocation.expires_at = now + lifetime
        return [success(client, message, admitted.key, {"LIFETIME": int(lifetime)})]

    def _create_permission(
        self, client: Client, message: Message, admitted: Admitted, now: float
    ) -> list[Command]:
        allocation = self._own(client, admitted)
        peer = self._peer(message, allocation)
        if peer.address not in allocation.permissions:
            self._room(len(allocation.permissions))
        allocation.permit(peer.address, now)
        return [success(client, message, admitted.key)]

    def _channel_bind(
        self, client: Client, message: Message, admitted: Admitted, now: float
    ) -> list[Command]:
        allocation = self._own(client, admitted)
        peer = self._peer(message, allocation)
        number = message.attributes.get("CHANNEL-NUMBER", 0)
        if not FIRST_CHANNEL <= number <= LAST_OLD_CHANNEL:
            raise _RequestError(400, "Bad Request")
        allocation.prune(now)
        if number not in allocation.channels:
            self._room(len(allocation.channels))
        if not allocation.bind(number, peer, now):
            raise _RequestError(400, "Bad Request")
        return [success(client, message, admitted.key)]

    # --- data ---

    def _send(self, client: Client, message: Message, now: float) -> list[Command]:
        allocation = self.allocations.get(client)
        peer, data = message.endpoint("XOR-PEER-ADDRESS"), message.attributes.get("DATA")
        if allocation is None or peer is None or data is None or message.unknown:
            return []
        if not allocation.permits(peer.address, now) or not peer.sendable:
            return []
        if not self._quota.carries(allocation.relayed, data, now):
            return []
        return [Forward(allocation.relayed, peer, data)]

    def _channel_data(self, client: Client, data: bytes, now: float) -> list[Command]:
        allocation = self.allocations.get(client)
        parsed = parse_channel_data(data)
        if allocation is None or parsed is None:
            return []
        bound = allocation.channels.get(parsed[0])
        if bound is None or bound[1] <= now or not allocation.permits(bound[0].address, now):
            return []
        if not self._quota.carries(allocation.relayed, parsed[1], now):
            return []
        return [Forward(allocation.relayed, bound[0], parsed[1])]

    # --- helpers ---

    def _own(self, client: Client, admitted: Admitted) -> Allocation:
        allocation = self.allocations.get(client)
        if allocation is None:
            raise _RequestError(437, "Allocation Mismatch")
        if allocation.user != admitted.user:
            raise _RequestError(441, "Wrong Credentials")
        return allocation

    def _family(self, message: Message) -> int:
        """Of the relayed endpoint (section 7.2): IPv4 unless the client says otherwise."""
        number = message.attributes.get("REQUESTED-ADDRESS-FAMILY")
        family = min(self._families) if number is None else FAMILIES.get(number, 0)
        if family not in self._families:
            raise _RequestError(440, "Address Family not Supported")
        return family

    def _peer(self, message: Message, allocation: Allocation) -> Endpoint:
        peer = message.endpoint("XOR-PEER-ADDRESS")
        if peer is None:
            raise _RequestError(400, "Bad Request")
        if peer.family != allocation.relayed.family:
            raise _RequestError(443, "Peer Address Family Mismatch")
        if not self._limits.admits(peer.address):
            raise _RequestError(403, "Forbidden")
        return peer

    def _room(self, used: int) -> None:
        if used >= self._limits.permissions:
            raise _RequestError(508, "Insufficient Capacity")

    def _lifetime(self, message: Message) -> float:
        asked = message.attributes.get("LIFETIME", DEFAULT_LIFETIME_S)
        return float(min(max(asked, DEFAULT_LIFETIME_S), self._limits.lifetime_s))

    def _delete(self, client: Client) -> list[Command]:
        allocation = self.allocations.pop(client, None)
        if allocation is None:
            return []
        del self._by_relayed[allocation.relayed]
        self._quota.give_back(allocation.user, client)
        return [Shut(allocation.relayed)]
