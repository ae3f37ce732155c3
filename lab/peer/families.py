"""IPv4 endpoints on IPv6 sockets: one port for both families, and the way through a NAT64.

Everything above a socket says `45.0.0.2:3478` and knows nothing of how that
is reached.  An IPv6 socket reaches it by an address that has the IPv4 one in
its last 32 bits: behind `::ffff:0:0/96` on a host that has both families
(RFC 4291, section 2.5.5.2), behind the prefix of a NAT64 on a host that has
IPv6 alone (RFC 6052).
"""

from __future__ import annotations

import ipaddress
import socket

from lab.peer.endpoint import Endpoint


class Embedding:
    """A /96 that stands for IPv4."""

    def __init__(self, prefix: str) -> None:
        """ValueError if `prefix` is no IPv6 network of 96 bits."""
        network = ipaddress.IPv6Network(prefix)
        if network.prefixlen != 96:
            raise ValueError(f"only prefixes of 96 bits stand for IPv4: {prefix}")
        self.prefix = str(network)
        self._head = network.network_address.packed[:12]

    def wrap(self, endpoint: Endpoint) -> Endpoint:
        """`endpoint` as an IPv6 socket sends to it."""
        if endpoint.family == 6:
            return endpoint
        packed = self._head + socket.inet_aton(endpoint.address)
        return Endpoint(socket.inet_ntop(socket.AF_INET6, packed), endpoint.port)

    def unwrap(self, endpoint: Endpoint) -> Endpoint:
        """The IPv4 endpoint that a packet came from, or else `endpoint` itself."""
        packed = socket.inet_pton(socket.AF_INET6, endpoint.address.partition("%")[0])
        if not packed.startswith(self._head):
            return endpoint
        return Endpoint(socket.inet_ntoa(packed[12:]), endpoint.port)


def mapped() -> Embedding:
    """IPv4 on a socket that the kernel has let have both families."""
    return Embedding("::ffff:0:0/96")
