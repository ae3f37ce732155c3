"""The rtnetlink requests that a lab needs, as bytes (rtnetlink(7), linux/if_link.h).

Every function is pure and gives a `netlink.Request`.  Interfaces are named
where a link is meant, and numbered where the kernel takes no name (addresses,
routes).  Requests are worded so that asking twice does no harm, except for the
creation of a link.
"""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass

from lab.fabric.netlink import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NLM_F_REQUEST,
    Request,
    attribute,
    attributes,
)

RTM_NEWLINK = 16
RTM_DELLINK = 17
RTM_GETLINK = 18
RTM_SETLINK = 19
RTM_NEWADDR = 20
RTM_DELADDR = 21
RTM_NEWROUTE = 24
RTM_DELROUTE = 25
RTM_GETROUTE = 26
RTM_NEWNEIGH = 28

_CHANGE = NLM_F_REQUEST | NLM_F_ACK
_CREATE = _CHANGE | NLM_F_CREATE | NLM_F_EXCL
_PUT = _CHANGE | NLM_F_CREATE | NLM_F_REPLACE

_NESTED = 0x8000
_IFF_UP = 1
_IFLA_ADDRESS = 1
_IFLA_PROTINFO = 12
_AF_BRIDGE = 7
_IFLA_BRPORT_STATE = 1
_BR_STATE_FORWARDING = 3
_IFLA_IFNAME = 3
_IFLA_MTU = 4
_IFLA_MASTER = 10
_IFLA_LINKINFO = 18 | _NESTED
_IFLA_NET_NS_FD = 28
_IFLA_NUM_TX_QUEUES = 31
_IFLA_NUM_RX_QUEUES = 32
_IFLA_INFO_KIND = 1
_IFLA_INFO_DATA = 2 | _NESTED
_VETH_INFO_PEER = 1 | _NESTED
_IFLA_BR_FORWARD_DELAY = 1
_IFLA_BR_STP_STATE = 5
_IFLA_BR_MCAST_SNOOPING = 23
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_IFA_BROADCAST = 4
_IFA_F_NODAD = 0x02
_RTA_DST = 1
_RTA_OIF = 4
_RTA_GATEWAY = 5
_RT_TABLE_MAIN = 254
_RTPROT_BOOT = 3
_RT_SCOPE_UNIVERSE = 0
_RT_SCOPE_LINK = 253
_RTMSG = struct.Struct("=BBBBBBBBI")
_RTN_LOCAL = 2
_RTN_UNICAST = 1
_RTN_UNREACHABLE = 7
_RTNH_F_ONLINK = 4
_NDA_DST = 1
_NDA_LLADDR = 2
_NUD_PERMANENT = 0x80
_IFINFO = struct.Struct("=BxHiII")

# A queue for each CPU is the default: memory and time that one sender never needs,
# and packets of one link that overtake each other.
_ONE_QUEUE = struct.pack("=HHIHHI", 8, _IFLA_NUM_TX_QUEUES, 1, 8, _IFLA_NUM_RX_QUEUES, 1)


@dataclass(frozen=True, slots=True)
class Device:
    """An interface to be made."""

    name: str
    mac: str
    mtu: int


def veth(here: Device, there: Device, there_file: int) -> Request:
    """A veth pair: `here` (down) in the namespace of the socket, `there` (up) in another one.

    `there_file` is a descriptor of the other namespace.  Both are made in
    place: no device passes through any other namespace.  `here` has to be
    taken up afterwards (`up`): its peer does not know it yet when the kernel
    makes it, and the kernel refuses to take up half a pair.
    """
    peer = ifinfo() + _device(here)
    body = (
        ifinfo(flags=_IFF_UP)
        + _device(there)
        + attribute(_IFLA_NET_NS_FD, struct.pack("=i", there_file))
        + _kind(b"veth", attribute(_VETH_INFO_PEER, peer))
    )
    return Request(RTM_NEWLINK, _CREATE, body, f"link {there.name} to {here.name}")


def bridge(name: str) -> Request:
    """A bridge, up, in the namespace of the socket: a plain switch that says nothing itself.

    No spanning tree, so a port forwards at once, and no multicast snooping:
    without a querier on the segment it would only learn to drop.
    """
    options = (
        attribute(_IFLA_BR_FORWARD_DELAY, struct.pack("=I", 0))
        + attribute(_IFLA_BR_STP_STATE, struct.pack("=I", 0))
        + attribute(_IFLA_BR_MCAST_SNOOPING, b"\0")
    )
    body = ifinfo(flags=_IFF_UP) + _name(name) + _kind(b"bridge", options)
    return Request(RTM_NEWLINK, _CREATE, body, f"bridge {name}", (errno.EEXIST,))


def up(name: str) -> Request:
    """Take the interface up."""
    return Request(RTM_SETLINK, _CHANGE, ifinfo(flags=_IFF_UP) + _name(name), f"taking {name} up")


def resize(name: str, mtu: int) -> Request:
    """Give the interface another MTU."""
    body = ifinfo() + _name(name) + attribute(_IFLA_MTU, struct.pack("=I", mtu))
    return Request(RTM_SETLINK, _CHANGE, body, f"an MTU of {mtu} on {name}")


def enslave(name: str, master: int) -> Request:
    """Make the interface a port of the bridge with index `master`."""
    body = ifinfo() + _name(name) + attribute(_IFLA_MASTER, struct.pack("=I", master))
    return Request(RTM_SETLINK, _CHANGE, body, f"{name} as a bridge port")


def forward(index: int, name: str) -> Request:
    """Let a bridge port pass frames at once.

    The bridge does so by itself when the kernel has taken note of the port's
    carrier, which is later, on a busy machine by more than a second.  Without
    a carrier there is nothing to pass, and the bridge will see to it.
    """
    state = attribute(_IFLA_BRPORT_STATE, struct.pack("=B", _BR_STATE_FORWARDING))
    body = ifinfo(index, family=_AF_BRIDGE)
    body += attribute(_IFLA_PROTINFO | _NESTED, state)
    return Request(RTM_SETLINK, _CHANGE, body, f"{name} as a port that forwards", (errno.ENETDOWN,))


def delete_link(name: str) -> Request:
    """Remove the interface, and its peer with it; gone already is fine."""
    body = ifinfo() + _name(name)
    return Request(RTM_DELLINK, _CHANGE, body, f"removing {name}", (errno.ENODEV,))


def put_address(index: int, address: str, name: str) -> Request:
    """Give interface `index` an address ("10.0.0.1/24"); there already is fine.

    IPv6 addresses skip duplicate address detection: usable at once, as the
    plan has no duplicates.
    """
    body = _address(index, address)
    return Request(RTM_NEWADDR, _PUT, body, f"address {address} on {name}")


def delete_address(index: int, address: str, name: str) -> Request:
    """Take an address from interface `index`; gone already is fine."""
    body = _address(index, address)
    gone = (errno.EADDRNOTAVAIL,)
    return Request(RTM_DELADDR, _CHANGE, body, f"removing address {address} of {name}", gone)


def put_route(destination: str, gateway: str = "", index: int = 0) -> Request:
    """A route to `destination` by `gateway`, or on the link of interface `index`, or both.

    With neither, what goes there is refused (ICMP: no route).
    Replaces a route to the same destination.  With both, the gateway need not
    be in a subnet of the interface.
    """
    body = _route(destination, gateway, index)
    return Request(RTM_NEWROUTE, _PUT, body, f"route to {destination} {_way(gateway)}")


def delete_route(destination: str, gateway: str = "", index: int = 0) -> Request:
    """Remove that route; gone already is fine."""
    body = _route(destination, gateway, index)
    gone = (errno.ESRCH, errno.ENODEV)
    return Request(RTM_DELROUTE, _CHANGE, body, f"removing the route to {destination}", gone)


def put_neighbour(index: int, address: str, mac: str, name: str) -> Request:
    """`address` (its prefix length is not looked at) is at `mac` on interface `index`, for good."""
    family, packed, _ = _prefix(address)
    body = (
        struct.pack("=BxxxIHBB", family, index, _NUD_PERMANENT, 0, 0)
        + attribute(_NDA_DST, packed)
        + attribute(_NDA_LLADDR, _octets(mac))
    )
    return Request(RTM_NEWNEIGH, _PUT, body, f"neighbour {address} on {name}")


def _way(gateway: str) -> str:
    return f"by {gateway}" if gateway else "on the link"


def _octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def ifinfo(index: int = 0, flags: int = 0, family: int = 0) -> bytes:
    """The struct ifinfomsg of an interface (without an index: named besides), with `flags` set."""
    return _IFINFO.pack(family, 0, index, flags, flags)


def ask_way(address: str) -> Request:
    """Which way what is for `address` goes; `leads_home` reads the answer."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    body = _RTMSG.pack(family, 8 * len(packed), 0, 0, 0, 0, 0, 0, 0) + attribute(_RTA_DST, packed)
    unreachable = (errno.ENETUNREACH, errno.EHOSTUNREACH)
    return Request(
        RTM_GETROUTE, NLM_F_REQUEST, body, f"asking for the way to {address}", unreachable
    )


def leads_home(body: bytes) -> bool:
    """Whether the route that a message tells of ends in the namespace itself."""
    return int(_RTMSG.unpack_from(body)[7]) == _RTN_LOCAL


def about_interface(body: bytes) -> tuple[int, dict[int, bytes]]:
    """The number of the interface that a message is about, and its attributes by their kind."""
    return _IFINFO.unpack_from(body)[2], dict(attributes(body[_IFINFO.size :]))


def _name(name: str) -> bytes:
    return attribute(_IFLA_IFNAME, name.encode() + b"\0")


def _device(device: Device) -> bytes:
    return (
        _name(device.name)
        + attribute(_IFLA_MTU, struct.pack("=I", device.mtu))
        + attribute(_IFLA_ADDRESS, _octets(device.mac))
        + _ONE_QUEUE
    )


def _kind(kind: bytes, options: bytes) -> bytes:
    body = attribute(_IFLA_INFO_KIND, kind) + attribute(_IFLA_INFO_DATA, options)
    return attribute(_IFLA_LINKINFO, body)


def _address(index: int, address: str) -> bytes:
    """The struct ifaddrmsg of an address, and its attributes."""
    family, packed, length = _prefix(address)
    flags = _IFA_F_NODAD if family == socket.AF_INET6 else 0
    body = (
        struct.pack("=BBBBI", family, length, flags, _RT_SCOPE_UNIVERSE, index)
        + attribute(_IFA_LOCAL, packed)
        + attribute(_IFA_ADDRESS, packed)
    )
    if family == socket.AF_INET and length <= 30:  # RFC 3021: a /31 has no broadcast address.
        (number,) = struct.unpack("!I", packed)
        body += attribute(_IFA_BROADCAST, struct.pack("!I", number | 0xFFFFFFFF >> length))
    return body


def _route(destination: str, gateway: str, index: int) -> bytes:
    """The struct rtmsg of a route, and its attributes."""
    family, packed, length = _prefix(destination)
    on_link = not gateway and family == socket.AF_INET
    scope = _RT_SCOPE_LINK if on_link else _RT_SCOPE_UNIVERSE
    flags = _RTNH_F_ONLINK if gateway and index else 0
    kind = _RTN_UNICAST if gateway or index else _RTN_UNREACHABLE
    fields = (0, 0, _RT_TABLE_MAIN, _RTPROT_BOOT, scope, kind, flags)
    body = _RTMSG.pack(family, length, *fields)
    if length:
        body += attribute(_RTA_DST, packed)
    if gateway:
        body += attribute(_RTA_GATEWAY, socket.inet_pton(family, gateway))
    if index:
        body += attribute(_RTA_OIF, struct.pack("=I", index))
    return body


def _prefix(text: str) -> tuple[int, bytes, int]:
    """Family, address and prefix length of "10.0.0.1/24"; the plan has checked it."""
    address, _, length = text.partition("/")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.inet_pton(family, address), int(length)
