"""TURN over TLS: a driver on a connection to a server whose certificate is known.

There are no authorities here: a peer is told the certificate's fingerprint
with the server's address, and believes no other (as DANE's "DANE-EE", RFC 6698).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ssl

from lab.peer.driver import TcpDriver
from lab.peer.endpoint import Endpoint
from lab.peer.record import Tally


class TlsDriver(TcpDriver):
    """Machines on a TLS connection."""

    transport = "tls"


async def open_tls(
    source: str, server: Endpoint, tally: Tally, timeout_s: float, pin: str
) -> TlsDriver:
    """A driver on a TLS connection to `server`; OSError (TimeoutError too) if there is none.

    `pin` is the SHA-256 of its certificate, in hexadecimal.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout_s):
        transport, driver = await loop.create_connection(
            lambda: TlsDriver(tally, server),
            server.address,
            server.port,
            ssl=pinned(),
            local_addr=(source, 0) if source else None,
        )
    try:
        check(transport, server, pin)
    except ConnectionError:
        driver.close()
        raise
    return driver


def pinned() -> ssl.SSLContext:
    """For connections to servers whose certificates are to be held against what is known of them.

    It believes whatever is shown: `check` has to be called with each connection.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the fingerprint says more
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def check(transport: asyncio.BaseTransport, server: Endpoint, pin: str) -> None:
    """Raise ConnectionError unless the server has shown the certificate of that SHA-256."""
    shown = transport.get_extra_info("ssl_object").getpeercert(binary_form=True) or b""
    if not hmac.compare_digest(hashlib.sha256(shown).hexdigest(), pin):
        raise ConnectionError(f"{server} shows another certificate than the one that is known")
