"""Asking the router: each protocol as a client with `map` and `release`."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

from lab.peer.endpoint import Endpoint
from lab.peer.portmap import igd, natpmp, pcp, ssdp
from lab.peer.portmap.exchange import Host, exchange, open_socket
from lab.peer.portmap.lease import (
    MAX_LEASE_S,
    Lease,
    MalformedAnswerError,
    PortmapError,
    SilentError,
)
from lab.peer.web.fetch import fetch
from lab.peer.web.message import HttpError, Message

_T = TypeVar("_T")

SEARCH_S = 2.0
"""For answers to a search: MX and what the way takes."""
CALL_S = 3.0
OTHER_PORTS = 3
"""So many ports are tried if the router has given the first to another (error 718)."""
_CONFLICTS = frozenset({718, 729})


class Client(Protocol):
    """One protocol's way to have a port mapped; raises PortmapError."""

    async def map(self, protocol: int, port: int, lifetime_s: int) -> Lease:
        """Ask for a port, or for a longer lease of one."""

    async def release(self, lease: Lease) -> None:
        """Give a port back."""

    async def look(self) -> None:
        """Return if the router speaks the protocol; SilentError if it does not."""


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

    async def look(self) -> None:
        await self._ask(natpmp.address_request(), bytes)

    async def _ask(self, request: bytes, parse: Callable[[bytes], _T]) -> _T:
        return await exchange(self._host, natpmp.PORT, request, parse, "nat-pmp")


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

    async def look(self) -> None:
        await exchange(self._host, pcp.PORT, pcp.announce(self._host.address), bytes, "pcp")

    async def _ask(self, protocol: int, port: int, external: Endpoint, life: int) -> pcp.Mapped:
        own, nonce = Endpoint(self._host.address, port), self._nonce
        request = pcp.map_request(own, nonce, protocol, external, life)
        return await exchange(
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

    async def look(self) -> None:
        await self._search()

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
        found = await exchange(
            host, ssdp.GROUP.port, ssdp.search(ssdp.GATEWAY), ssdp.parse_found, "upnp", quick=True
        )
        if found is not None:
            return found.location
        loop = asyncio.get_running_loop()
        search = _Search(host)
        sock = open_socket(host.address)
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
