"""Who is connected to the service, and who has proven which name to be its own.

A name belongs to the key that registered it first, for as long as that peer
is connected and `HOLD_S` longer, so that nobody takes the name of a peer that
is just reconnecting.  A holder that says nothing is asked (`ping`) and, when
it does not answer, taken for dead.  The same key may register again at once:
the newer connection replaces the older, and gets what that did not acknowledge
(`lab.peer.rendezvous.parcels`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from lab.peer.identity import KEY_BYTES, SIGNATURE_BYTES, from_text, to_text, verify
from lab.peer.rendezvous.commands import Close, Command, Refusal, Send, frame
from lab.peer.rendezvous.frames import (
    CHALLENGE,
    NONCE_BYTES,
    VERSION,
    FrameReader,
    challenge_text,
    valid_name,
)
from lab.peer.rendezvous.parcels import (
    BACK,
    EACH,
    LATE_S,
    LOST,
    ROOM,
    TOO_MANY,
    TOO_OLD,
    Kept,
    Parcel,
    Parcels,
)

HOLD_S = 3.0
PROOF_S = 10.0
"""How long a connection may take to prove who it is."""
IDLE_S = 60.0
"""A peer that says nothing for so long is asked whether it lives."""
PONG_S = 5.0
MAX_MEMBERS = 8192
MAX_STRANGERS = 2048


@dataclass(slots=True)
class Member:
    """What is known of one connection; `name` is "" until it is registered."""

    opened_at: float
    heard_at: float
    reader: FrameReader = field(default_factory=FrameReader)
    claimed: str = ""
    key: bytes = b""
    nonce: bytes = b""
    name: str = ""
    pinged_at: float | None = None
    parcels: Parcels = field(default_factory=Parcels)
    lacks: tuple[str, ...] | None = None
    """What a volunteer lacks to be a relay; None for a peer that is none."""
    reach_at: float = 0.0
    """Before that, it is not tested again."""


@dataclass(slots=True)
class Held:
    """A name whose peer has left, and may be back in a moment."""

    key: bytes
    until: float
    parcels: Kept = field(default_factory=Kept)


class Members:
    """All connections; `unread` says how many bytes that one was given have not arrived."""

    def __init__(self, most: int, unread: Callable[[int], int]) -> None:
        self._most = most
        self._unread = unread
        self._connections: dict[int, Member] = {}
        self._numbers: dict[str, int] = {}
        self._held: dict[str, Held] = {}

    def __contains__(self, connection: int) -> bool:
        return connection in self._connections

    def __iter__(self) -> Iterator[Member]:
        """Those that are registered."""
        return (self._connections[number] for number in self._numbers.values())

    @property
    def names(self) -> tuple[str, ...]:
        """The names that are registered."""
        return tuple(self._numbers)

    def get(self, connection: int) -> Member | None:
        """What is known of that connection; None if it is no more."""
        return self._connections.get(connection)

    def opened(self, connection: int, now: float) -> list[Command]:
        """A client has connected."""
        if len(self._connections) - len(self._numbers) >= MAX_STRANGERS:
            return [Close(connection)]
        self._connections[connection] = Member(now, now)
        return []

    def closed(self, connection: int, now: float) -> list[Command]:
        """A connection is gone; what it did not acknowledge is kept with the name."""
        gone = self._connections.pop(connection, None)
        if gone is None or self._numbers.get(gone.name) != connection:
            return []
        gone.parcels.acknowledged(self._unread(connection))
        del self._numbers[gone.name]
        held = self._held[gone.name] = Held(gone.key, now + HOLD_S)
        dropped = [one for parcel in gone.parcels if (one := held.parcels.add(parcel))]
        return self._tell(dropped, gone.name, now, TOO_MANY)

    def tick(self, now: float) -> list[Command]:
        """Ask the silent, dismiss the dead, and tell who waits for them."""
        commands: list[Command] = []
        for name, held in tuple(self._held.items()):
            if held.until <= now:
                del self._held[name]
                commands += self._tell(held.parcels, name, now, LOST)
            else:
                commands += self._tell(held.parcels.expire(now), name, now, TOO_OLD)
                commands += self._tell(held.parcels, name, now)
        for connection, member in tuple(self._connections.items()):
            if member.name:
                member.parcels.acknowledged(self._unread(connection))
                late = [p for p in member.parcels if now - p.at >= LATE_S]
                commands += self._tell(late, member.name, now)
            commands += self._inspect(connection, member, now)
        return commands

    def key_of(self, name: object) -> tuple[str, bytes]:
        """A name and the key that it belongs to; Refusal if it is nobody's."""
        if isinstance(name, str):
            if name in self._numbers:
                return name, self._connections[self._numbers[name]].key
            if name in self._held:
                return name, self._held[name].key
        raise Refusal("unknown-name", "no peer of that name is registered")

    def deliver(self, name: object, parcel: Parcel) -> list[Command]:
        """Write a parcel to who has that name, or keep it for who is about to be back.

        It is lost where more than `ROOM` bytes have not arrived yet, or of its
        sender's more than `SHARE`: better that than to cut off who reads slowly.
        Refusal if the name is nobody's.
        """
        known, _ = self.key_of(name)
        if held := self._held.get(known):
            dropped = held.parcels.add(parcel)
            return self._tell((dropped,) if dropped else (), known, parcel.at, TOO_MANY)
        connection = self._numbers[known]
        unread, parcels = self._unread(connection), self._connections[connection].parcels
        parcels.acknowledged(unread)
        if unread > ROOM or not parcels.admit(parcel):
            return self._tell((parcel,), known, parcel.at, TOO_MANY)
        return [_send(connection, parcel)]

    def note(self, commands: Iterable[Command]) -> None:
        """Count what is about to be written, to know later what of it has arrived."""
        for command in commands:
            member = self._connections.get(command.connection)
            if member and isinstance(command, Send):
                member.parcels.written += len(command.data)
                if command.parcel:
                    member.parcels.add(command.parcel)

    # --- registering ---

    def hello(self, connection: int, member: Member, message: dict[str, Any]) -> list[Command]:
        """A stranger names itself: it is challenged.  Refusal."""
        name = message.get("name")
        if message.get("v") != VERSION:
            raise Refusal("version", f"version {VERSION} is spoken here", fatal=True)
        if not valid_name(name):
            raise Refusal("bad-name", "that is no name", fatal=True)
        try:
            member.key = from_text(message.get("key"), KEY_BYTES)
        except ValueError as error:
            raise Refusal("bad-key", str(error), fatal=True) from error
        member.claimed = str(name)
        member.nonce = secrets.token_bytes(NONCE_BYTES)
        return [frame(connection, {"t": "challenge", "nonce": to_text(member.nonce)})]

    def prove(
        self, connection: int, member: Member, message: dict[str, Any], now: float
    ) -> list[Command]:
        """A stranger proves its key: it is registered.  Refusal."""
        try:
            signature = from_text(message.get("signature"), SIGNATURE_BYTES)
        except ValueError as error:
            raise Refusal("bad-proof", str(error), fatal=True) from error
        name = member.claimed
        text = challenge_text(member.nonce, name, member.key)
        if not verify(member.key, signature, CHALLENGE, text):
            raise Refusal("bad-proof", "the signature is not of that key", fatal=True)
        commands: list[Command] = []
        holder = self._numbers.get(name)
        if holder is not None:
            older = self._connections[holder]
            if older.key != member.key:
                commands += self._ping(holder, older, now)
                commands += self.dismiss(connection, "name-taken", _taken(name), now)
                return commands
            commands += self.dismiss(holder, "replaced", "the peer has registered again", now)
        held = self._held.get(name)
        if held and held.until > now and held.key != member.key:
            raise Refusal("name-taken", _taken(name), fatal=True)
        if len(self._numbers) >= self._most:
            raise Refusal("full", f"{self._most} peers are the most", fatal=True)
        self._held.pop(name, None)
        self._numbers[name] = connection
        member.name = name
        commands.append(frame(connection, {"t": "welcome"}))
        if held and held.key != member.key:
            commands += self._tell(held.parcels, name, now, LOST)
        elif held:
            commands += self._tell(held.parcels.expire(now), name, now, TOO_OLD)
            sent, refused = list[Parcel](), list[Parcel]()
            for parcel in held.parcels:
                (sent if member.parcels.admit(parcel) else refused).append(parcel)
            commands += [_send(connection, parcel) for parcel in sent]
            commands += self._tell(sent, name, now, BACK)
            commands += self._tell(refused, name, now, TOO_MANY)
        return commands

    def dismiss(self, connection: int, code: str, reason: str, now: float) -> list[Command]:
        """End a connection, and say why."""
        return [
            *self.closed(connection, now),
            frame(connection, {"t": "error", "code": code, "reason": reason}),
            Close(connection),
        ]

    # --- who is silent ---

    def _inspect(self, connection: int, member: Member, now: float) -> list[Command]:
        if not member.name:
            if now - member.opened_at > PROOF_S:
                return self.dismiss(connection, "too-slow", "no proof came", now)
        elif member.pinged_at is not None:
            if now - member.pinged_at > PONG_S:
                return self.dismiss(connection, "silent", "no answer to a ping", now)
        elif now - member.heard_at > IDLE_S:
            return self._ping(connection, member, now)
        return []

    def _ping(self, connection: int, member: Member, now: float) -> list[Command]:
        if member.pinged_at is None:
            member.pinged_at = now
            return [frame(connection, {"t": "ping"})]
        return []

    def _tell(
        self, parcels: Iterable[Parcel], name: str, now: float, end: str = ""
    ) -> list[Command]:
        """Tell each sender of `parcels` to `name` which of its own wait, and for how long.

        Of those that go on waiting, the latest `EACH`: the others would not be kept.
        """
        of: dict[tuple[str, bytes], list[Parcel]] = {}
        for parcel in parcels:
            of.setdefault((parcel.sender, parcel.key), []).append(parcel)
        commands: list[Command] = []
        for (sender, key), own in of.items():
            connection = self._numbers.get(sender)
            if connection is None or self._connections[connection].key != key:
                continue
            waited = round((now - own[0].at) * 1000)
            named = own if end else own[-EACH:]
            for first in range(0, len(named), EACH):
                ids = [parcel.number for parcel in named[first : first + EACH]]
                say = {"t": "late", "to": name, "ids": ids, "ms": waited, "end": end}
                commands.append(frame(connection, say))
        return commands


def _send(connection: int, parcel: Parcel) -> Send:
    return Send(connection, parcel.frame, parcel)


def _taken(name: str) -> str:
    return f"the name {name!r} belongs to another key"
