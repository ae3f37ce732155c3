"""What a packet is, in a few words: "STUN binding request", "probe", "SYN", "offer to bob"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from lab.observe.explain.formats import http_line, lan_message, websocket
from lab.observe.explain.packet import ACK, FIN, RST, SYN, Packet
from lab.observe.explain.vocabulary import CODES, FRAMES, METHODS
from lab.peer.endpoint import Endpoint
from lab.peer.marks import Mark
from lab.peer.relay.wire import (
    FIRST_CHANNEL,
    LAST_CHANNEL,
    is_channel_data,
    parse_channel_data,
)
from lab.peer.stun.codec import Class, MalformedError, Message, Method, parse
from lab.peer.traversal.seal import Type
from lab.peer.volunteer.wire import parse as volunteered


class Kind(StrEnum):
    """What a packet is about, which decides how it is drawn and whether it is shown."""

    STUN = "stun"
    RELAY = "relay"
    SIGNAL = "signal"
    """An offer, an answer or the like, over the rendezvous service."""
    PROBE = "probe"
    """From peer to peer."""
    SESSION = "session"
    """What a session says over its path."""
    CONNECTION = "connection"
    """TCP's SYN, RST and the like."""
    ERROR = "error"
    """ICMP says that a packet was not delivered."""
    WEB = "web"
    PORTMAP = "portmap"
    """A router is asked for a port."""
    OTHER = "other"
    CHORE = "chore"
    """Bare acknowledgements, keepalives, housekeeping of services."""


@dataclass(frozen=True, slots=True)
class Label:
    """The words for a packet, and what can be read from it besides."""

    kind: Kind
    text: str
    mapped: Endpoint | None = None
    """What a STUN server says the sender's address is."""
    relayed: Endpoint | None = None
    """What a relay has lent."""
    signal: str = ""
    """`offer`, `answer`, …: what one peer tells the other."""
    candidates: tuple[str, ...] = ()
    """The endpoints in an offer or answer."""
    probe: str = ""
    """`probe`, `reply`, `confirm`, `done`, `data`, `ack`: what a peer's own packet says;
    `session` if it is a session's."""


_IGMP = "2"
_STUN_PORTS = frozenset((3478, 3479, 5349))
_DNS, _WEB, _SSDP = 53, frozenset((80, 3128, 8080)), 1900
_LOCAL_NAMES = ((5353, "mDNS"), (5355, "LLMNR"))
_PORTMAP = frozenset((5350, 5351))
_TLS = re.compile(rb"^[\x14-\x17]\x03[\x00-\x04]")
_HTTP = re.compile(rb"^(?:(?:GET|POST|PUT|CONNECT|HEAD|M-SEARCH|NOTIFY) \S+ HTTP/1\.[01]"
                   rb"|HTTP/1\.[01] \d\d\d[^\r\n]*)")  # fmt: skip
_HEADER = re.compile(rb"^[A-Z][A-Za-z-]{1,30}: [^\r\n]{1,200}\r\n")
_SOAP = re.compile(rb'^POST .*soapaction: *"[^"#]*#(\w{1,40})"', re.DOTALL | re.IGNORECASE)
_FRAME = re.compile(rb'^\x00\x00[\x00-\x40].\{"t":"([a-z]+)"', re.DOTALL)
_BODY_KIND = re.compile(rb'"kind":"(offer|answer|decline|more|end|ping|pong)"')
_SIGNAL_TO = re.compile(rb'"to":"([^"]{1,63})"')
_FROM = re.compile(rb'"from":"([^"]{1,63})"')
_CANDIDATE = re.compile(rb'"kind":"([a-z-]+)","endpoint":"([^"]{3,60})"')
_PROHIBITED = frozenset((9, 10, 13))


def label(packet: Packet) -> Label:
    """The label of a packet as it was sent."""
    if packet.offset:
        return Label(Kind.OTHER, "fragment")
    if packet.protocol.startswith("icmp"):
        return _icmp(packet)
    if packet.protocol == "tcp":
        return _tcp(packet)
    if packet.protocol == "udp":
        return _udp(packet)
    if packet.protocol == _IGMP:
        return Label(Kind.CHORE, "IGMP")
    return Label(Kind.OTHER, f"IP protocol {packet.protocol}")


def _icmp(packet: Packet) -> Label:
    about = packet.about
    if about is None:
        echo = {8: "ping", 128: "ping", 0: "ping reply", 129: "ping reply"}
        return Label(Kind.OTHER, echo.get(packet.icmp[0], f"ICMP type {packet.icmp[0]}"))
    text = CODES.get((packet.protocol, packet.icmp[0]), f"ICMP type {packet.icmp[0]}")
    if packet.icmp[0] == 3 and packet.icmp[1] in _PROHIBITED:
        text = "ICMP prohibited"
    elif packet.icmp in ((3, 3), (1, 4)):
        text += ": no such port"
    return Label(Kind.ERROR, f"{text} ({about.destination})")


def _udp(packet: Packet) -> Label:
    ports = {packet.source.port, packet.destination.port}
    data = packet.payload
    if _SSDP in ports:
        return Label(Kind.PORTMAP, f"SSDP {http_line(data)}")
    if ports & _PORTMAP:
        return Label(Kind.PORTMAP, _portmap(data, answer=packet.source.port == 5351))
    if local := next((name for port, name in _LOCAL_NAMES if port in ports), ""):
        asks = packet.destination.port in (5353, 5355)
        return Label(Kind.OTHER, f"{local} {'question' if asks else 'answer'}")
    if _DNS in ports:
        return Label(Kind.OTHER, "DNS answer" if packet.source.port == _DNS else "DNS question")
    found = _datagram(data, packet) or _on_one_network(data)
    return found or Label(Kind.OTHER, f"UDP, {len(data)} bytes")


def _on_one_network(data: bytes) -> Label | None:
    """What peers on one LAN tell each other without a rendezvous service."""
    found = lan_message(data)
    if found is None:
        return None
    kind, sender = found
    if kind in ("offer", "answer", "decline", "end"):
        return Label(Kind.SIGNAL, f"{kind} of {sender}", signal=kind)
    return Label(Kind.CHORE, f"on the LAN: {kind}")


def _datagram(data: bytes, packet: Packet) -> Label | None:
    """A datagram of the peers' own, or of STUN and TURN, on whatever transport."""
    sealed = _sealed(data) or _volunteer(data)
    if sealed:
        return sealed
    found = parse_channel_data(data) if is_channel_data(data) else None
    if found and FIRST_CHANNEL <= found[0] <= LAST_CHANNEL and len(data) - 8 < len(found[1]):
        inner = _sealed(found[1]) or _message(found[1], packet)
        words = inner.text if inner else f"{len(data)} bytes"
        return Label(Kind.RELAY, f"channel: {words}", probe=inner.probe if inner else "")
    return _message(data, packet)


def _message(data: bytes, packet: Packet) -> Label | None:
    """A message of STUN or TURN, also one that a relay carries; None if it is something else."""
    try:
        return _stun(parse(data), packet)
    except MalformedError:
        return None


def _volunteer(data: bytes) -> Label | None:
    """What an ordinary peer that is a relay says and is told."""
    found = volunteered(data)
    if found is None:
        return None
    return Label(Kind.RELAY, f"relay: {found.type.name.lower()}")


def _sealed(data: bytes) -> Label | None:
    if len(data) > 18 and data[0] == Mark.SESSION:
        return Label(Kind.SESSION, FRAMES.get(data[1], "session"), probe="session")
    if len(data) < 18 or data[0] != Mark.PATH or data[1] not in Type._value2member_map_:
        return None
    name = Type(data[1]).name.lower()
    words = {"done": "done: path proven"}.get(name, name)
    return Label(Kind.PROBE, words, probe=name)


def _stun(message: Message, packet: Packet) -> Label:
    method = METHODS.get(message.method, "STUN")  # type: ignore[call-overload] # a number is looked up
    binding = message.method == Method.BINDING
    kind = Kind.STUN if binding else Kind.RELAY
    if binding and {"USERNAME", "MESSAGE-INTEGRITY"} & message.attributes.keys():
        return _check(message)
    if message.kind == Class.INDICATION:
        carried = message.attributes.get("DATA", b"")
        inner = _sealed(carried) or _message(carried, packet)
        words = f": {inner.text}" if inner else ""
        return Label(kind, f"{method}{words}", probe=inner.probe if inner else "")
    if message.kind == Class.REQUEST:
        return Label(kind, f"{method} request")
    if message.kind == Class.ERROR:
        error = message.error
        return Label(kind, f"{method} error {error[0] if error else ''}".rstrip())
    mapped = message.endpoint("XOR-MAPPED-ADDRESS") or message.endpoint("MAPPED-ADDRESS")
    relayed = message.endpoint("XOR-RELAYED-ADDRESS")
    if relayed:
        return Label(kind, f"lent: {relayed}", mapped=mapped, relayed=relayed)
    if mapped and binding and kind is Kind.STUN:
        return Label(kind, f"you are {mapped}", mapped=mapped)
    return Label(kind, f"{method} success", mapped=mapped)


def _check(message: Message) -> Label:
    """A connectivity check of ICE, which is a STUN request with credentials (RFC 8445)."""
    if message.kind == Class.REQUEST:
        return Label(Kind.PROBE, "ICE check", probe="probe")
    if message.kind == Class.ERROR:
        error = message.error
        return Label(Kind.PROBE, f"ICE error {error[0] if error else ''}".rstrip(), probe="reply")
    return Label(Kind.PROBE, "ICE check answered", probe="reply")


def _portmap(data: bytes, *, answer: bool) -> str:
    if len(data) < 2:
        return "port mapping"
    name = "PCP" if data[0] == 2 else "NAT-PMP"
    if not answer:
        return f"{name} request"
    code = data[3] if len(data) > 3 else 0
    return f"{name} " + ("success" if code == 0 else f"error {code}")


# --- TCP --------------------------------------------------------------------


def _tcp(packet: Packet) -> Label:
    for flag, name in ((RST, "RST"), (SYN, "SYN"), (FIN, "FIN")):
        if packet.flags & flag:
            both = name == "SYN" and packet.flags & ACK
            return Label(Kind.CONNECTION, "SYN ACK" if both else name)
    data = packet.payload
    if not data:
        return Label(Kind.CHORE, "ACK")
    framed = _framed(data)
    if framed:
        return framed
    if action := _SOAP.search(data):
        return Label(Kind.PORTMAP, f"UPnP {action[1].decode()}")
    if _HTTP.match(data):
        return Label(Kind.WEB, http_line(data))
    if _HEADER.match(data):
        return Label(Kind.CHORE, "HTTP header, continued")
    if _TLS.match(data):
        return Label(Kind.WEB, f"TLS, {len(data)} bytes")
    ports = {packet.source.port, packet.destination.port}
    frame = websocket(data) if ports & _WEB or 443 in ports else None
    if frame is not None:
        inner = _sealed(frame[1])
        what = frame[0] or (inner.text if inner else f"{len(frame[1])} bytes")
        return Label(Kind.WEB, f"WebSocket: {what}", probe=inner.probe if inner else "")
    if ports & _STUN_PORTS or ports & _WEB or 443 in ports:
        found = _datagram(_first_message(data), packet)
        if found:
            return found
    prefixed = _datagram(data[2:], packet) if len(data) > 20 else None
    return prefixed or Label(Kind.OTHER, f"TCP, {len(data)} bytes")


def _first_message(data: bytes) -> bytes:
    """The first STUN message of a stream (RFC 8489, section 6.2.2)."""
    if len(data) < 4 or data[0] >= 0x40:
        return data
    return data[: 20 + int.from_bytes(data[2:4], "big")]


def _framed(data: bytes) -> Label | None:
    """A frame of the rendezvous service (`lab.peer.rendezvous.frames`)."""
    found = _FRAME.match(data)
    if not found:
        return None
    frame = found[1].decode()
    body = _BODY_KIND.search(data)
    if frame not in ("send", "message") or body is None:
        return Label(Kind.CHORE, f"rendezvous: {frame}")
    signal = body[1].decode()
    if signal in ("ping", "pong"):
        return Label(Kind.CHORE, f"rendezvous: {signal}")
    sent = frame == "send"
    who = (_SIGNAL_TO if sent else _FROM).search(data)
    name = f" {'to' if sent else 'from'} {who[1].decode(errors='replace')}" if who else ""
    candidates = tuple(match[2].decode(errors="replace") for match in _CANDIDATE.finditer(data))
    return Label(Kind.SIGNAL, f"{signal}{name}", signal=signal, candidates=candidates)
