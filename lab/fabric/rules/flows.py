"""What a namespace's connection tracking knows, entry by entry, over ctnetlink.

Structures and numbers are those of linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from lab.fabric.netlink import attributes
from lab.fabric.rules import netfilter

_CT_GET = 1 << 8 | 1
"""Subsystem ctnetlink, message IPCTNL_MSG_CT_GET."""
_ORIGINAL, _REPLY, _STATUS = 1, 2, 3
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_SEEN_REPLY = 2
_PROTOCOLS = {socket.IPPROTO_UDP: "udp", socket.IPPROTO_TCP: "tcp"}


@dataclass(frozen=True, slots=True)
class Ends:
    """Source and destination of packets, as `address:port` pairs."""

    source: tuple[str, int]
    destination: tuple[str, int]


@dataclass(frozen=True, slots=True)
class Flow:
    """One entry: what its first packet looked like, and what answers look like."""

    protocol: str
    """`udp` or `tcp`."""
    original: Ends
    reply: Ends
    answered: bool
    """Whether packets went both ways."""

    def forwarded(self, ends: Ends) -> Ends | None:
        """What a packet with these ends becomes on the other side; None if it is not of this."""
        if ends == self.original:
            return Ends(self.reply.destination, self.reply.source)
        if ends == self.reply:
            return Ends(self.original.destination, self.original.source)
        return None


def flows() -> list[Flow]:
    """Every UDP and TCP entry of the calling thread's namespace; LabError if it can't be read."""
    known = netfilter.entries(_CT_GET, "reading all flows", "conntrack")
    found = (_flow(entry) for _, entry in known)
    return [flow for flow in found if flow is not None]


def _flow(entry: Mapping[int, bytes]) -> Flow | None:
    original, reply = (_ends(entry.get(number, b"")) for number in (_ORIGINAL, _REPLY))
    if original is None or reply is None:
        return None
    (status,) = struct.unpack("!I", entry.get(_STATUS, bytes(4)))
    return Flow(original[0], original[1], reply[1], bool(status & _SEEN_REPLY))


def _ends(data: bytes) -> tuple[str, Ends] | None:
    ends = dict(attributes(data))
    ip, proto = (dict(attributes(ends.get(number, b""))) for number in (_TUPLE_IP, _TUPLE_PROTO))
    protocol = _PROTOCOLS.get(proto.get(1, b"\0")[0])
    source, destination = ip.get(1) or ip.get(3), ip.get(2) or ip.get(4)
    if protocol is None or source is None or destination is None or not {2, 3} <= proto.keys():
        return None
    ports = [struct.unpack("!H", proto[number])[0] for number in (2, 3)]
    addresses = [str(ipaddress.ip_address(each)) for each in (source, destination)]
    return protocol, Ends((addresses[0], ports[0]), (addresses[1], ports[1]))
