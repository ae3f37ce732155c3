"""A relayed candidate for aioice, by UDP, TCP or TLS, in the address family that is asked for.

aioice's TURN client asks for no family (RFC 8656, section 18.9), whereupon a relay
gives IPv4, and it knows no certificate but by an authority.  What is changed here
is the one message by which a port at the relay is asked for, and what a TLS
connection is held against.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Literal

from aioice import Candidate, Connection, stun
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import StunProtocol
from aioice.turn import (
    DEFAULT_ALLOCATION_LIFETIME,
    DEFAULT_CHANNEL_REFRESH_TIME,
    TurnClientMixin,
    TurnClientTcpProtocol,
    TurnClientUdpProtocol,
    TurnTransport,
)

from lab.peer.endpoint import Endpoint
from lab.peer.settings import Settings
from lab.peer.tls import check, pinned

Transport = Literal["udp", "tcp", "tls"]
CONNECT_S = 1.5
"""How long a connection to a relay may take."""
MOST_PREFERRED = 65535
_REQUESTED_ADDRESS_FAMILY = 0x0017
_FAMILIES = {4: 0x01, 6: 0x02}


class _Allocate(stun.Message):
    """A request for a port at the relay, in a family; aioice has no such attribute."""

    family = 4

    def __bytes__(self) -> bytes:
        whole = super().__bytes__()
        wanted = struct.pack("!HHB3x", _REQUESTED_ADDRESS_FAMILY, 4, _FAMILIES[self.family])
        # First of all: what vouches for a message comes last, and covers what is before it.
        head, body = whole[: stun.HEADER_LENGTH], wanted + whole[stun.HEADER_LENGTH :]
        return stun.set_body_length(head + body, len(body))


class _Asking(TurnClientMixin):
    """A TURN client that says of which family the port is to be."""

    family = 4

    async def request_with_retry(
        self, request: stun.Message
    ) -> tuple[stun.Message, tuple[str, int]]:
        """As aioice has it, of another message."""
        if request.message_method is stun.Method.ALLOCATE:
            method, kind = request.message_method, request.message_class
            asking = _Allocate(method, kind, attributes=request.attributes)
            asking.family = self.family
            request = asking
        return await super().request_with_retry(request)


class _ByUdp(_Asking, TurnClientUdpProtocol):
    """Over UDP."""


class _ByTcp(_Asking, TurnClientTcpProtocol):
    """Over TCP, and by TLS."""


async def relayed(
    owner: Connection, settings: Settings, server: Endpoint, transport: Transport, family: int
) -> tuple[Candidate, StunProtocol]:
    """A port of `family` at the relay `server`, as a candidate of `owner`, and what receives there.

    Raises OSError, ConnectionError and aioice's TransactionError if there is none to be had.
    """
    loop = asyncio.get_running_loop()
    user, password = settings.relay_user, settings.relay_password
    times = DEFAULT_ALLOCATION_LIFETIME, DEFAULT_CHANNEL_REFRESH_TIME
    inner: _ByUdp | _ByTcp
    carrier: asyncio.BaseTransport
    if transport == "udp":
        carrier, inner = await loop.create_datagram_endpoint(
            lambda: _ByUdp(server, user, password, *times), remote_addr=server
        )
    else:
        async with asyncio.timeout(CONNECT_S):
            carrier, inner = await loop.create_connection(
                lambda: _ByTcp(server, user, password, *times),
                server.address,
                server.port,
                ssl=pinned() if transport == "tls" else None,
            )
    inner.family = family
    try:
        if transport == "tls":
            check(carrier, server, settings.relay_pin)
        protocol = StunProtocol(owner)
        await TurnTransport(inner)._connect(protocol)  # noqa: SLF001 - there is no public way
    except BaseException:
        carrier.close()
        raise
    protocol.local_candidate = _candidate(protocol)
    return protocol.local_candidate, protocol


def _candidate(protocol: StunProtocol) -> Candidate:
    at = protocol.transport.get_extra_info("sockname")
    related = protocol.transport.get_extra_info("related_address")
    # IPv6 before IPv4 where both are alike else (RFC 8421, section 4).
    preference = MOST_PREFERRED - (":" not in at[0])
    return learned("relay", preference, at, base=at[0], related=related)


def learned(
    kind: Literal["srflx", "relay"],
    preference: int,
    at: tuple[str, int],
    *,
    base: str,
    related: tuple[str, int],
) -> Candidate:
    """A candidate at `at` that a server told of (RFC 8445, section 5.1.1.2).

    `preference` ranks it among those of its kind; `base` is the address that
    checks are sent from, and `related` the endpoint that is told besides.
    """
    return Candidate(
        foundation=candidate_foundation(kind, "udp", base),
        component=1,
        transport="udp",
        priority=candidate_priority(1, kind, preference),
        host=at[0],
        port=at[1],
        type=kind,
        related_address=related[0],
        related_port=related[1],
    )
