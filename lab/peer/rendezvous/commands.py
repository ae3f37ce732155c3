"""What the service's state machines want done, and how they say no."""

from __future__ import annotations

from typing import Any, NamedTuple

from lab.peer.rendezvous.frames import encode
from lab.peer.rendezvous.parcels import Parcel


class Send(NamedTuple):
    """Write these bytes to that connection."""

    connection: int
    data: bytes
    parcel: Parcel | None = None
    """What they are, if another peer wrote them."""


class Close(NamedTuple):
    """Close that connection after what was written to it."""

    connection: int


class Reach(NamedTuple):
    """Try to reach that port of where that connection comes from."""

    connection: int
    port: int
    token: bytes
    number: int
    """The client's own of its request; to be answered by `reaching`."""


Command = Send | Close | Reach


class Refusal(Exception):  # noqa: N818 - not an error of this program: an answer
    """An answer that says no; `fatal` ones end the connection."""

    def __init__(self, code: str, reason: str, *, fatal: bool = False) -> None:
        super().__init__(reason)
        self.code = code
        self.fatal = fatal


def frame(connection: int, message: dict[str, Any]) -> Send:
    """`message` to that connection; FrameError if it is too long."""
    return Send(connection, encode(message))


def refused(connection: int, message: dict[str, Any], refusal: Refusal) -> Send:
    """The answer to `message` that says no."""
    code, reason = refusal.code, str(refusal)
    return frame(connection, {"t": "error", "id": number(message), "code": code, "reason": reason})


def number(message: dict[str, Any]) -> int:
    """The client's own number of its message; 0 if it has none that we would repeat."""
    told = message.get("id")
    if isinstance(told, int) and not isinstance(told, bool) and 0 <= told < 2**53:
        return told
    return 0
