"""The client's half of TURN (RFC 8656), as a machine.

The caller says what it wants (`allocate`, `permit`, `bind`, `send`,
`release`); what came of it stands in the attributes.  Allocation, permissions
and channels are refreshed for as long as the machine is ticked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lab.peer.endpoint import Endpoint
from lab.peer.machine import Datagram
from lab.peer.relay.wire import (
    CHANNEL_S,
    DEFAULT_LIFETIME_S,
    FAMILIES,
    FIRST_CHANNEL,
    LAST_CHANNEL,
    PERMISSION_S,
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
    is_stun,
    long_term_key,
    new_transaction,
    parse,
    request,
)
from lab.peer.stun.transaction import QUICK, Schedule, Transaction

KIND = "relay"
MAX_INBOX = 1024


@dataclass(slots=True)
class _Request:
    """A request under way; made again, signed, when the server asks for credentials."""

    method: Method
    attributes: dict[str, Any]
    on_success: Callable[[Message, float], None]
    transaction: Transaction
    tries: int = 1


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the relay is of no use: the server's error, or code 0 for silence."""

    code: int
    reason: str


@dataclass(slots=True)
class TurnClient:
    """One allocation on one server."""

    server: Endpoint
    user: str
    password: str
    schedule: Schedule = QUICK
    """Over TCP: `lab.peer.stun.transaction.tcp_schedule`."""
    family: int = 0
    """Of the relayed endpoint, 4 or 6; 0 leaves it to the server, which gives 4 if it can."""
    relayed: Endpoint | None = None
    """Where others can send to us; None until allocated."""
    mapped: Endpoint | None = None
    """This end, as the server sees it."""
    refusal: Refusal | None = None
    """Set when the last request to fail failed."""
    permitted: set[str] = field(default_factory=set)
    """Addresses that may send to us through the relay."""
    channels: dict[Endpoint, int] = field(default_factory=dict)
    inbox: list[tuple[Endpoint, bytes]] = field(default_factory=list)
    """Packets that came through the relay; the caller empties it."""
    released: bool = False
    _realm: str = ""
    _nonce: bytes = b""
    _key: bytes = b""
    _requests: list[_Request] = field(default_factory=list)
    _refresh: dict[str, tuple[float, Callable[[float], None]]] = field(default_factory=dict)
    _numbers: dict[Endpoint, int] = field(default_factory=dict)
    _out: list[Datagram] = field(default_factory=list)

    # --- what the caller wants ---

    def allocate(self, now: float) -> None:
        """Ask for a relayed UDP endpoint."""
        attributes: dict[str, Any] = {"REQUESTED-TRANSPORT": UDP, "LIFETIME": DEFAULT_LIFETIME_S}
        # Servers of RFC 5766 know no families: nothing is said where nothing has to be.
        for number, family in FAMILIES.items():
            if family == self.family != 4:
                attributes["REQUESTED-ADDRESS-FAMILY"] = number
        self._ask(Method.ALLOCATE, attributes, self._allocated, now)

    def permit(self, address: str, now: float) -> None:
        """Let the host at `address` send through the relay (section 9)."""

        def done(response: Message, when: float) -> None:
            self.permitted.add(address)
            again = when + PERMISSION_S * 0.8
            self._refresh[f"permission {address}"] = (again, lambda t: self.permit(address, t))

        self._ask(Method.CREATE_PERMISSION, {"XOR-PEER-ADDRESS": (address, 0)}, done, now)

    def bind(self, peer: Endpoint, now: float) -> None:
        """Use ChannelData with `peer`, which costs 4 bytes a packet instead of 36 (section 12)."""
        number = self._numbers.setdefault(peer, FIRST_CHANNEL + len(self._numbers))
        if number > LAST_CHANNEL:
            return

        def done(response: Message, when: float) -> None:
            self.permitted.add(peer.address)
            self.channels[peer] = number
            again = when + min(CHANNEL_S, PERMISSION_S) * 0.8
            self._refresh[f"channel {number}"] = (again, lambda t: self.bind(peer, t))

        attributes = {"CHANNEL-NUMBER": number, "XOR-PEER-ADDRESS": peer}
        self._ask(Method.CHANNEL_BIND, attributes, done, now)

    def send(self, peer: Endpoint, payload: bytes) -> None:
        """Send through the relay; the server drops it unless `peer` is permitted."""
        channel = self.channels.get(peer)
        if channel is not None:
            self._post(channel_data(channel, payload))
            return
        attributes = {"XOR-PEER-ADDRESS": peer, "DATA": payload}
        indication = Message(Method.SEND, Class.INDICATION, new_transaction(), attributes)
        self._post(encode(indication))

    def release(self, now: float) -> None:
        """Give the allocation back (section 7: a Refresh with lifetime 0)."""
        self._refresh.clear()
        self._requests.clear()

        def done(response: Message, when: float) -> None:
            self.released = True

        if self.relayed:
            self._ask(Method.REFRESH, {"LIFETIME": 0}, done, now)

    # --- Machine ---

    def receive(self, data: bytes, source: Endpoint, now: float) -> str:
        if source != self.server:
            return ""
        if is_channel_data(data):
            return self._on_channel_data(data)
        if not is_stun(data):
            return ""
        try:
            message = parse(data)
        except MalformedError:
            return ""
        if message.kind is Class.INDICATION:
            return self._on_data(message)
        for entry in self._requests:
            if entry.transaction.accept(message, source):
                self._settle(entry, message, now)
                return KIND
        return ""

    def tick(self, now: float) -> None:
        for name, (when, action) in tuple(self._refresh.items()):
            if when <= now:
                del self._refresh[name]
                action(now)
        for entry in tuple(self._requests):
            entry.transaction.tick(now)
            self._out += entry.transaction.take()
            if entry.transaction.failed:
                self._requests.remove(entry)
                tries = entry.transaction.tries
                self.refusal = Refusal(0, f"no answer after {tries} tries")

    def deadline(self) -> float | None:
        due = [d for e in self._requests if (d := e.transaction.deadline()) is not None]
        due += [when for when, _ in self._refresh.values()]
        return min(due, default=None)

    def take(self) -> list[Datagram]:
        out, self._out = self._out, []
        return out

    # --- requests and what becomes of them ---

    def _ask(
        self,
        method: Method,
        attributes: dict[str, Any],
        on_success: Callable[[Message, float], None],
        now: float,
    ) -> None:
        transaction = self._transaction(method, attributes, now)
        self._requests.append(_Request(method, attributes, on_success, transaction))

    def _transaction(self, method: Method, attributes: dict[str, Any], now: float) -> Transaction:
        if self._key:
            signed = {"USERNAME": self.user, "REALM": self._realm, "NONCE": self._nonce}
            attributes = {**attributes, **signed}
        message = request(method, attributes)
        return Transaction(message, self.server, self.schedule, now, key=self._key, kind=KIND)

    def _settle(self, entry: _Request, message: Message, now: float) -> None:
        self._requests.remove(entry)
        if message.kind is Class.RESPONSE:
            entry.on_success(message, now)
            return
        code, reason = message.error or (500, "an error without a number")
        realm = message.attributes.get("REALM", self._realm)
        nonce = message.attributes.get("NONCE", b"")
        # A 401 to a signed request means that the credentials are wrong.
        fresh = (code == 401 and not self._key) or code == 438
        if fresh and nonce and entry.tries < 3 and self.user:
            self._realm, self._nonce = realm, nonce
            self._key = long_term_key(self.user, realm, self.password)
            entry.transaction = self._transaction(entry.method, entry.attributes, now)
            entry.tries += 1
            self._requests.append(entry)
            return
        self.refusal = Refusal(code, reason[:200])

    def _allocated(self, response: Message, now: float) -> None:
        relayed = response.endpoint("XOR-RELAYED-ADDRESS")
        if relayed is None:
            self.refusal = Refusal(500, "an allocation without an address")
            return
        self.relayed = relayed
        self.mapped = response.endpoint("XOR-MAPPED-ADDRESS")
        self._plan_refresh(response, now)

    def _refreshed(self, response: Message, now: float) -> None:
        self._plan_refresh(response, now)

    def _plan_refresh(self, response: Message, now: float) -> None:
        lifetime = int(response.attributes.get("LIFETIME", DEFAULT_LIFETIME_S))

        def again(when: float) -> None:
            attributes = {"LIFETIME": DEFAULT_LIFETIME_S}
            self._ask(Method.REFRESH, attributes, self._refreshed, when)

        self._refresh["allocation"] = (now + max(1.0, lifetime * 0.8), again)

    def _on_data(self, message: Message) -> str:
        peer, data = message.endpoint("XOR-PEER-ADDRESS"), message.attributes.get("DATA")
        if message.method != Method.DATA or peer is None or data is None:
            return ""
        return self._deliver(peer, data)

    def _on_channel_data(self, data: bytes) -> str:
        parsed = parse_channel_data(data)
        if parsed is None:
            return ""
        for peer, number in self._numbers.items():
            if number == parsed[0]:
                return self._deliver(peer, parsed[1])
        return ""

    def _deliver(self, peer: Endpoint, data: bytes) -> str:
        # The server checks permissions; a client must not rely on it (section 11.4).
        if peer.address in self.permitted and len(self.inbox) < MAX_INBOX:
            self.inbox.append((peer, data))
        return KIND

    def _post(self, data: bytes) -> None:
        self._out.append(Datagram(data, self.server, KIND))
