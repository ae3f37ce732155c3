"""TLS to a relay: the certificate that is known, and no other."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lab.peer.endpoint import Endpoint
from lab.peer.record import Tally
from lab.peer.tls import open_tls
from tests.unit.peer.support import network

WAIT_S = 30.0


def certificate(folder: Path) -> tuple[ssl.SSLContext, str]:
    """A server's side, and the fingerprint of what it shows."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relay")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    kind = serialization.PrivateFormat.PKCS8
    private = key.private_bytes(pem, kind, serialization.NoEncryption())
    file = folder / "relay.pem"
    file.write_bytes(private + made.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    der = made.public_bytes(serialization.Encoding.DER)
    return context, hashlib.sha256(der).hexdigest()


@pytest.mark.parametrize("pin", ["", "0" * 64, "flipped"])
def test_a_certificate_that_is_not_the_known_one_is_refused(tmp_path, pin):
    context, known = certificate(tmp_path)
    wrong = f"{known[:-1]}{int(known[-1], 16) ^ 1:x}" if pin == "flipped" else pin
    heard: list[bytes] = []

    async def run() -> None:
        ended = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await reader.read())
            writer.close()
            ended.set()

        server = await asyncio.start_server(serve, f"{network()}.1", 0, ssl=context)
        at = Endpoint(*server.sockets[0].getsockname()[:2])
        with pytest.raises(ConnectionError, match="another certificate"):
            await open_tls("", at, Tally(), WAIT_S, wrong)
        async with asyncio.timeout(WAIT_S):
            await ended.wait()
        driver = await open_tls("", at, Tally(), WAIT_S, known)
        driver.close()
        server.close()

    asyncio.run(run())
    # Nothing was said to who could not show what it had to.
    assert heard[0] == b""
