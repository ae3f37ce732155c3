"""Who may use the relay: long-term credentials (RFC 8489, section 9.2).

The nonce is `<time, 8 hex digits><HMAC, 32 hex digits>`, so that the server
need not remember what it handed out: the HMAC binds it to the client's
endpoint and to a secret that dies with the process.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from lab.peer.endpoint import Endpoint
from lab.peer.stun.codec import Message, long_term_key

NONCE_S = 3600
"""How long a nonce is good for; then the client is told the next one (438)."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request whose signature is right."""

    user: str
    key: bytes


@dataclass(frozen=True, slots=True)
class Rejected:
    """The error to answer with; `challenge` asks for credentials."""

    code: int
    reason: str
    challenge: bool = True


class Gatekeeper:
    """Checks signatures against a list of users."""

    def __init__(self, realm: str, users: Mapping[str, str]) -> None:
        self.realm = realm
        self._keys = {
            user: long_term_key(user, realm, password) for user, password in users.items()
        }
        self._secret = secrets.token_bytes(32)

    def nonce(self, client: Endpoint, now: float) -> bytes:
        """A nonce for `client`."""
        stamp = f"{int(now) & 0xFFFFFFFF:08x}"
        mac = hmac.digest(self._secret, f"{stamp} {client}".encode(), hashlib.sha256)
        return (stamp + mac[:16].hex()).encode()

    def check(self, message: Message, client: Endpoint, now: float) -> Admitted | Rejected:
        """Whether `message` may be served (section 9.2.4)."""
        attributes = message.attributes
        if not message.signed:
            return Rejected(401, "Unauthorized")
        if not {"USERNAME", "REALM", "NONCE"} <= attributes.keys():
            return Rejected(400, "Bad Request", challenge=False)
        if not self._valid(attributes["NONCE"], client, now):
            return Rejected(438, "Stale Nonce")
        key = self._keys.get(attributes["USERNAME"])
        if key is None or attributes["REALM"] != self.realm or not message.authentic(key):
            return Rejected(401, "Unauthorized")
        return Admitted(attributes["USERNAME"], key)

    def _valid(self, nonce: bytes, client: Endpoint, now: float) -> bool:
        try:
            age = int(now) - int(nonce[:8], 16)
            issued = self.nonce(client, now - age)
        except ValueError:
            return False
        return hmac.compare_digest(issued, nonce) and 0 <= age <= NONCE_S
