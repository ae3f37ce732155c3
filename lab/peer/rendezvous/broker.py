"""The rendezvous service without its sockets: what its members may say to it, and to each other.

A peer that would be a relay for others says so (`volunteer`), and whoever asks
is told of some of those (`lab.peer.volunteer`); what they measure themselves by
is that this service comes to their own address from where they did not expect it.

Connections are numbers.  `opened`, `received`, `closed` and `tick` are told
what happened; each returns what has to be done, in order.  Who is a member is
the business of `lab.peer.rendezvous.members`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from lab.peer.identity import from_text, to_text
from lab.peer.limits import Buckets
from lab.peer.rendezvous.commands import Command, Reach, Refusal, frame, number, refused
from lab.peer.rendezvous.frames import MAX_FRAME, FrameError, encode
from lab.peer.rendezvous.members import MAX_MEMBERS, Member, Members
from lab.peer.rendezvous.parcels import Parcel
from lab.peer.volunteer.election import CONDITIONS
from lab.peer.volunteer.wire import TOKEN_BYTES

RATE = 100.0
"""Messages a second that one peer may send; twice as many at once."""
OCTETS_PER_S = 64 * 1024.0
"""Bytes of them, in the long run; eight times as many at once."""
REACH_PAUSE_S = 2.0
"""Between two tests of one connection."""
REACHES_PER_S = 4.0
"""Tests that are begun for all of them together; each sends 128 KiB and takes as much."""
FIRST_PORT = 1024
"""The lowest port that a client may have tested."""
MAX_NAMED = 8
"""Volunteers that one answer names."""


class Broker:
    """All members of the service.

    `unread` says how many bytes that a connection was given the other end has not
    acknowledged yet.
    """

    def __init__(
        self,
        *,
        rate: float = RATE,
        max_members: int = MAX_MEMBERS,
        unread: Callable[[int], int] = lambda _: 0,
    ) -> None:
        self._members = Members(max_members, unread)
        self._handlers: dict[str, Callable[[int, Member, dict[str, Any], float], list[Command]]] = {
            "who": self._who,
            "send": self._send,
            "reach": self._reach,
            "volunteer": self._volunteer,
            "volunteers": self._volunteers,
        }
        self._rate = rate
        self._messages = Buckets(rate, 2 * rate, max_members)
        self._octets = Buckets(OCTETS_PER_S, 8 * OCTETS_PER_S, max_members)
        self._reaches = REACHES_PER_S
        self._reached_at = 0.0
        self._rng = random.Random()  # noqa: S311 - spreads load, and is no secret

    @property
    def members(self) -> tuple[str, ...]:
        """The names that are registered."""
        return self._members.names

    def opened(self, connection: int, now: float) -> list[Command]:
        """A client has connected."""
        return self._members.opened(connection, now)

    def closed(self, connection: int, now: float) -> list[Command]:
        """A connection is gone; to be told while `unread` still knows of it."""
        commands = self._members.closed(connection, now)
        self._members.note(commands)
        return commands

    def received(self, connection: int, data: bytes, now: float) -> list[Command]:
        """Bytes have arrived."""
        member = self._members.get(connection)
        if member is None:
            return []
        member.heard_at, member.pinged_at = now, None
        commands: list[Command] = []
        try:
            messages = member.reader.feed(data)
        except FrameError as error:
            return self._members.dismiss(connection, "malformed", str(error), now)
        for message, size in messages:
            if connection not in self._members:
                break
            commands += self._answer(connection, member, message, size, now)
        self._members.note(commands)
        return commands

    def tick(self, now: float) -> list[Command]:
        """Ask the silent, dismiss the dead; to be called about every second."""
        commands = self._members.tick(now)
        self._members.note(commands)
        return commands

    def _answer(
        self, connection: int, member: Member, message: dict[str, Any], size: int, now: float
    ) -> list[Command]:
        try:
            if member.name:
                self._spend(connection, size, now)
            return self._handle(connection, member, message, now)
        except Refusal as refusal:
            if refusal.fatal:
                return self._members.dismiss(connection, refusal.code, str(refusal), now)
            return [refused(connection, message, refusal)]

    # --- what a client may say ---

    def _handle(
        self, connection: int, member: Member, message: dict[str, Any], now: float
    ) -> list[Command]:
        kind = message.get("t")
        if not isinstance(kind, str):
            raise Refusal("malformed", "a message has a kind, `t`", fatal=True)
        if not member.name:
            if kind == "hello" and not member.nonce:
                return self._members.hello(connection, member, message)
            if kind == "prove" and member.nonce:
                return self._members.prove(connection, member, message, now)
            raise Refusal("unregistered", f"{kind[:20]!r} from a stranger", fatal=True)
        if kind == "pong":
            return []
        handler = self._handlers.get(kind)
        if handler is None:
            raise Refusal("malformed", f"no such message: {kind[:20]!r}")
        return handler(connection, member, message, now)

    def _who(
        self, connection: int, member: Member, message: dict[str, Any], now: float
    ) -> list[Command]:
        name, key = self._members.key_of(message.get("name"))
        reply = {"t": "peer", "id": number(message), "name": name, "key": to_text(key)}
        return [frame(connection, reply)]

    def _send(
        self, connection: int, member: Member, message: dict[str, Any], now: float
    ) -> list[Command]:
        name, _ = self._members.key_of(message.get("to"))
        body = message.get("body")
        if not isinstance(body, dict):
            raise Refusal("malformed", "a body is an object")
        words = {"t": "message", "from": member.name, "key": to_text(member.key), "body": body}
        try:
            parcel = Parcel(member.name, member.key, encode(words), now, number(message))
        except FrameError as error:
            raise Refusal("too-big", f"{MAX_FRAME} bytes are the most") from error
        sent = frame(connection, {"t": "sent", "id": number(message)})
        return [*self._members.deliver(name, parcel), sent]

    def _reach(
        self, connection: int, member: Member, message: dict[str, Any], now: float
    ) -> list[Command]:
        port = message.get("port")
        if not isinstance(port, int) or not FIRST_PORT <= port <= 65535:
            raise Refusal("malformed", f"a port is from {FIRST_PORT} to 65535")
        try:
            token = from_text(message.get("token"), TOKEN_BYTES)
        except ValueError as error:
            raise Refusal("malformed", str(error)) from error
        earned = (now - self._reached_at) * REACHES_PER_S
        self._reaches = min(REACHES_PER_S, self._reaches + earned)
        self._reached_at = now
        if now < member.reach_at or self._reaches < 1:
            raise Refusal("too-fast", "that is tested seldom")
        self._reaches -= 1
        member.reach_at = now + REACH_PAUSE_S
        return [Reach(connection, port, token, number(message))]

    def _volunteer(
        self, connection: int, member: Member, message: dict[str, Any], now: float
    ) -> list[Command]:
        lacks = message.get("lacks")
        if not isinstance(lacks, list) or not set(map(str, lacks)) <= set(CONDITIONS):
            raise Refusal("malformed", f"what may be lacked is {', '.join(CONDITIONS)}")
        elected = message.get("elected") is True
        member.lacks = () if elected else tuple(map(str, lacks)) or CONDITIONS
        return [frame(connection, {"t": "sent", "id": number(message)})]

    def _volunteers(
        self, connection: int, member: Member, message: dict[str, Any], now: float
    ) -> list[Command]:
        """Elected ones first; which of many is left to chance, so that none has all the load."""
        willing = [one for one in self._members if one.lacks is not None and one is not member]
        self._rng.shuffle(willing)
        willing.sort(key=lambda one: bool(one.lacks))
        peers = [
            {
                "name": one.name,
                "key": to_text(one.key),
                "elected": not one.lacks,
                "lacks": list(one.lacks or ()),
            }
            for one in willing[:MAX_NAMED]
        ]
        reply = {"t": "volunteers", "id": number(message), "peers": peers}
        return [frame(connection, reply)]

    def _spend(self, connection: int, size: int, now: float) -> None:
        if not self._octets.take(connection, now, size):
            raise Refusal("too-fast", f"{OCTETS_PER_S:g} bytes a second are the most")
        if not self._messages.take(connection, now):
            raise Refusal("too-fast", f"{self._rate:g} messages a second are the most")
