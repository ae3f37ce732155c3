"""What a STUN server answers (RFC 8489, RFC 5780, RFC 3489): a pure function of the request.

A server with two addresses and two ports lets a client find out how its NAT
behaves: OTHER-ADDRESS names the other address *and* port, RESPONSE-ORIGIN the
endpoint that answers, and CHANGE-REQUEST asks for an answer from elsewhere:
bit 0x4 for the other address, bit 0x2 for the other port.  A client of
RFC 3489 (no magic cookie) gets MAPPED-ADDRESS, SOURCE-ADDRESS and
CHANGED-ADDRESS instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lab.peer.endpoint import Endpoint
from lab.peer.stun.codec import Class, MalformedError, Message, Method, encode, parse

CHANGE_ADDRESS = 0x4
CHANGE_PORT = 0x2
_CHANGE_REQUEST = 0x0003
_RESPONSE_PORT = 0x0027


@dataclass(frozen=True, slots=True)
class Site:
    """The endpoints of one server: each of its addresses with each of its ports.

    `alternate` is "" for a server with one address, which then knows nothing
    of RFC 5780 (section 7.1 there: no OTHER-ADDRESS, no CHANGE-REQUEST).
    """

    primary: str
    alternate: str
    port: int
    alternate_port: int

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Everything that the server listens on."""
        if not self.alternate:
            return (Endpoint(self.primary, self.port),)
        return tuple(
            Endpoint(address, port)
            for address in (self.primary, self.alternate)
            for port in (self.port, self.alternate_port)
        )

    def other(self, local: Endpoint, flags: int) -> Endpoint:
        """The endpoint that differs from `local` in what `flags` say."""
        address, port = local
        if flags & CHANGE_ADDRESS:
            address = self.alternate if address == self.primary else self.primary
        if flags & CHANGE_PORT:
            port = self.alternate_port if port == self.port else self.port
        return Endpoint(address, port)


@dataclass(frozen=True, slots=True)
class Reply:
    """What to send, from where, to whom."""

    payload: bytes
    origin: Endpoint
    destination: Endpoint


def respond(
    data: bytes, source: Endpoint, local: Endpoint, site: Site, *, stream: bool = False
) -> Reply | None:
    """The answer to `data`, which came from `source` to `local`; None for silence.

    Only a Binding request is answered.  Whatever is malformed is not: an
    answer would help nobody but those who forge source addresses.  `stream`
    says that it came over TCP, where an answer can come from nowhere else.
    """
    try:
        request = parse(data)
    except MalformedError:
        return None
    if request.kind is not Class.REQUEST or request.method != Method.BINDING:
        return None
    unknown = list(request.unknown)
    if (not site.alternate or stream) and "CHANGE-REQUEST" in request.attributes:
        unknown.append(_CHANGE_REQUEST)
    if stream and "RESPONSE-PORT" in request.attributes:
        unknown.append(_RESPONSE_PORT)
    if unknown:
        # Some of them are enough, so that nothing is amplified.
        numbers = tuple(dict.fromkeys(unknown))[:8]
        error = {"ERROR-CODE": (420, "Unknown Attribute"), "UNKNOWN-ATTRIBUTES": numbers}
        return Reply(_error(request, error), local, source)
    if {"PADDING", "RESPONSE-PORT"} <= request.attributes.keys():
        # A large answer to a port that did not ask for it (RFC 5780, section 7.6).
        return Reply(_error(request, {"ERROR-CODE": (400, "Bad Request")}), local, source)
    flags = request.attributes.get("CHANGE-REQUEST", 0)
    origin = site.other(local, flags)
    destination = Endpoint(source[0], request.attributes.get("RESPONSE-PORT", source[1]))
    if destination.port == 0:
        return None
    return Reply(_success(request, source, local, origin, site), origin, destination)


def _success(
    request: Message, source: Endpoint, local: Endpoint, origin: Endpoint, site: Site
) -> bytes:
    other = site.other(local, CHANGE_ADDRESS | CHANGE_PORT) if site.alternate else None
    attributes: dict[str, Any]
    if request.legacy:
        attributes = {"MAPPED-ADDRESS": source, "SOURCE-ADDRESS": origin}
        if other:
            attributes["CHANGED-ADDRESS"] = other
    else:
        # MAPPED-ADDRESS too: clients of RFC 5780 compare them to find a NAT
        # that rewrites addresses in payloads.
        attributes = {"XOR-MAPPED-ADDRESS": source, "MAPPED-ADDRESS": source}
        attributes["RESPONSE-ORIGIN"] = origin
        if other:
            attributes["OTHER-ADDRESS"] = other
    if "PADDING" in request.attributes:
        # As much as came, and no more: nothing is to be gained by a forged source.
        attributes["PADDING"] = bytes(len(request.attributes["PADDING"]))
    answer = Message(request.method, Class.RESPONSE, request.transaction, attributes)
    return encode(answer, fingerprint="FINGERPRINT" in request.attributes)


def _error(request: Message, attributes: dict[str, Any]) -> bytes:
    answer = Message(request.method, Class.ERROR, request.transaction, attributes)
    return encode(answer, fingerprint="FINGERPRINT" in request.attributes)
