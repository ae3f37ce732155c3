"""Asking a router for a port, as hosts do: UPnP IGD, NAT-PMP and PCP clients of a few lines.

Each is given how to open a socket in the host that asks, and gives what was
granted.  What is said is in the peer's codecs (`lab.peer.portmap`).
"""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol
from urllib.parse import urlsplit

from lab.peer.endpoint import Endpoint
from lab.peer.portmap import igd, natpmp, pcp, ssdp
from lab.peer.portmap.lease import UDP, PortmapError
from lab.verify.patience import ready

_NONCE = b"lab verifies"
"""By which a PCP client is known to be the one that asked."""
_HTTP_S = 10.0
"""For a router that has told where it is to be asked."""

Open = Callable[[int], socket.socket]
"""A socket of the type given, bound to the host's address."""


class SilentError(Exception):
    """Nobody answers."""


class RefusedError(Exception):
    """The router answers, and says no; the text is its reason."""


@dataclass(frozen=True, slots=True)
class Host:
    """Who asks, and whom."""

    open: Open
    address: str
    router: str
    tries: int
    patience_s: float
    """How long to wait for one answer."""


class Client(Protocol):
    """One protocol's way to have a UDP port of the host's mapped, and to give it back.

    Raises SilentError or RefusedError.
    """

    def map(self, port: int, lifetime_s: int) -> tuple[str, int]:
        """The external address and port."""

    def unmap(self, port: int, external: int) -> None: ...


class Upnp:
    """UPnP IGD; found by a search in the host's network when first used."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._service: igd.Service | None = None

    def map(self, port: int, lifetime_s: int) -> tuple[str, int]:
        address = self._call("GetExternalIPAddress", {}).get("NewExternalIPAddress", "")
        arguments = igd.add_port_mapping(UDP, port, self._host.address, port, lifetime_s)
        self._call("AddPortMapping", arguments)
        return address, port

    def unmap(self, port: int, external: int) -> None:
        self._call("DeletePortMapping", igd.delete_port_mapping(UDP, external))

    def _find(self) -> igd.Service:
        # Told directly, a router without SSDP says at once that there is nobody.
        _exchange(self._host, ssdp.search(ssdp.GATEWAY), ssdp.GROUP.port)
        answer = ssdp.parse_found(self._search())
        if answer is None:
            raise RefusedError("its answer to a search has no location")
        status, description = self._request("GET", answer.location, b"", ())
        if status != HTTPStatus.OK:
            raise RefusedError(f"HTTP status {status}")
        with _refusals():
            return igd.parse_description(description, answer.location)

    def _search(self) -> bytes:
        host = self._host
        with host.open(socket.SOCK_DGRAM) as sock:
            interface = socket.inet_aton(host.address)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
            for _ in range(host.tries):
                sock.sendto(ssdp.search(ssdp.GATEWAY), ssdp.GROUP)
                if answer := _answer(sock, host.patience_s):
                    return answer
        raise RefusedError("it does not answer searches by multicast")

    def _call(self, action: str, arguments: dict[str, object]) -> dict[str, str]:
        service = self._service = self._service or self._find()
        headers = igd.call_headers(service, action)
        answer = self._request("POST", service.url, igd.call(service, action, arguments), headers)
        with _refusals():
            return igd.parse_answer(*answer)

    def _request(
        self, method: str, url: str, body: bytes, headers: tuple[tuple[str, str], ...]
    ) -> tuple[int, bytes]:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 80
        sock = self._host.open(socket.SOCK_STREAM)
        connection = http.client.HTTPConnection(host, port)
        connection.sock = sock
        try:
            sock.settimeout(_HTTP_S)
            sock.connect((host, port))
            connection.request(method, parts.path or "/", body or None, dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.read(igd.MAX_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise RefusedError(f"{url} does not answer: {error}") from error
        finally:
            sock.close()


class NatPmp:
    """NAT-PMP (RFC 6886)."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def map(self, port: int, lifetime_s: int) -> tuple[str, int]:
        with _refusals():
            address = natpmp.parse_address(self._ask(natpmp.address_request()))
        return address, self._map(port, port, lifetime_s)

    def unmap(self, port: int, external: int) -> None:
        self._map(port, external, 0)

    def _map(self, port: int, external: int, lifetime_s: int) -> int:
        answer = self._ask(natpmp.mapping_request(UDP, port, external, lifetime_s))
        with _refusals():
            return natpmp.parse_mapping(answer, UDP).external

    def _ask(self, request: bytes) -> bytes:
        return _exchange(self._host, request, natpmp.PORT)


class Pcp:
    """PCP's MAP request (RFC 6887, section 11)."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def map(self, port: int, lifetime_s: int) -> tuple[str, int]:
        mapped = self._ask(port, port, lifetime_s)
        return mapped.external.address, mapped.external.port

    def unmap(self, port: int, external: int) -> None:
        self._ask(port, external, 0)

    def _ask(self, port: int, external: int, lifetime_s: int) -> pcp.Mapped:
        client, wished = Endpoint(self._host.address, port), Endpoint("0.0.0.0", external)
        request = pcp.map_request(client, _NONCE, UDP, wished, lifetime_s)
        answer = _exchange(self._host, request, pcp.PORT)
        with _refusals():
            return pcp.parse_map(answer, _NONCE, UDP)


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """What a codec finds wrong with an answer is why the router refuses."""
    try:
        yield
    except PortmapError as error:
        raise RefusedError(str(error)) from error


def _exchange(host: Host, request: bytes, port: int) -> bytes:
    """The router's answer to a datagram; SilentError if the port is closed, or none comes."""
    with host.open(socket.SOCK_DGRAM) as sock:
        sock.connect((host.router, port))
        for _ in range(host.tries):
            try:
                sock.send(request)
                if answer := _answer(sock, host.patience_s):
                    return answer
            except OSError as error:
                raise SilentError from error
    raise SilentError


def _answer(sock: socket.socket, seconds: float) -> bytes:
    """What comes within `seconds`; empty if nothing does, OSError if the port is closed."""
    return sock.recv(4096) if ready([sock], seconds) else b""
