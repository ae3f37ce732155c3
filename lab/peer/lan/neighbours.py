"""Finding peers on this network, and speaking to them, without a server.

Three ways to find one, asked at one time; each answer says address, port and
key.  mDNS: `<name>.local`, records A, AAAA and TXT, from 224.0.0.251:5353 and, where
there is IPv6, [ff02::fb]:5353.  LLMNR: `<name>` from 224.0.0.252:5355.  SSDP: a
search for `urn:lab:peer:<name>` at 239.255.255.250:1900.

Nobody vouches for a key here but who answers: it is trust on first use, which
suffices to find the same peer again, and to seal what is said from then on.
Signals are JSON in datagrams that are acknowledged and sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import random
import secrets
from collections.abc import Callable
from typing import Any

from lab.peer.endpoint import Endpoint
from lab.peer.identity import KEY_BYTES, Identity, from_text, to_text
from lab.peer.lan import dns
from lab.peer.lan.names import LLMNR, TARGET, Names, questions
from lab.peer.lan.said import DOMAIN, places
from lab.peer.lan.sockets import MAX_BYTES, SIGNAL_WAYS, Ear, Place, open_all, signal_way
from lab.peer.lan.telling import GROUPS
from lab.peer.portmap import ssdp
from lab.peer.rendezvous.client import RendezvousError
from lab.peer.rendezvous.frames import valid_name
from lab.peer.rendezvous.member import Message

NOT_HERE = "not-here"
"""The code of the error that a name is nobody's on this network."""
FIND_S = 0.5
"""A network of one cable answers in 0.1 s (RFC 4795, section 7); it is asked twice."""
TRIES = 4
AGAIN_S = 0.15
MAX_KNOWN = 512
_GROUPS = {**GROUPS, "llmnr": LLMNR, "ssdp": ssdp.GROUP}
CLAIM_S = 1.5
"""How long somebody takes who claims the name that is searched for."""
SETTLE_S = 3.0
"""How long to wait for a name of one's own before somebody else is asked for."""


class Neighbours:
    """A peer on its network; what `lab.peer.rendezvous.client` is beside a service."""

    def __init__(
        self,
        name: str,
        identity: Identity,
        on_message: Callable[[Message], None],
        tell: Callable[..., None],
    ) -> None:
        self.found_by: dict[str, str] = {}
        """How each peer was found first: `mdns`, `llmnr` or `ssdp`."""
        self._identity = identity
        self._on_message = on_message
        key = to_text(identity.key)
        # Hosts that are made alike draw different numbers by their keys.
        draw = random.Random(key)  # noqa: S311 - reproducible
        self._names = Names(name, key, draw, self._send_by, tell)
        self._known: dict[str, tuple[Endpoint, bytes]] = {}
        self._searches: dict[str, asyncio.Future[None]] = {}
        self._probed: set[str] = set()
        """Names that are searched for, and that somebody is about to have."""
        self._acks: dict[str, asyncio.Future[None]] = {}
        self._seen: dict[tuple[Endpoint, str], None] = {}
        self._sockets: dict[str, asyncio.DatagramTransport] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._places: tuple[Place, ...] = ()
        self._moving = asyncio.Lock()

    @property
    def registered(self) -> bool:
        return bool(self._sockets)

    @property
    def name(self) -> str:
        """What this peer is called here: as it wants, or with a number if others are."""
        return self._names.name

    def status(self) -> dict[str, object]:
        """The name, and who else said that it is here."""
        return self._names.status()

    async def settle_at(self, *addresses: str) -> None:
        """Be found at `addresses` from now on, one of a family; nowhere if no interface has any.

        Of two, the second counts if it is on the interface of the first.  Nothing
        happens if all is so already.  OSError if a port is taken.
        """
        async with self._moving:
            found = tuple(place for place in map(Place.of, addresses) if place.address)
            here = tuple(place for place in found if place.index == found[0].index)
            if here == self._places:
                return
            self.leave()
            self._places = here
            if here:
                await self._open(here)

    async def _open(self, here: tuple[Place, ...]) -> None:
        opened = open_all(here, _GROUPS)
        ports = [opened[signal_way(place.family)].getsockname()[1] for place in here]
        loop = asyncio.get_running_loop()
        for way, sock in opened.items():
            ear = functools.partial(Ear, functools.partial(self.heard, way))
            self._sockets[way], _ = await loop.create_datagram_endpoint(ear, sock=sock)
        at = zip(here, ports, strict=True)
        self._names.begin(*(Endpoint(place.address, port) for place, port in at))

    def leave(self) -> None:
        """Say goodbye to this network: nobody is known any more."""
        self._names.end()
        self._places = ()
        for transport in self._sockets.values():
            transport.close()
        self._sockets.clear()
        self._known.clear()

    def close(self) -> None:
        """Leave, for good."""
        for task in tuple(self._tasks):
            task.cancel()
        self.leave()

    # --- as a rendezvous service ---

    async def wait_registered(self, timeout_s: float) -> None:
        """There is nobody to register with."""

    async def who(self, name: str) -> bytes:
        """The key of the peer of that name; RendezvousError `not-here` if none answers."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                await self._names.settled.wait()
        loop = asyncio.get_running_loop()
        future = self._searches.setdefault(name, loop.create_future())
        self._known.pop(name, None)
        self._probed.discard(name)
        try:
            for _ in range(2):
                for data, to in questions(name):
                    self._send(data, to)
                if await _within(FIND_S / 2, future):
                    return self._known[name][1]
            # Who has just come announces itself once nobody objects.
            if name in self._probed and await _within(CLAIM_S, future):
                return self._known[name][1]
        finally:
            self._searches.pop(name, None)
        raise RendezvousError(NOT_HERE, f"nobody on this network answers to {name!r}")

    async def send(self, to: str, body: dict[str, Any]) -> int:
        """Send `body` to the peer `to`, until it is acknowledged; the bytes it took."""
        known = self._known.get(to)
        if known is None:
            raise RendezvousError(NOT_HERE, f"nobody named {to!r} was found")
        number = secrets.token_hex(8)
        data = self._frame(body, number)
        if len(data) > MAX_BYTES:
            raise RendezvousError("too-big", "the message is too long for a datagram")
        future = self._acks[number] = asyncio.get_running_loop().create_future()
        try:
            for _ in range(TRIES):
                self._send(data, known[0])
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(AGAIN_S):
                        await asyncio.shield(future)
                        return len(data)
        finally:
            del self._acks[number]
        raise RendezvousError("", f"{to} at {known[0]} does not acknowledge")

    def post(self, to: str, body: dict[str, Any]) -> int:
        """As `send`, but without waiting; 0 if the peer is not known."""
        if to not in self._known:
            return 0
        task = asyncio.get_running_loop().create_task(self._post(to, body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return len(self._frame(body, "0" * 16))

    async def _post(self, to: str, body: dict[str, Any]) -> None:
        with contextlib.suppress(RendezvousError):
            await self.send(to, body)

    # --- what comes ---

    def heard(self, way: str, data: bytes, source: Endpoint) -> None:
        """A datagram on one of the sockets."""
        if way in SIGNAL_WAYS and data[:1] == b"{":
            self._signal(data, source)
        elif data[:4] in (b"M-SE", b"HTTP", b"NOTI"):
            self._ssdp(data, source)
        else:
            self._dns(way, data, source)

    def _dns(self, way: str, data: bytes, source: Endpoint) -> None:
        try:
            message = dns.parse(data)
        except dns.MalformedError:
            return
        for record in message.claims:
            name, _, rest = record.name.partition(".")
            if rest == DOMAIN and name in self._searches:
                self._probed.add(name)
        for record in message.answers if message.response and not message.tentative else ():
            if record.type == dns.TXT and not record.goodbye:
                name, dot, rest = record.name.partition(".")
                told = dns.pairs(record.data)
                if (dot, rest) in ((".", DOMAIN), ("", "")):
                    self._found(name, list(places(told)), told.get("key"), rest)
        self._names.heard(way, message, source)

    def _ssdp(self, data: bytes, source: Endpoint) -> None:
        if target := ssdp.parse_search(data):
            self._names.searched(target, source)
            return
        said = ssdp.parse_found(data) or ssdp.parse_notice(data)
        if said is None or not said.target.startswith(TARGET):
            return
        self._names.noticed(said)
        if isinstance(said, ssdp.Found) or said.alive:
            at = {"at": said.location.removeprefix("http://").strip("/")}
            self._found(said.target[len(TARGET) :], list(places(at)), said.usn, "ssdp")

    def _found(self, name: str, at: list[Endpoint], key: str | None, way: str) -> None:
        search = self._searches.get(name)
        if search is None or search.done():
            return
        try:
            theirs = from_text(key, KEY_BYTES)
        except (ValueError, TypeError):
            return
        there = [one for one in at if one.sendable and signal_way(one.family) in self._sockets]
        if not there:
            return
        self._known[name] = there[0], theirs
        self.found_by[name] = {DOMAIN: "mdns", "": "llmnr"}.get(way, way)
        search.set_result(None)

    def _signal(self, data: bytes, source: Endpoint) -> None:
        try:
            said = json.loads(data)
            if ack := said.get("ack"):
                future = self._acks.get(ack)
                if future and not future.done():
                    future.set_result(None)
                return
            number, sender, body = said["id"], said["from"], said["body"]
            key = from_text(said["key"], KEY_BYTES)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return
        if not isinstance(body, dict) or not valid_name(sender) or not isinstance(number, str):
            return
        self._send(json.dumps({"ack": number[:32]}).encode(), source)
        if (source, number) in self._seen:
            return
        self._seen[source, number] = None
        if len(self._seen) > MAX_KNOWN:
            del self._seen[next(iter(self._seen))]
        # Answers go to where it came from, unless that name is known by another key.
        known = self._known.get(sender)
        if (known is None or known[1] == key) and len(self._known) < MAX_KNOWN:
            self._known[sender] = source, key
        self._on_message(Message(sender, key, body, len(data)))

    # --- what goes out ---

    def _frame(self, body: dict[str, Any], number: str) -> bytes:
        key = to_text(self._identity.key)
        frame = {"id": number, "from": self.name, "key": key, "body": body}
        return json.dumps(frame, separators=(",", ":")).encode()

    def _send(self, data: bytes, to: Endpoint) -> None:
        self._send_by(signal_way(to.family), data, to)

    def _send_by(self, way: str, data: bytes, to: Endpoint) -> None:
        # There is none while the host is between two networks.
        if transport := self._sockets.get(way):
            transport.sendto(data, to)


async def _within(seconds: float, future: asyncio.Future[None]) -> bool:
    """Whether `future`, which goes on, is done within that time."""
    await asyncio.wait([future], timeout=seconds)
    return future.done()
