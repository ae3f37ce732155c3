"""UPnP IGD's WANIPConnection (UPnP Forum, 2010): its description and its calls, as text.

A device's description is XML that names its services and where each is
called; a call is SOAP in a POST.  XML is read by the standard library, but
only what declares no entities: a description needs none, and a bomb does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from lab.peer.portmap.lease import TCP, UDP, MalformedAnswerError, PortmapError

SERVICE = re.compile(r"urn:schemas-upnp-org:service:WAN(IP|PPP)Connection:[1-9]\Z")
MAX_BYTES = 256 * 1024
PROTOCOLS = {UDP: "UDP", TCP: "TCP"}
ONLY_PERMANENT = 725
"""OnlyPermanentLeasesSupported: ask again for a lease without end."""
_SOAP = "http://schemas.xmlsoap.org/soap/envelope/"


class CallError(PortmapError):
    """The router refuses a call, with UPnP's number for why."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} (UPnP error {code})" if code else reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class Service:
    """What can be called, and where."""

    kind: str
    url: str


def parse_description(data: bytes, location: str) -> Service:
    """The first WAN connection of a device; URLs are relative to `location`.

    PortmapError if there is none, or if it is to be called at another host.
    """
    root = _xml(data)
    base = root.findtext("{*}URLBase") or location
    for entry in root.iter():
        if not entry.tag.endswith("}service"):
            continue
        kind = (entry.findtext("{*}serviceType") or "").strip()
        control = (entry.findtext("{*}controlURL") or "").strip()
        if SERVICE.match(kind) and control:
            url = _join(base, control)
            if urlsplit(url).hostname != urlsplit(location).hostname:
                raise MalformedAnswerError("its description leads to another host")
            return Service(kind, url)
    raise PortmapError("its description has no WAN connection")


def call(service: Service, action: str, arguments: Mapping[str, object]) -> bytes:
    """The body of a call."""
    inner = "".join(f"<{key}>{escape(str(value))}</{key}>" for key, value in arguments.items())
    return (
        '<?xml version="1.0"?>\n'
        f'<s:Envelope xmlns:s="{_SOAP}" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/">'
        f'<s:Body><u:{action} xmlns:u="{service.kind}">{inner}</u:{action}></s:Body></s:Envelope>'
    ).encode()


def call_headers(service: Service, action: str) -> tuple[tuple[str, str], ...]:
    """The headers of a call."""
    return (
        ("Content-Type", 'text/xml; charset="utf-8"'),
        ("SOAPAction", f'"{service.kind}#{action}"'),
    )


def parse_answer(status: int, body: bytes) -> dict[str, str]:
    """What a call returned; CallError if it is a refusal."""
    if status != 200:
        code, reason = _fault(body)
        raise CallError(code, reason or f"HTTP status {status}")
    returned = {}
    for response in _xml(body).iterfind(f"{{{_SOAP}}}Body/*"):
        returned = {entry.tag.rpartition("}")[2]: (entry.text or "").strip() for entry in response}
    return returned


def add_port_mapping(
    protocol: int, external: int, client: str, internal: int, lifetime_s: int
) -> dict[str, object]:
    """Arguments of AddPortMapping."""
    return {
        "NewRemoteHost": "",
        "NewExternalPort": external,
        "NewProtocol": PROTOCOLS[protocol],
        "NewInternalPort": internal,
        "NewInternalClient": client,
        "NewEnabled": 1,
        "NewPortMappingDescription": "lab",
        "NewLeaseDuration": lifetime_s,
    }


def delete_port_mapping(protocol: int, external: int) -> dict[str, object]:
    """Arguments of DeletePortMapping."""
    return {
        "NewRemoteHost": "",
        "NewExternalPort": external,
        "NewProtocol": PROTOCOLS[protocol],
    }


def _fault(body: bytes) -> tuple[int, str]:
    try:
        root = _xml(body)
    except PortmapError:
        return 0, ""
    codes = [e.text or "" for e in root.iter() if e.tag.endswith("}errorCode")]
    reasons = [e.text or "" for e in root.iter() if e.tag.endswith("}errorDescription")]
    code = codes[0].strip() if codes else ""
    number = int(code) if code.isascii() and code.isdigit() and len(code) < 6 else 0
    return number, " ".join(reasons[0].split())[:100] if reasons else ""


def _xml(data: bytes) -> ET.Element:
    # Without zeros it is in none of the encodings that would hide a declaration.
    if len(data) > MAX_BYTES or b"\0" in data or b"<!" in data.replace(b"<!--", b""):
        raise MalformedAnswerError("its XML is too long, or declares more than it should")
    try:
        return ET.fromstring(data)  # noqa: S314 - without entities, and bounded
    except (ET.ParseError, ValueError, LookupError) as error:
        raise MalformedAnswerError(f"its XML is none: {error}") from error


def _join(base: str, relative: str) -> str:
    try:
        return urljoin(base, relative)
    except ValueError as error:
        raise MalformedAnswerError(f"its description has no such URL: {error}") from error
