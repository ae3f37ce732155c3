"""Frames of the rendezvous service: JSON objects on a TCP stream.

::

    | length (4 bytes, big-endian) | a JSON object, UTF-8 |

`t` names the kind of the object.  A client begins with `hello`, and after
`welcome` everything else is allowed::

    -> {"t": "hello", "v": 1, "name": "alice", "key": <base64, 32 bytes>}
    <- {"t": "challenge", "nonce": <base64, 32 bytes>}
    -> {"t": "prove", "signature": <base64, 64 bytes>}
    <- {"t": "welcome"}

    -> {"t": "who", "id": 1, "name": "bob"}
    <- {"t": "peer", "id": 1, "name": "bob", "key": <base64, 32 bytes>}

    -> {"t": "send", "id": 2, "to": "bob", "body": {...}}
    <- {"t": "sent", "id": 2}
       at bob: <- {"t": "message", "from": "alice", "key": ..., "body": {...}}
    <- {"t": "late", "to": "bob", "ids": [2], "ms": 1200, "end": ""}
       bob's connection does not acknowledge these; "back" when they have come by another;
       "lost" with bob, "too-old" or one of "too-many", and so never will

    -> {"t": "reach", "id": 3, "port": 33033, "token": <base64, 16 bytes>}
    <- {"t": "reaching", "id": 3, "address": "45.0.0.2"}
       from the service, unasked, to that address and port: `lab.peer.rendezvous.reach`
    -> {"t": "volunteer", "id": 4, "elected": false, "lacks": ["lasting"]}
    <- {"t": "sent", "id": 4}
    -> {"t": "volunteers", "id": 5}
    <- {"t": "volunteers", "id": 5,
        "peers": [{"name": "carol", "key": <base64, 32 bytes>, "elected": true, "lacks": []}]}

    <- {"t": "ping"}            -> {"t": "pong"}
    <- {"t": "error", "id": 2, "code": "unknown-name", "reason": "..."}

An error without `id` is about the connection, which the server then closes.
The signature is over `challenge_text`.
"""

from __future__ import annotations

import json
import re
import struct
from typing import Any

MAX_FRAME = 16 * 1024
VERSION = 1
CHALLENGE = b"lab rendezvous 1"
NONCE_BYTES = 32

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)


class FrameError(ValueError):
    """The stream holds something that is not a frame; it cannot be read further."""


def valid_name(name: object) -> bool:
    """Whether `name` can be a peer's name: 1 to 63 letters, digits, `.`, `_`, `-`."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def challenge_text(nonce: bytes, name: str, key: bytes) -> bytes:
    """What a peer signs to prove that `key` is its own (with purpose `CHALLENGE`)."""
    return nonce + key + name.encode()


def parse_object(data: bytes) -> dict[str, Any]:
    """The JSON object in `data`; ValueError for anything else, however nested or odd."""
    try:
        value = json.loads(data, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - one error for bad input
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def encode(message: dict[str, Any]) -> bytes:
    """`message` as a frame; FrameError if it is too long."""
    body = json.dumps(message, separators=(",", ":")).encode()
    if len(body) > MAX_FRAME:
        raise FrameError(f"{len(body)} bytes, and {MAX_FRAME} are the most")
    return struct.pack("!I", len(body)) + body


class FrameReader:
    """Cuts a stream into messages; `feed` it what arrives."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[dict[str, Any], int]]:
        """The messages that are complete now, each with the size of its frame.

        FrameError if one is too long or not a JSON object; the ones before it
        are lost too, which is well for a stream that has to be closed.
        """
        self._buffer += data
        found = []
        while len(self._buffer) >= 4:
            (length,) = struct.unpack_from("!I", self._buffer)
            if length > MAX_FRAME:
                raise FrameError(f"a frame of {length} bytes, and {MAX_FRAME} are the most")
            if len(self._buffer) < 4 + length:
                break
            try:
                message = parse_object(bytes(self._buffer[4 : 4 + length]))
            except ValueError as error:
                raise FrameError(str(error)) from error
            del self._buffer[: 4 + length]
            found.append((message, 4 + length))
        return found
