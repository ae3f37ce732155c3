"""A peer's half of the rendezvous service, without its socket."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lab.peer.identity import KEY_BYTES, Identity, from_text, to_text
from lab.peer.rendezvous.frames import (
    CHALLENGE,
    NONCE_BYTES,
    VERSION,
    FrameError,
    FrameReader,
    challenge_text,
    encode,
    valid_name,
)

MAX_VOLUNTEERS = 32
MAX_LATE = 64
"""Messages that one notice names."""


@dataclass(frozen=True, slots=True)
class Registered:
    """The service has accepted this peer."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The service has ended the connection, or speaks nonsense."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Volunteering:
    """A peer that would be a relay for others, and what it lacks for that, if anything."""

    name: str
    key: bytes
    elected: bool
    lacks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a question; `code` is "" for yes."""

    number: int
    key: bytes = b""
    code: str = ""
    reason: str = ""
    address: str = ""
    """By which the service sees this peer, if that was the question."""
    volunteers: tuple[Volunteering, ...] = ()
    """Those who would be relays, if that was the question; elected ones first."""


@dataclass(frozen=True, slots=True)
class Message:
    """What another peer sent; the service vouches for the name and its key."""

    sender: str
    key: bytes
    body: dict[str, Any]
    size: int
    """Bytes of the frame that it came in."""


@dataclass(frozen=True, slots=True)
class Late:
    """What this peer sent to another has not arrived at once: that one's connection is dead."""

    to: str
    numbers: tuple[int, ...]
    """Which of its messages, by the numbers that `Member.send` gave them."""
    seconds: float
    """How long the oldest of them has waited until now."""
    end: str = ""
    """`back` if the other is there again and has got them, `lost` if it has gone for good;
    `too-old` or `too-many` if they are not kept for it any more (`lab.peer.rendezvous.parcels`)."""


Event = Registered | Refused | Answer | Message | Late


class Member:
    """One connection to the service, from `hello` on."""

    def __init__(self, name: str, identity: Identity, numbers: Iterator[int] | None = None) -> None:
        """`numbers` are for what it asks and sends; from 1 if it does not say which."""
        self.registered = False
        self._name = name
        self._identity = identity
        self._reader = FrameReader()
        self._numbers = numbers or itertools.count(1)
        self._out = bytearray()
        self._write({"t": "hello", "v": VERSION, "name": name, "key": to_text(identity.key)})

    def take(self) -> bytes:
        """What has to be written now."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def who(self, name: str) -> int:
        """Ask for the key of `name`; the number under which the answer comes."""
        return self._ask({"t": "who", "name": name})

    def send(self, to: str, body: dict[str, Any]) -> tuple[int, int]:
        """Send `body`; the number of the answer, and the size of the frame.

        FrameError if it is too long.
        """
        number = next(self._numbers)
        return number, self._write({"t": "send", "id": number, "to": to, "body": body})

    def reach(self, port: int, token: bytes) -> int:
        """Ask to be reached at `port` from outside; the number of the answer."""
        return self._ask({"t": "reach", "port": port, "token": to_text(token)})

    def volunteer(self, lacks: tuple[str, ...], *, elected: bool) -> int:
        """Say that this peer would be a relay, and what it lacks; the number of the answer."""
        return self._ask({"t": "volunteer", "elected": elected, "lacks": list(lacks)})

    def volunteers(self) -> int:
        """Ask who would be a relay; the number of the answer."""
        return self._ask({"t": "volunteers"})

    def _ask(self, question: dict[str, Any]) -> int:
        number = next(self._numbers)
        self._write({**question, "id": number})
        return number

    def receive(self, data: bytes) -> list[Event]:
        """Take what arrived; a malformed stream gives `Refused`."""
        try:
            return [
                event
                for message, size in self._reader.feed(data)
                if (event := self._handle(message, size)) is not None
            ]
        except (FrameError, ValueError) as error:
            return [Refused("malformed", f"the rendezvous service speaks nonsense: {error}")]

    def _handle(self, message: dict[str, Any], size: int) -> Event | None:
        match message.get("t"):
            case "challenge":
                nonce = from_text(message.get("nonce"), NONCE_BYTES)
                text = challenge_text(nonce, self._name, self._identity.key)
                signature = self._identity.sign(CHALLENGE, text)
                self._write({"t": "prove", "signature": to_text(signature)})
            case "welcome":
                self.registered = True
                return Registered()
            case "ping":
                self._write({"t": "pong"})
            case "sent":
                return Answer(_whole(message.get("id")))
            case "peer":
                return Answer(_whole(message.get("id")), from_text(message.get("key"), KEY_BYTES))
            case "reaching":
                return Answer(_whole(message.get("id")), address=_text(message.get("address")))
            case "volunteers":
                return Answer(_whole(message.get("id")), volunteers=_volunteers(message))
            case "message":
                return _message(message, size)
            case "late":
                return _late(message)
            case "error":
                code, reason = _text(message.get("code")), _text(message.get("reason"))
                if "id" in message:
                    return Answer(_whole(message["id"]), b"", code, reason)
                return Refused(code, reason)
        return None

    def _write(self, message: dict[str, Any]) -> int:
        frame = encode(message)
        self._out += frame
        return len(frame)


def _message(message: dict[str, Any], size: int) -> Message:
    sender, body = message.get("from"), message.get("body")
    if not valid_name(sender) or not isinstance(body, dict):
        raise ValueError("a message without sender or body")
    return Message(str(sender), from_text(message.get("key"), KEY_BYTES), body, size)


def _late(message: dict[str, Any]) -> Late:
    numbers = message.get("ids")
    if not isinstance(numbers, list) or len(numbers) > MAX_LATE:
        raise ValueError("no list of messages")
    seconds = _whole(message.get("ms")) / 1000
    end = _text(message.get("end"))
    return Late(_text(message.get("to")), tuple(map(_whole, numbers)), seconds, end)


def _volunteers(message: dict[str, Any]) -> tuple[Volunteering, ...]:
    peers = message.get("peers")
    if not isinstance(peers, list) or len(peers) > MAX_VOLUNTEERS:
        raise ValueError("no list of volunteers")
    found = []
    for peer in peers:
        if not isinstance(peer, dict) or not valid_name(peer.get("name")):
            raise ValueError("a volunteer has a name")
        lacks = peer.get("lacks")
        words = tuple(map(_text, lacks[:8])) if isinstance(lacks, list) else ()
        key = from_text(peer.get("key"), KEY_BYTES)
        found.append(Volunteering(str(peer["name"]), key, peer.get("elected") is True, words))
    return tuple(found)


def _whole(value: object) -> int:
    # A larger one is no number of ours (`commands.number`), and too large to be reckoned with.
    if not isinstance(value, int) or abs(value) >= 2**53:
        raise ValueError("an answer without a number")
    return value


def _text(value: object) -> str:
    return value[:200] if isinstance(value, str) else "unknown"
