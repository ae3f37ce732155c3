"""The real coturn as relay: its configuration, and a certificate that is made from the seed.

It is a daemon of its node (`service: coturn`), and peers are told of it as of
the built-in relay.  It speaks TURN over UDP, TCP and TLS; who connects by TLS
knows the certificate's fingerprint.
"""

from __future__ import annotations

import base64
import datetime as dt
import functools
import hashlib

from lab import seeds
from lab.plan.model import Daemon

SERVICE = "coturn"
PACKAGE = "coturn"
PORT = 3478
TLS_PORT = 5349
"""RFC 8656, section 3.1."""
_FROM = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
_UNTIL = dt.datetime(2120, 1, 1, tzinfo=dt.UTC)

_CONFIGURATION = """\
{listening}
listening-port={port}
tls-listening-port={tls_port}
cert={{dir}}/certificate.pem
pkey={{dir}}/key.pem
lt-cred-mech
realm={lab}
user={user}:{password}
fingerprint
no-multicast-peers
no-cli
no-dtls
user-quota=256
total-quota=2048
simple-log
log-file=stdout
pidfile={{dir}}/turnserver.pid
userdb={{dir}}/turn.db
"""


def daemon(
    *,
    lab: str,
    node: str,
    addresses: tuple[str, ...],
    port: int,
    seed: int,
    user: str,
    password: str,
) -> Daemon:
    """The daemon of a node with `addresses`, at `port` (0: the usual one)."""
    listening = "\n".join(f"listening-ip={a}\nrelay-ip={a}" for a in addresses)
    key, certificate = _identity(seeds.derive(seed, "coturn", node))
    text = _CONFIGURATION.format(
        listening=listening,
        port=port or PORT,
        tls_port=TLS_PORT,
        lab=lab,
        user=user,
        password=password,
    )
    return Daemon(
        name=SERVICE,
        command=("turnserver", "-c", "{dir}/turnserver.conf"),
        package=PACKAGE,
        files=(
            ("turnserver.conf", text),
            ("key.pem", key),
            ("certificate.pem", certificate),
        ),
        ready=(f"udp/{port or PORT}", f"tcp/{port or PORT}", f"tcp/{TLS_PORT}"),
    )


def fingerprint(node: str, seed: int) -> str:
    """SHA-256 of the node's certificate, in hexadecimal."""
    lines = _identity(seeds.derive(seed, "coturn", node))[1].splitlines()[1:-1]
    return hashlib.sha256(base64.b64decode("".join(lines))).hexdigest()


@functools.lru_cache(maxsize=16)
def _identity(number: int) -> tuple[str, str]:
    """A key and a certificate, both PEM: the same for the same number."""
    # It costs 30 ms, which only labs with a coturn pay.
    from cryptography import x509  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415 - as above
        Ed25519PrivateKey,
    )

    secret = hashlib.sha256(f"coturn {number}".encode()).digest()
    key = Ed25519PrivateKey.from_private_bytes(secret)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "coturn")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1 + (number >> 1))
        .not_valid_before(_FROM)
        .not_valid_after(_UNTIL)
        .sign(key, None)  # deterministic, as Ed25519 is
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private.decode(), certificate.public_bytes(pem).decode()
