"""NAT-PMP (RFC 6886): two requests and their answers, as bytes.

::

    address request   | 0 | 0 |
    mapping request   | 0 | 1 UDP, 2 TCP | reserved | internal | external | lifetime |
    answer            | 0 | 128 + op | result | seconds since start | ...
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from lab.peer.portmap.lease import TCP, UDP, MalformedAnswerError, PortmapError

PORT = 5351
VERSION = 0
_ADDRESS = 0
_OPERATION = {UDP: 1, TCP: 2}
_ANSWER = 128
_RESULTS = {
    1: "it does not speak this version",
    2: "not authorised: port mapping is switched off, or it has no public address",
    3: "network failure: it has no external address itself",
    4: "out of resources",
    5: "it knows no such request",
}
"""Section 3.5."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """What a mapping request was granted."""

    internal: int
    external: int
    lifetime_s: int


def address_request() -> bytes:
    """Ask for the external address (section 3.2)."""
    return struct.pack("!BB", VERSION, _ADDRESS)


def mapping_request(protocol: int, internal: int, external: int, lifetime_s: int) -> bytes:
    """Ask for a mapping; lifetime 0 gives it back, and then external is 0 (sections 3.3, 3.4)."""
    if lifetime_s == 0:
        external = 0
    return struct.pack("!BBHHHI", VERSION, _OPERATION[protocol], 0, internal, external, lifetime_s)


def parse_address(data: bytes) -> str:
    """The external address in an answer; PortmapError if it is a refusal or none."""
    _check(data, _ADDRESS, 12)
    return socket.inet_ntoa(data[8:12])


def parse_mapping(data: bytes, protocol: int) -> Mapped:
    """The mapping in an answer; PortmapError if it is a refusal or none."""
    _check(data, _OPERATION[protocol], 16)
    return Mapped(*struct.unpack_from("!HHI", data, 8))


def _check(data: bytes, operation: int, length: int) -> None:
    if len(data) < 4 or data[0] != VERSION or data[1] != _ANSWER + operation:
        raise MalformedAnswerError("its answer is not one of NAT-PMP to this request")
    (result,) = struct.unpack_from("!H", data, 2)
    if result:
        raise PortmapError(_RESULTS.get(result, "an error") + f" (NAT-PMP result {result})")
    if len(data) < length:
        raise MalformedAnswerError("its answer is cut short")
