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
MAX_AGE_S = 1800
"""How long an announcement is good for: the least that there should be (section 1.2.2)."""
_SAFE = re.compile(r"[\x21-\x7e]{1,256}\Z")
_AGE = re.compile(r"max-age\s*=\s*([0-9]{1,9})", re.ASCII)
_SERVER = ("SERVER", "lab/1 UPnP/2.0 peer/1")
_ALIVE, _BYEBYE = "ssdp:alive", "ssdp:byebye"


@dataclass(frozen=True, slots=True)
class Found:
    """A device's answer."""

    target: str
    location: str
    usn: str
    max_age_s: int = MAX_AGE_S


@dataclass(frozen=True, slots=True)
class Notice:
    """What a device says of itself unasked: that it is here, or that it goes."""

    target: str
    usn: str
    alive: bool
    location: str = ""
    max_age_s: int = 0


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


def found(target: str, location: str, usn: str, max_age_s: int = MAX_AGE_S) -> bytes:
    """The answer to a search for `target` (section 1.3.3)."""
    headers = (
        ("CACHE-CONTROL", f"max-age={max_age_s}"),
        ("EXT", ""),
        ("LOCATION", location),
        _SERVER,
        ("ST", target),
        ("USN", usn),
    )
    return response(200, "OK", headers)


def alive(target: str, location: str, usn: str, max_age_s: int = MAX_AGE_S) -> bytes:
    """That a device is here, for as long as `max_age_s` (section 1.2.2)."""
    age = ("CACHE-CONTROL", f"max-age={max_age_s}")
    return _notice(target, usn, _ALIVE, (age, ("LOCATION", location), _SERVER))


def byebye(target: str, usn: str) -> bytes:
    """That it goes (section 1.2.3)."""
    return _notice(target, usn, _BYEBYE, ())


def _notice(target: str, usn: str, kind: str, more: tuple[tuple[str, str], ...]) -> bytes:
    headers = (("HOST", str(GROUP)), ("NT", target), ("NTS", kind), ("USN", usn), *more)
    lines = ("NOTIFY * HTTP/1.1", *(f"{name}: {value}" for name, value in headers))
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def parse_notice(data: bytes) -> Notice | None:
    """What a device says of itself; None if `data` is no such thing."""
    message = _parse(data, requests=True)
    if message is None or (message.method, message.target) != ("NOTIFY", "*"):
        return None
    target, usn, kind = (message.header(name) for name in ("NT", "USN", "NTS"))
    if not all(map(_SAFE.match, (target, usn))) or kind not in (_ALIVE, _BYEBYE):
        return None
    if kind == _BYEBYE:
        return Notice(target, usn, alive=False)
    location = message.header("LOCATION")
    if not _SAFE.match(location):
        return None
    return Notice(target, usn, True, location, _age(message))


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
    target, location, usn = (message.header(name) for name in ("ST", "LOCATION", "USN"))
    if not all(map(_SAFE.match, (target, location, usn))):
        return None
    return Found(target, location, usn, _age(message))


def _age(message: Message) -> int:
    said = _AGE.search(message.header("CACHE-CONTROL"))
    return int(said[1]) if said else MAX_AGE_S


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
