"""What two peers say to each other through the rendezvous service.

Bodies of rendezvous messages; `kind` names them::

    {"kind": "offer", "attempt": <hex, 8 bytes>, "technique": "udp-punch",
     "from": "alice", "to": "bob", "ephemeral": <base64, 32 bytes>,
     "candidates": [{"kind": "host", "endpoint": "192.168.1.2:40000"}, ...],
     "window_ms": 10000, "details": {}, "signature": <base64, 64 bytes>}
    {"kind": "answer", ... as above, "offer": <hex, SHA-256 of the offer>}
    {"kind": "decline", "attempt": ..., "code": "unsupported", "reason": "..."}
    {"kind": "more", "attempt": ..., "details": {}}
    {"kind": "end", "attempt": ...}
    {"kind": "carry", "token": ..., "attempt": ..., "key": <base64, 32 bytes>}
    {"kind": "carries", "token": ..., "at": "45.0.0.2:33033", "reason": ""}
    {"kind": "run", "token": <hex, 8 bytes>}      several attempts are about to be made
    {"kind": "ping", "token": <hex, 8 bytes>}     {"kind": "pong", "token": ...}

Offer and answer are signed by the sender's identity, so that the service,
which passes them on, cannot change them; what is signed is the JSON of all
other keys, sorted and without spaces.  `window_ms` says how long the caller
may take, and `details` is what a technique wants to add.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lab.peer.endpoint import Endpoint
from lab.peer.identity import KEY_BYTES, SIGNATURE_BYTES, Identity, from_text, to_text, verify
from lab.peer.record import Candidate
from lab.peer.rendezvous.frames import valid_name
from lab.peer.sealed import SESSION_BYTES

MAX_CANDIDATES = 8
MAX_WINDOW_S = 60.0
_PURPOSE = b"lab peer signal 1"


class SignalError(ValueError):
    """The body is not a signal, or not signed by who sent it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A caller's wish to connect, or (`offer_digest` is not empty) the callee's answer."""

    attempt: bytes
    technique: str
    sender: str
    to: str
    ephemeral: bytes
    candidates: tuple[Candidate, ...]
    window_s: float
    details: Mapping[str, Any] = field(default_factory=dict)
    offer_digest: str = ""
    """Of an answer: the offer that it answers."""


@dataclass(frozen=True, slots=True)
class Decline:
    """The callee will not, or cannot."""

    attempt: bytes
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class More:
    """What a technique adds to its offer or answer later.

    It is not signed: what it says must not matter to anything but success.
    """

    attempt: bytes
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class End:
    """The caller needs the attempt no more."""

    attempt: bytes


@dataclass(frozen=True, slots=True)
class Announce:
    """The caller is about to make several attempts (`lab.peer.traversal.run`)."""

    token: bytes


@dataclass(frozen=True, slots=True)
class Ping:
    """To be answered at once by a pong with the same token."""

    token: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    token: bytes


@dataclass(frozen=True, slots=True)
class Carry:
    """A wish to a volunteer: to carry an attempt of the sender and of the peer with that key."""

    token: bytes
    attempt: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Carries:
    """The answer: where both should come, or None and why not."""

    token: bytes
    at: Endpoint | None
    reason: str = ""


Signal = Offer | Decline | More | End | Announce | Ping | Pong | Carry | Carries


def encode(signal: Signal, identity: Identity) -> dict[str, Any]:
    """`signal` as the body of a rendezvous message."""
    match signal:
        case Offer():
            body = _offer_body(signal)
            body["signature"] = to_text(identity.sign(_PURPOSE, _canonical(body)))
            return body
        case Decline():
            return {
                "kind": "decline",
                "attempt": signal.attempt.hex(),
                "code": signal.code,
                "reason": signal.reason[:300],
            }
        case More():
            return {
                "kind": "more",
                "attempt": signal.attempt.hex(),
                "details": dict(signal.details),
            }
        case End():
            return {"kind": "end", "attempt": signal.attempt.hex()}
        case Carry():
            return {
                "kind": "carry",
                "token": signal.token.hex(),
                "attempt": signal.attempt.hex(),
                "key": to_text(signal.key),
            }
        case Carries():
            at = str(signal.at) if signal.at else ""
            reason = signal.reason[:200]
            return {"kind": "carries", "token": signal.token.hex(), "at": at, "reason": reason}
        case Announce():
            return {"kind": "run", "token": signal.token.hex()}
        case Ping() | Pong():
            kind = "ping" if isinstance(signal, Ping) else "pong"
            return {"kind": kind, "token": signal.token.hex()}


def parse(body: Mapping[str, Any], sender: str, key: bytes) -> Signal:
    """The signal in `body`, which `sender`, the owner of `key`, sent.

    SignalError if it is malformed, or an offer or answer that is not signed
    by `key`.
    """
    try:
        kind = body.get("kind")
        if kind == "carry":
            token, key = _octets(body["token"]), from_text(body["key"], KEY_BYTES)
            return Carry(token, _octets(body["attempt"]), key)
        if kind == "carries":
            at, reason = body["at"], body["reason"]
            if not isinstance(at, str) or not isinstance(reason, str):
                raise SignalError("a volunteer says where, or why not")
            endpoint = Endpoint.parse(at) if at else None
            return Carries(_octets(body["token"]), endpoint, reason[:200])
        if kind in ("offer", "answer"):
            return _parse_offer(body, sender, key)
        if kind == "decline":
            reason, code = body["reason"], body["code"]
            if not isinstance(reason, str) or not isinstance(code, str):
                raise SignalError("a decline says why")
            return Decline(_octets(body["attempt"]), code[:40], reason[:300])
        if kind == "more":
            if not isinstance(body["details"], dict):
                raise SignalError("what is added is an object")
            return More(_octets(body["attempt"]), body["details"])
        if kind == "end":
            return End(_octets(body["attempt"]))
        if kind == "run":
            return Announce(_octets(body["token"]))
        if kind == "ping":
            return Ping(_octets(body["token"]))
        if kind == "pong":
            return Pong(_octets(body["token"]))
    except KeyError as error:
        raise SignalError(f"{error} is missing") from error
    except SignalError:
        raise
    except (ValueError, TypeError, RecursionError) as error:
        raise SignalError(str(error)) from error
    raise SignalError("no such signal")


def digest(offer: Offer) -> str:
    """The hash by which an answer names its offer."""
    return hashlib.sha256(_canonical(_offer_body(offer))).hexdigest()


def transcript(offer: Offer, callee_ephemeral: bytes, callee_key: bytes) -> bytes:
    """What both peers must agree on before they have a key (`lab.peer.traversal.seal`)."""
    return digest(offer).encode() + callee_ephemeral + callee_key


def _offer_body(offer: Offer) -> dict[str, Any]:
    body: dict[str, Any] = {
        "kind": "answer" if offer.offer_digest else "offer",
        "attempt": offer.attempt.hex(),
        "technique": offer.technique,
        "from": offer.sender,
        "to": offer.to,
        "ephemeral": to_text(offer.ephemeral),
        "candidates": [candidate.to_json() for candidate in offer.candidates],
        "window_ms": round(offer.window_s * 1000),
        "details": dict(offer.details),
    }
    if offer.offer_digest:
        body["offer"] = offer.offer_digest
    return body


def _parse_offer(body: Mapping[str, Any], sender: str, key: bytes) -> Offer:
    signature = from_text(body["signature"], SIGNATURE_BYTES)
    unsigned = {name: value for name, value in body.items() if name != "signature"}
    if not verify(key, signature, _PURPOSE, _canonical(unsigned)):
        raise SignalError("the signature is not the sender's")
    candidates, window_ms, details = body["candidates"], body["window_ms"], body["details"]
    technique, offer_digest = body["technique"], body.get("offer", "")
    if not isinstance(candidates, list) or len(candidates) > MAX_CANDIDATES:
        raise SignalError(f"{MAX_CANDIDATES} candidates are the most")
    if not isinstance(window_ms, int) or not 0 < window_ms <= MAX_WINDOW_S * 1000:
        raise SignalError("no such window")
    if not isinstance(details, dict) or not isinstance(technique, str) or len(technique) > 40:
        raise SignalError("no such technique")
    if not isinstance(offer_digest, str) or bool(offer_digest) != (body["kind"] == "answer"):
        raise SignalError("an answer names its offer")
    if body["from"] != sender or not valid_name(body["to"]):
        raise SignalError("the sender is another")
    return Offer(
        attempt=_octets(body["attempt"]),
        technique=technique,
        sender=sender,
        to=body["to"],
        ephemeral=from_text(body["ephemeral"], KEY_BYTES),
        candidates=tuple(Candidate.from_json(entry) for entry in candidates),
        window_s=window_ms / 1000,
        details=details,
        offer_digest=offer_digest,
    )


def _octets(text: object) -> bytes:
    if not isinstance(text, str) or len(text) != 2 * SESSION_BYTES:
        raise SignalError("an attempt's number is 8 bytes in hexadecimal")
    data = bytes.fromhex(text)
    if len(data) != SESSION_BYTES:  # spaces are allowed in hexadecimal, but not here
        raise SignalError("an attempt's number is 8 bytes in hexadecimal")
    return data


def _canonical(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
