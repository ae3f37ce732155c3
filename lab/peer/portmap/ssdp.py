"""SSDP (UPnP Device Architecture 2.0, section 1): finding devices without a server.

HTTP's manner of speaking, in datagrams: a search goes to a multicast group,
whoever is meant answers to its sender, and devices announce that they come
and go.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lab.peer.endpoint import Endpoint
from lab.peer.web.message import HttpError, Message, Parser, response

GROUP = Endpoint("239.255.255.250", 1900)
GATEWAY = "urn:schemas-upnp-org:device:InternetGatewayDevice:1"
"""Version 1 is answered by devices of later versions too (section 1.3.2)."""
MAX_BYTES = 2048
_SAFE = re.compile(r"[\x21-\x7e]{1,256}\Z")


@dataclass(frozen=True, slots=True)
class Found:
    """A device's answer."""

    target: str
    location: str
    usn: str


def search(target: str, wait_s: int = 1) -> bytes:
    """M-SEARCH for `target`; answers come within `wait_s`, so that not all come at once."""
    lines = (
        "M-SEARCH * HTTP/1.1",
        f"HOST: {GROUP}",
        'MAN: "ssdp:discover"',
        f"MX: {wait_s}",
        f"ST: {target}",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def found(target: str, location: str, usn: str, max_age_s: int = 1800) -> bytes:
    """The answer to a search for `target` (section 1.3.3)."""
    headers = (
        ("CACHE-CONTROL", f"max-age={max_age_s}"),
        ("EXT", ""),
        ("LOCATION", location),
        ("SERVER", "lab/1 UPnP/2.0 peer/1"),
        ("ST", target),
        ("USN", usn),
    )
    return response(200, "OK", headers)


def parse_search(data: bytes) -> str:
    """The target of a search; "" if `data` is none."""
    message = _parse(data, requests=True)
    if message is None or (message.method, message.target) != ("M-SEARCH", "*"):
        return ""
    target = message.header("ST")
    discover = message.header("MAN").strip('"') == "ssdp:discover"
    return target if discover and _SAFE.match(target) else ""


def parse_found(data: bytes) -> Found | None:
    """A device's answer; None if `data` is none."""
    message = _parse(data, requests=False)
    if message is None or message.status != 200:
        return None
    texts = [message.header(name) for name in ("ST", "LOCATION", "USN")]
    if not all(_SAFE.match(text) for text in texts):
        return None
    return Found(*texts)


def _parse(data: bytes, *, requests: bool) -> Message | None:
    if len(data) > MAX_BYTES:
        return None
    parser = Parser(requests=requests)
    parser.feed(data)
    parser.feed(b"")
    try:
        return parser.next()
    except HttpError:
        return None
