"""Finding peers on this network, and speaking to them, without a server.

Three ways to find one, asked at one time; each answer says address, port and
key.  mDNS: `<name>.local`, records A and TXT, from 224.0.0.251:5353.  LLMNR:
`<name>` from 224.0.0.252:5355.  SSDP: a search for `urn:lab:peer:<name>` at
239.255.255.250:1900.

Nobody vouches for a key here but who answers: it is trust on first use, which
suffices to find the same peer again, and to seal what is said from then on.
Signals are JSON in datagrams that are acknowledged and sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import secrets
import socket
from collections.abc import Callable, Iterator
from typing import Any

from lab.peer.endpoint import Endpoint
from lab.peer.identity import KEY_BYTES, Identity, from_text, to_text
from lab.peer.lan import dns
from lab.peer.portmap import ssdp
from lab.peer.rendezvous.client import RendezvousError
from lab.peer.rendezvous.frames import valid_name
from lab.peer.rendezvous.member import Message

MDNS, LLMNR = Endpoint("224.0.0.251", 5353), Endpoint("224.0.0.252", 5355)
NOT_HERE = "not-here"
"""The code of the error that a name is nobody's on this network."""
TARGET = "urn:lab:peer:"
MAX_BYTES = 8192
FIND_S = 0.8
"""A network of one cable answers in milliseconds; it is asked twice."""
TRIES = 4
AGAIN_S = 0.15
MAX_KNOWN = 512


class Neighbours:
    """A peer on its network; what `lab.peer.rendezvous.client` is beside a service."""

    def __init__(
        self, name: str, address: str, identity: Identity, on_message: Callable[[Message], None]
    ) -> None:
        self.found_by: dict[str, str] = {}
        """How each peer was found first: `mdns`, `llmnr` or `ssdp`."""
        self._name = name
        self._address = address
        self._identity = identity
        self._on_message = on_message
        self._port = 0
        self._known: dict[str, tuple[Endpoint, bytes]] = {}
        self._searches: dict[str, asyncio.Future[None]] = {}
        self._acks: dict[str, asyncio.Future[None]] = {}
        self._seen: dict[tuple[Endpoint, str], None] = {}
        self._sockets: dict[str, asyncio.DatagramTransport] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def registered(self) -> bool:
        return bool(self._sockets)

    async def start(self) -> None:
        """Answer from now on; OSError if a port is taken."""
        for way, group in (("mdns", MDNS), ("llmnr", LLMNR), ("ssdp", ssdp.GROUP)):
            await self._open(way, _member(group, self._address))
        # Searches go out from a port of their own, and answers to them come there.
        await self._open("signal", _bound(self._address))
        self._port = self._sockets["signal"].get_extra_info("sockname")[1]

    def close(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        for transport in self._sockets.values():
            transport.close()
        self._sockets.clear()

    # --- as a rendezvous service ---

    async def wait_registered(self, timeout_s: float) -> None:
        """There is nobody to register with."""

    async def who(self, name: str) -> bytes:
        """The key of the peer of that name; RendezvousError `not-here` if none answers."""
        loop = asyncio.get_running_loop()
        future = self._searches.setdefault(name, loop.create_future())
        self._known.pop(name, None)
        try:
            for _ in range(2):
                for data, to in self._questions(name):
                    self._send(data, to)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(FIND_S / 2):
                        await asyncio.shield(future)
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
        if way == "signal" and data[:1] == b"{":
            self._signal(data, source)
        elif data[:4] in (b"M-SE", b"HTTP"):
            self._ssdp(data, source)
        else:
            self._dns(way, data, source)

    def _dns(self, way: str, data: bytes, source: Endpoint) -> None:
        try:
            message = dns.parse(data)
        except dns.MalformedError:
            return
        if message.response:
            for record in message.answers:
                if record.type == dns.TXT:
                    name, dot, rest = record.name.partition(".")
                    told = dns.pairs(record.data)
                    if (dot, rest) in ((".", "local"), ("", "")):
                        self._found(name, told.get("at"), told.get("key"), rest)
            return
        own = f"{self._name}.local" if way == "mdns" else self._name
        wanted = [kind for name, kind in message.questions if name == own.lower()]
        address = dns.Record(own, dns.A, socket.inet_aton(self._address))
        about = dns.texts(f"at={self._address}:{self._port}", f"key={to_text(self._identity.key)}")
        known = {dns.A: address, dns.TXT: dns.Record(own, dns.TXT, about)}
        answers = tuple(known[kind] for kind in dict.fromkeys(wanted) if kind in known)
        if answers:
            answer = dns.Message(message.number, response=True, answers=answers)
            if way == "llmnr":  # a response repeats the question (RFC 4795, section 2.1.1)
                answer = dns.Message(message.number, True, message.questions, answers)
            self._sockets[way].sendto(dns.encode(answer, authoritative=way == "mdns"), source)

    def _ssdp(self, data: bytes, source: Endpoint) -> None:
        if ssdp.parse_search(data) == f"{TARGET}{self._name}":
            location = f"http://{self._address}:{self._port}/"
            answer = ssdp.found(f"{TARGET}{self._name}", location, to_text(self._identity.key))
            self._sockets["ssdp"].sendto(answer, source)
            return
        found = ssdp.parse_found(data)
        if found and found.target.startswith(TARGET):
            at = found.location.removeprefix("http://").strip("/")
            self._found(found.target[len(TARGET) :], at, found.usn, "ssdp")

    def _found(self, name: str, at: str | None, key: str | None, way: str) -> None:
        search = self._searches.get(name)
        if search is None or search.done() or not at:
            return
        try:
            endpoint, theirs = Endpoint.parse(at), from_text(key, KEY_BYTES)
        except (ValueError, TypeError):
            return
        if not endpoint.sendable:
            return
        self._known[name] = endpoint, theirs
        self.found_by[name] = {"local": "mdns", "": "llmnr"}.get(way, way)
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
        self._sockets["signal"].sendto(json.dumps({"ack": number[:32]}).encode(), source)
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

    def _questions(self, name: str) -> Iterator[tuple[bytes, Endpoint]]:
        number = secrets.randbits(16)
        local = dns.Message(number, questions=((f"{name}.local", dns.TXT),))
        yield dns.encode(local), MDNS
        yield dns.encode(dns.Message(number, questions=((name, dns.TXT),))), LLMNR
        yield ssdp.search(f"{TARGET}{name}"), ssdp.GROUP

    def _frame(self, body: dict[str, Any], number: str) -> bytes:
        key = to_text(self._identity.key)
        frame = {"id": number, "from": self._name, "key": key, "body": body}
        return json.dumps(frame, separators=(",", ":")).encode()

    def _send(self, data: bytes, to: Endpoint) -> None:
        self._sockets["signal"].sendto(data, to)

    async def _open(self, way: str, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: _Ear(self, way), sock=sock)
        self._sockets[way] = transport


class _Ear(asyncio.DatagramProtocol):
    def __init__(self, neighbours: Neighbours, way: str) -> None:
        self._neighbours = neighbours
        self._way = way

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if len(data) <= MAX_BYTES and not ipaddress.ip_address(addr[0]).is_unspecified:
            self._neighbours.heard(self._way, data, Endpoint(addr[0], addr[1]))

    def error_received(self, exc: Exception) -> None:
        """A neighbour that is gone."""


def _member(group: Endpoint, address: str) -> socket.socket:
    """A socket that hears what is sent to a group on the network of `address`."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((group.address, group.port))
        member = socket.inet_aton(group.address) + socket.inet_aton(address)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
    except BaseException:
        sock.close()
        raise
    return sock


def _bound(address: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.bind((address, 0))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
        # Nothing of this crosses a router, so that nobody beyond one is answered.
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
    except BaseException:
        sock.close()
        raise
    return sock
