"""Asking a router for a port, as hosts do: UPnP IGD, NAT-PMP and PCP clients of a few lines.

Each is given how to open a socket in the host that asks, and gives what was
granted.  Standards: UPnP Device Architecture 2.0 section 1.3 (SSDP) and
WANIPConnection:2; RFC 6886 section 3; RFC 6887 sections 7 and 11.
"""

from __future__ import annotations

import http.client
import re
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urljoin, urlsplit
from xml.sax.saxutils import escape

GROUP = ("239.255.255.250", 1900)
PORT = 5351
"""Of NAT-PMP and of PCP."""

_SERVICE = "urn:schemas-upnp-org:service:WANIPConnection"
_SEARCH = (
    b"M-SEARCH * HTTP/1.1\r\n"
    b"HOST: 239.255.255.250:1900\r\n"
    b'MAN: "ssdp:discover"\r\n'
    b"MX: 1\r\n"
    b"ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n"
)
_UDP = 17
_NONCE = b"lab verifies"
"""Of PCP: 96 bits by which a client is known to be the one that asked."""

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
        self._control = ""
        self._service = ""

    def map(self, port: int, lifetime_s: int) -> tuple[str, int]:
        if not self._control:
            self._find()
        address = self._call("GetExternalIPAddress")
        found = re.search(r"<NewExternalIPAddress>([^<]*)<", address)
        self._call(
            "AddPortMapping",
            NewRemoteHost="",
            NewExternalPort=port,
            NewProtocol="UDP",
            NewInternalPort=port,
            NewInternalClient=self._host.address,
            NewEnabled=1,
            NewPortMappingDescription="lab verify",
            NewLeaseDuration=lifetime_s,
        )
        return (found[1] if found else ""), port

    def unmap(self, port: int, external: int) -> None:
        self._call(
            "DeletePortMapping", NewRemoteHost="", NewExternalPort=external, NewProtocol="UDP"
        )

    def _find(self) -> None:
        # Told directly, a router without SSDP says at once that there is nobody.
        _exchange(self._host, _SEARCH, GROUP[1])
        answer = self._search()
        location = re.search(rb"(?im)^location:\s*(\S+)", answer)
        if location is None:
            raise RefusedError("its answer to a search has no location")
        base = location[1].decode(errors="replace")
        text = self._request("GET", base, "", {})
        for block in text.split("<service>")[1:]:
            kind = re.search(rf"<serviceType>({_SERVICE}:\d+)<", block)
            control = re.search(r"<controlURL>([^<]*)<", block)
            if kind and control:
                self._service, self._control = kind[1], urljoin(base, control[1])
                return
        raise RefusedError("its description has no WANIPConnection")

    def _search(self) -> bytes:
        host = self._host
        with host.open(socket.SOCK_DGRAM) as sock:
            sock.settimeout(host.patience_s)
            interface = socket.inet_aton(host.address)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
            for _ in range(host.tries):
                sock.sendto(_SEARCH, GROUP)
                try:
                    return sock.recv(4096)
                except TimeoutError:
                    continue
        raise RefusedError("it does not answer searches by multicast")

    def _call(self, action: str, **arguments: object) -> str:
        inner = "".join(f"<{key}>{escape(str(value))}</{key}>" for key, value in arguments.items())
        body = (
            '<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
            's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>'
            f'<u:{action} xmlns:u="{self._service}">{inner}</u:{action}></s:Body></s:Envelope>'
        )
        headers = {
            "SOAPAction": f'"{self._service}#{action}"',
            "Content-Type": 'text/xml; charset="utf-8"',
        }
        return self._request("POST", self._control, body, headers)

    def _request(self, method: str, url: str, body: str, headers: dict[str, str]) -> str:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 80
        sock = self._host.open(socket.SOCK_STREAM)
        connection = http.client.HTTPConnection(host, port)
        connection.sock = sock
        try:
            sock.settimeout(self._host.tries * self._host.patience_s)
            sock.connect((host, port))
            connection.request(method, parts.path or "/", body or None, headers)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise RefusedError(f"{url} does not answer: {error}") from error
        finally:
            sock.close()
        if answer.status != 200:
            code = re.search(r"<errorCode>(\d+)<", text)
            raise RefusedError(f"UPnP error {code[1]}" if code else f"HTTP status {answer.status}")
        return text


class NatPmp:
    """NAT-PMP (RFC 6886)."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def map(self, port: int, lifetime_s: int) -> tuple[str, int]:
        answer = self._ask(struct.pack("!BB", 0, 0), 12)
        address = socket.inet_ntoa(answer[8:12])
        answer = self._ask(struct.pack("!BBHHHI", 0, 1, 0, port, port, lifetime_s), 16)
        return address, struct.unpack_from("!H", answer, 10)[0]

    def unmap(self, port: int, external: int) -> None:
        self._ask(struct.pack("!BBHHHI", 0, 1, 0, port, 0, 0), 16)

    def _ask(self, request: bytes, length: int) -> bytes:
        answer = _exchange(self._host, request, PORT)
        (code,) = struct.unpack_from("!H", answer.ljust(4, b"\0"), 2)
        if code or len(answer) < length:
            raise RefusedError(f"NAT-PMP result {code}")
        return answer


class Pcp:
    """PCP's MAP request (RFC 6887, section 11)."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def map(self, port: int, lifetime_s: int) -> tuple[str, int]:
        answer = self._ask(port, port, lifetime_s)
        return socket.inet_ntoa(answer[56:60]), struct.unpack_from("!H", answer, 42)[0]

    def unmap(self, port: int, external: int) -> None:
        self._ask(port, external, 0)

    def _ask(self, port: int, external: int, lifetime_s: int) -> bytes:
        prefix = b"\0" * 10 + b"\xff\xff"
        request = struct.pack("!BBHI", 2, 1, 0, lifetime_s)
        request += prefix + socket.inet_aton(self._host.address)
        request += _NONCE + struct.pack("!BxxxHH", _UDP, port, external) + prefix + b"\0" * 4
        answer = _exchange(self._host, request, PORT)
        code = answer[3] if len(answer) > 3 else 0
        if code or len(answer) < 60:
            raise RefusedError(f"PCP result {code}")
        return answer


def _exchange(host: Host, request: bytes, port: int) -> bytes:
    """The router's answer to a datagram; SilentError if the port is closed, or none comes."""
    with host.open(socket.SOCK_DGRAM) as sock:
        sock.settimeout(host.patience_s)
        sock.connect((host.router, port))
        for _ in range(host.tries):
            try:
                sock.send(request)
                return sock.recv(4096)
            except TimeoutError:
                continue
            except OSError as error:
                raise SilentError from error
    raise SilentError
