"""Asking the router: each protocol as a client with `map` and `release`.

A router that does not speak a protocol says so at once, because its port is
closed; one that says nothing is asked three times in 1.75 s.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

from lab.peer.endpoint import Endpoint
from lab.peer.portmap import igd, natpmp, pcp, ssdp
from lab.peer.portmap.lease import (
    MAX_LEASE_S,
    Lease,
    MalformedAnswerError,
    PortmapError,
    SilentError,
)
from lab.peer.record import Tally
from lab.peer.web.fetch import fetch
from lab.peer.web.message import HttpError, Message

_T = TypeVar("_T")

PAUSES_S = (0.25, 0.5, 1.0)
"""After each try (RFC 6886, section 3.1: 250 ms, doubled)."""
SEARCH_S = 2.0
"""For answers to a search: MX and what the way takes."""
CALL_S = 3.0
OTHER_PORTS = 3
"""So many ports are tried if the router has given the first to another (error 718)."""
_CONFLICTS = frozenset({718, 729})


@dataclass(frozen=True, slots=True)
class Host:
    """Who asks, whom, and where it is counted."""

    address: str
    gateway: str
    tally: Tally


class Client(Protocol):
    """One protocol's way to have a port mapped; raises PortmapError."""

    async def map(self, protocol: int, port: int, lifetime_s: int) -> Lease:
        """Ask for a port, or for a longer lease of one."""

    async def release(self, lease: Lease) -> None:
        """Give a port back."""


class NatPmp:
    """NAT-PMP (RFC 6886)."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def map(self, protocol: int, port: int, lifetime_s: int) -> Lease:
        address = await self._ask(natpmp.address_request(), natpmp.parse_address)
        request = natpmp.mapping_request(protocol, port, port, lifetime_s)
        mapped = await self._ask(request, lambda data: natpmp.parse_mapping(data, protocol))
        return _lease(Endpoint(address, mapped.external), port, protocol, mapped.lifetime_s)

    async def release(self, lease: Lease) -> None:
        request = natpmp.mapping_request(lease.protocol, lease.internal_port, 0, 0)
        await self._ask(request, lambda data: natpmp.parse_mapping(data, lease.protocol))

    async def _ask(self, request: bytes, parse: Callable[[bytes], _T]) -> _T:
        return await _ask(self._host, natpmp.PORT, request, parse, "nat-pmp")


class Pcp:
    """PCP (RFC 6887)."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._nonce = secrets.token_bytes(pcp.NONCE_BYTES)

    async def map(self, protocol: int, port: int, lifetime_s: int) -> Lease:
        mapped = await self._ask(protocol, port, Endpoint("0.0.0.0", port), lifetime_s)
        return _lease(mapped.external, port, protocol, mapped.lifetime_s)

    async def release(self, lease: Lease) -> None:
        await self._ask(lease.protocol, lease.internal_port, lease.external, 0)

    async def _ask(self, protocol: int, port: int, external: Endpoint, life: int) -> pcp.Mapped:
        own, nonce = Endpoint(self._host.address, port), self._nonce
        request = pcp.map_request(own, nonce, protocol, external, life)
        return await _ask(
            self._host, pcp.PORT, request, lambda data: pcp.parse_map(data, nonce, protocol), "pcp"
        )


class Upnp:
    """UPnP IGD; the router is found by SSDP when it is first asked for something."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._service: igd.Service | None = None

    async def map(self, protocol: int, port: int, lifetime_s: int) -> Lease:
        address = (await self._call("GetExternalIPAddress", {})).get("NewExternalIPAddress", "")
        external, granted = port, lifetime_s
        for _ in range(1 + OTHER_PORTS):
            arguments = igd.add_port_mapping(protocol, external, self._host.address, port, granted)
            try:
                await self._call("AddPortMapping", arguments)
            except igd.CallError as error:
                if error.code == igd.ONLY_PERMANENT and granted:
                    granted = 0
                elif error.code in _CONFLICTS:
                    external = 1024 + secrets.randbelow(64512)
                else:
                    raise
                continue
            return _lease(Endpoint(address, external), port, protocol, granted)
        raise PortmapError("it has given away every port that it was asked for")

    async def release(self, lease: Lease) -> None:
        arguments = igd.delete_port_mapping(lease.protocol, lease.external.port)
        await self._call("DeletePortMapping", arguments)

    async def _call(self, action: str, arguments: dict[str, object]) -> dict[str, str]:
        service = self._service or await self._find()
        headers, body = igd.call_headers(service, action), igd.call(service, action, arguments)
        answer = await self._fetch(service.url, headers, body)
        return igd.parse_answer(answer.status, answer.body)

    async def _find(self) -> igd.Service:
        location = await self._search()
        # Whoever answers a search may say what it likes; only the router is believed.
        if _host_of(location) != self._host.gateway:
            raise PortmapError(f"who answers the search is not the router: {location[:100]}")
        answer = await self._fetch(location)
        if answer.status != 200:
            raise PortmapError(f"its description is not to be had: HTTP status {answer.status}")
        self._service = igd.parse_description(answer.body, location)
        return self._service

    async def _search(self) -> str:
        host = self._host
        # Told directly, a router without SSDP says at once that there is nobody.
        found = await _ask(
            host, ssdp.GROUP.port, ssdp.search(ssdp.GATEWAY), ssdp.parse_found, "upnp", quick=True
        )
        if found is not None:
            return found.location
        loop = asyncio.get_running_loop()
        search = _Search(host)
        sock = _socket(host.address)
        transport, _ = await loop.create_datagram_endpoint(lambda: search, sock=sock)
        try:
            data = ssdp.search(ssdp.GATEWAY)
            host.tally.count("upnp", len(data))
            transport.sendto(data, ssdp.GROUP)
            async with asyncio.timeout(SEARCH_S):
                return await search.found
        except TimeoutError:
            if search.other:
                text = f"who answers the search is not the router: {search.other[:100]}"
                raise PortmapError(text) from None
            raise SilentError("nobody answers the search for a gateway") from None
        finally:
            transport.close()

    async def _fetch(
        self, url: str, headers: tuple[tuple[str, str], ...] = (), body: bytes = b""
    ) -> Message:
        host = self._host
        try:
            async with asyncio.timeout(CALL_S):
                return await fetch(
                    url,
                    method="POST" if body else "GET",
                    headers=headers,
                    body=body,
                    bind=host.address,
                    max_body=igd.MAX_BYTES,
                    count=lambda size: host.tally.count("upnp", size),
                )
        except (OSError, HttpError, TimeoutError) as error:
            raise PortmapError(f"it does not answer: {error or 'timed out'}") from error


CLIENTS: dict[str, Callable[[Host], Client]] = {"upnp": Upnp, "nat-pmp": NatPmp, "pcp": Pcp}


def _lease(external: Endpoint, port: int, protocol: int, lifetime_s: int) -> Lease:
    try:
        parsed = Endpoint.parse(str(external))
    except ValueError as error:
        raise MalformedAnswerError(f"it grants no address: {error}") from error
    if not parsed.sendable:
        raise PortmapError("it has no external address itself")
    return Lease(parsed, port, protocol, min(lifetime_s, MAX_LEASE_S))


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _socket(address: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.bind((address, 0))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
    except BaseException:
        sock.close()
        raise
    return sock


async def _ask(
    host: Host,
    port: int,
    request: bytes,
    parse: Callable[[bytes], _T],
    kind: str,
    *,
    quick: bool = False,
) -> _T:
    """The router's answer to a datagram.  What is not an answer is not looked at.

    SilentError if there is none, or if the port is closed; PortmapError for a
    refusal.  `quick`: one try, and what `parse` makes of nothing counts as one.
    """
    loop = asyncio.get_running_loop()
    asked = _Asked()
    sock = _socket(host.address)
    sock.connect((host.gateway, port))
    transport, _ = await loop.create_datagram_endpoint(lambda: asked, sock=sock)
    try:
        for pause in PAUSES_S[:1] if quick else PAUSES_S:
            host.tally.count(kind, len(request))
            transport.sendto(request)
            deadline = loop.time() + pause
            while True:
                try:
                    async with asyncio.timeout_at(deadline):
                        data = await asked.queue.get()
                except TimeoutError:
                    break
                if not data:
                    raise SilentError(f"the router {host.gateway} does not speak it")
                host.tally.count(kind, len(data))
                try:
                    return parse(data)
                except MalformedAnswerError:
                    continue
    finally:
        transport.close()
    if quick:
        return parse(b"")
    raise SilentError(f"the router {host.gateway} does not answer")


class _Asked(asyncio.DatagramProtocol):
    """Answers as they come; b"" if the port is closed."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes] = asyncio.Queue(16)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if data and not self.queue.full():
            self.queue.put_nowait(data)

    def error_received(self, exc: Exception) -> None:
        if not self.queue.full():
            self.queue.put_nowait(b"")


class _Search(asyncio.DatagramProtocol):
    """The router's answer to a search; others on the network may answer first, in vain."""

    def __init__(self, host: Host) -> None:
        self.found: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.other = ""
        """The location of somebody else who answered."""
        self._host = host

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        found = ssdp.parse_found(data)
        if found is None or self.found.done():
            return
        self._host.tally.count("upnp", len(data))
        if _host_of(found.location) == addr[0] == self._host.gateway:
            self.found.set_result(found.location)
        else:
            self.other = found.location
