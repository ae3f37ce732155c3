"""PCP's MAP request (RFC 6887, sections 7 and 11) and its answer, as bytes.

::

    | 2 | R, opcode | reserved, result | lifetime |    R: 1 in answers
    | client's address (16), or in answers: epoch (4), reserved (12) |
    | nonce (12) | protocol | reserved (3) | internal port | external port |
    | external address (16) |

IPv4 addresses are written as IPv4-mapped IPv6 addresses.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

from lab.peer.endpoint import Endpoint
from lab.peer.portmap.lease import MalformedAnswerError, PortmapError

PORT = 5351
VERSION = 2
NONCE_BYTES = 12
MAX_BYTES = 1100
"""Of any message (section 7)."""
_ANNOUNCE, _MAP = 0, 1
_ANSWER = 0x80
_HEADER, _MAP_DATA = "!BBBBI", "!12sBxxxHH16s"
_HEADER_BYTES = 24
_WHOLE = _HEADER_BYTES + 36
_RESULTS = {
    1: "it does not speak this version",
    2: "not authorised",
    3: "it found the request malformed",
    4: "it knows no such request",
    5: "it knows no such option",
    6: "it found an option malformed",
    7: "network failure: it has no external address itself",
    8: "out of resources",
    9: "no such protocol",
    10: "quota exceeded",
    11: "it cannot provide that external port",
    12: "the request came from another address than it says",
    13: "too many peers",
}
"""Section 7.4."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """What a MAP request was granted."""

    external: Endpoint
    internal: int
    lifetime_s: int


def announce(client: str) -> bytes:
    """A request that wants nothing but an answer (section 14.1)."""
    return struct.pack(_HEADER, VERSION, _ANNOUNCE, 0, 0, 0) + _wide(client)


def map_request(
    client: Endpoint, nonce: bytes, protocol: int, external: Endpoint, lifetime_s: int
) -> bytes:
    """Ask for a mapping to `client`, an address and port of the asker's; lifetime 0 returns it.

    `external` is what is suggested; address 0.0.0.0 and port 0 leave it open.
    `nonce` (12 bytes) is the same for every request about one mapping.
    """
    header = struct.pack(_HEADER, VERSION, _MAP, 0, 0, lifetime_s) + _wide(client.address)
    return header + struct.pack(
        _MAP_DATA, nonce, protocol, client.port, external.port, _wide(external.address)
    )


def parse_map(data: bytes, nonce: bytes, protocol: int) -> Mapped:
    """The mapping in an answer; PortmapError if it is a refusal, or the answer to another."""
    if len(data) < 4 or len(data) > MAX_BYTES or not data[1] & _ANSWER:
        raise MalformedAnswerError("its answer is not one of PCP")
    if data[0] != VERSION:
        raise PortmapError(f"it speaks version {data[0]} and not PCP")
    if data[1] != _ANSWER | _MAP:
        raise MalformedAnswerError("its answer is to another request")
    if result := data[3]:
        raise PortmapError(_RESULTS.get(result, "an error") + f" (PCP result {result})")
    if len(data) < _WHOLE:
        raise MalformedAnswerError("its answer is cut short")
    (lifetime_s,) = struct.unpack_from("!I", data, 4)
    theirs, number, internal, port, address = struct.unpack_from(_MAP_DATA, data, _HEADER_BYTES)
    if (theirs, number) != (nonce, protocol):
        raise MalformedAnswerError("its answer is to another request")
    return Mapped(Endpoint(_narrow(address), port), internal, lifetime_s)


def _wide(address: str) -> bytes:
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        return ip.packed
    return ipaddress.IPv6Address(f"::ffff:{ip}").packed


def _narrow(address: bytes) -> str:
    ip = ipaddress.IPv6Address(address)
    return str(ip.ipv4_mapped or ip)
