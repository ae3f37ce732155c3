"""Signals between this peer and others, sorted by attempt."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

from lab.peer.endpoint import Endpoint
from lab.peer.identity import Identity
from lab.peer.lan.neighbours import Neighbours
from lab.peer.record import Tally
from lab.peer.rendezvous.client import RendezvousClient, RendezvousError, Undelivered
from lab.peer.rendezvous.member import Message
from lab.peer.rendezvous.parcels import LOST, TOO_MANY, TOO_OLD
from lab.peer.traversal.signals import (
    Announce,
    Carries,
    Carry,
    Decline,
    End,
    More,
    Offer,
    Ping,
    Pong,
    Signal,
    SignalError,
    encode,
    parse,
)

KIND = "rendezvous"
CARRY_S = 3.0
"""How long a volunteer may take to answer."""
MAX_WAITING = 64
MAX_MORE = 32


class Mailbox:
    """Signals of one attempt, from the one peer that takes part in it."""

    def __init__(self, peer: str, key: bytes, tally: Tally) -> None:
        self.peer = peer
        self.key = key
        self.tally = tally
        self.ended = asyncio.Event()
        """Set when the other peer needs the attempt no more."""
        self.signals: asyncio.Queue[Offer | Decline | Undelivered] = asyncio.Queue(MAX_WAITING)
        self.more: asyncio.Queue[More] = asyncio.Queue(MAX_MORE)
        """What was added to the offer or answer."""
        self.away_s = 0.0
        """How long the other peer's connection to the service was dead, as far as is known."""


class Signalling:
    """Sends signals and sorts those that come.

    `on_offer` is called with each new offer: the sender, its key, the offer,
    and the size of the frame that it came in.
    """

    def __init__(
        self, identity: Identity, on_offer: Callable[[str, bytes, Offer, int], None]
    ) -> None:
        self.identity = identity
        self.client: RendezvousClient | Neighbours | None = None
        self._on_offer = on_offer
        self._mailboxes: dict[bytes, Mailbox] = {}
        self._pings: dict[bytes, tuple[str, asyncio.Future[int]]] = {}
        self._wishes: dict[bytes, tuple[bytes, asyncio.Future[Carries]]] = {}
        self.announced: Callable[[bytes, str], None] | None = None
        """What is told that a peer, by its key, is about to make the attempts of a run."""
        self.carrier: Callable[[bytes, bytes, bytes], tuple[Endpoint | None, str]] | None = None
        """What makes room for a pair, by attempt and both keys, at a peer that is a relay."""

    def open(self, attempt: bytes, mailbox: Mailbox) -> None:
        """Let signals of `attempt` go to `mailbox`."""
        self._mailboxes[attempt] = mailbox

    def close(self, attempt: bytes) -> None:
        """No more signals of `attempt`."""
        self._mailboxes.pop(attempt, None)

    def knows(self, attempt: bytes) -> bool:
        return attempt in self._mailboxes

    async def send(self, to: str, signal: Signal, tally: Tally) -> None:
        """Send `signal`; RendezvousError if the service refuses it."""
        if self.client is None:
            raise RendezvousError("", "there is no rendezvous service")
        tally.count(KIND, await self.client.send(to, encode(signal, self.identity)))

    def post(self, to: str, signal: Signal, tally: Tally | None = None) -> None:
        """Send `signal` without waiting for the service's word."""
        size = self.client.post(to, encode(signal, self.identity)) if self.client else 0
        if tally and size:
            tally.count(KIND, size)

    async def round_trip(self, peer: str, tally: Tally, count: int = 3) -> float | None:
        """The smallest of `count` round trips to `peer` and back through the service, in seconds.

        None if it does not answer.
        """
        loop = asyncio.get_running_loop()
        best: float | None = None
        for _ in range(count):
            token = secrets.token_bytes(8)
            future: asyncio.Future[int] = loop.create_future()
            self._pings[token] = (peer, future)
            started = loop.time()
            try:
                self.post(peer, Ping(token), tally)
                async with asyncio.timeout(3.0):
                    tally.count(KIND, await future)
            except TimeoutError:
                return best
            finally:
                del self._pings[token]
            elapsed = loop.time() - started
            best = elapsed if best is None else min(best, elapsed)
        return best

    async def carry(
        self, volunteer: str, key: bytes, attempt: bytes, other: bytes, tally: Tally
    ) -> Carries:
        """Ask a volunteer to carry an attempt to the peer with the key `other`.

        RendezvousError if it can't be asked, TimeoutError if it does not answer.
        """
        wish = Carry(secrets.token_bytes(8), attempt, other)
        future: asyncio.Future[Carries] = asyncio.get_running_loop().create_future()
        self._wishes[wish.token] = (key, future)
        try:
            await self.send(volunteer, wish, tally)
            async with asyncio.timeout(CARRY_S):
                return await future
        finally:
            del self._wishes[wish.token]

    def deliver(self, message: Message | Undelivered) -> None:
        """Take a message from the rendezvous service; what is no signal is dropped."""
        if isinstance(message, Undelivered):
            self._delay(message)
            return
        try:
            signal = parse(message.body, message.sender, message.key)
        except SignalError:
            return
        match signal:
            case Ping():
                self.post(message.sender, Pong(signal.token))
            case Announce():
                if self.announced:
                    self.announced(message.key, signal.token.hex())
            case Pong():
                asked = self._pings.get(signal.token)
                if asked and asked[0] == message.sender and not asked[1].done():
                    asked[1].set_result(message.size)
            case Carry():
                at, reason = None, "it carries for nobody"
                if self.carrier:
                    at, reason = self.carrier(signal.attempt, message.key, signal.key)
                self.post(message.sender, Carries(signal.token, at, reason))
            case Carries():
                wish = self._wishes.get(signal.token)
                if wish and wish[0] == message.key and not wish[1].done():
                    wish[1].set_result(signal)
            case Offer() if not signal.offer_digest:
                self._on_offer(message.sender, message.key, signal, message.size)
            case Offer() | Decline() | More() | End():
                self._sort(signal, message)

    def _delay(self, late: Undelivered) -> None:
        """The service has not got rid of a signal of ours: the attempt that it is of waits.

        That ends it if the signal was its offer and will not arrive, or the peer has gone.
        """
        mailbox = self._mailboxes.get(_attempt(late.body))
        if mailbox is None or mailbox.peer != late.to:
            return
        mailbox.away_s = max(mailbox.away_s, late.seconds)
        fatal = late.end == LOST or (
            late.end in (TOO_OLD, TOO_MANY) and late.body.get("kind") == "offer"
        )
        if fatal and not mailbox.signals.full():
            mailbox.signals.put_nowait(late)

    def _sort(self, signal: Offer | Decline | More | End, message: Message) -> None:
        mailbox = self._mailboxes.get(signal.attempt)
        if mailbox is None or (mailbox.peer, mailbox.key) != (message.sender, message.key):
            return
        mailbox.tally.count(KIND, message.size)
        if isinstance(signal, End):
            mailbox.ended.set()
        elif isinstance(signal, More):
            if not mailbox.more.full():
                mailbox.more.put_nowait(signal)
        elif not mailbox.signals.full():
            mailbox.signals.put_nowait(signal)


def _attempt(body: dict[str, Any]) -> bytes:
    """The attempt that a signal of ours is of; b"" if of none."""
    return bytes.fromhex(body.get("attempt", ""))
