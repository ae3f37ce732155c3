"""Who a peer is: an Ed25519 key, proven to the rendezvous service and to other peers."""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

KEY_BYTES = 32
SIGNATURE_BYTES = 64
_SMALL_ORDER = frozenset(
    int(text, 16)
    for text in (
        "0",
        "1",
        "05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826",
        "7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7",
        "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffec",
        "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffed",
        "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffee",
    )
)
"""The y coordinates of points whose order divides 8: under such a key anybody can sign."""


class Identity:
    """A peer's own key pair."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.key = private.public_key().public_bytes_raw()
        """The public key, 32 bytes: what others know this peer by."""

    @classmethod
    def create(cls) -> Identity:
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path) -> Identity:
        """The identity kept in `path`, made if there is none: a restarted peer is the same peer.

        The file holds the 32 bytes of the private key and is readable by its
        owner alone.  A file that holds anything else is replaced.
        """
        try:
            return cls(Ed25519PrivateKey.from_private_bytes(path.read_bytes()))
        except (OSError, ValueError):
            private = Ed25519PrivateKey.generate()
        partial = path.with_suffix(".new")
        partial.unlink(missing_ok=True)
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(private.private_bytes_raw())
        partial.replace(path)
        return cls(private)

    def sign(self, purpose: bytes, data: bytes) -> bytes:
        """A signature that holds for `purpose` alone."""
        return self._private.sign(purpose + b"\0" + data)


def verify(key: bytes, signature: bytes, purpose: bytes, data: bytes) -> bool:
    """Whether the owner of `key` signed `data` for `purpose`.

    A key that has no owner signs nothing: one of small order, for which a
    signature of zeros holds for one text in a few (RFC 8032 leaves that open).
    """
    if int.from_bytes(key, "little") & ~(1 << 255) in _SMALL_ORDER:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, purpose + b"\0" + data)
    except (InvalidSignature, ValueError):
        return False
    return True


def to_text(data: bytes) -> str:
    """`data` in base64, for JSON."""
    return base64.b64encode(data).decode("ascii")


def from_text(text: object, size: int) -> bytes:
    """The `size` bytes that `to_text` wrote; ValueError if it is not that."""
    if not isinstance(text, str) or len(text) > 4 * size:
        raise ValueError("not base64 of the right size")
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError("not base64") from error
    if len(data) != size:
        raise ValueError(f"{size} bytes expected")
    return data
