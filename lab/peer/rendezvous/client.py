"""A peer's connection to the rendezvous service, kept up for as long as the peer lives."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lab.peer.endpoint import Endpoint
from lab.peer.eyeballs import first_connected, preferred
from lab.peer.families import Embedding
from lab.peer.identity import Identity
from lab.peer.rendezvous.frames import FrameError
from lab.peer.rendezvous.member import (
    Answer,
    Late,
    Member,
    Message,
    Refused,
    Registered,
    Volunteering,
)
from lab.peer.rendezvous.way import SILENCE_S, Outgoing, Ways

CONNECT_S = 3.0
ANSWER_S = SILENCE_S + CONNECT_S
"""How long the service may take to answer: until a dead connection is given up, and made anew."""
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
DISCONNECTED = "disconnected"
"""The code of a question that a lost connection has left without an answer."""
REFUSALS = 4
"""So often in a row, and a refusal (a firewall's, say) is there to stay: after 0.7 s."""
MOST_SAID = 256
"""Messages that this peer remembers, to know which of them has not arrived."""


@dataclass(frozen=True, slots=True)
class Undelivered:
    """What became of one message of this peer that has not arrived at once (`member.Late`)."""

    to: str
    body: dict[str, Any]
    """What it said."""
    seconds: float
    """How long the other peer's connection has been dead, as far as is known."""
    end: str = ""
    """As in `Late`."""


class RendezvousError(Exception):
    """The service said no, or nothing; `code` is its word for why, "" for silence."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class RendezvousClient:
    """Registers, asks and sends; connects again whenever the connection is lost.

    `on_state` is called when that changes: with "" when the peer is registered,
    with the reason, for people, when it is not.
    """

    def __init__(
        self,
        servers: Sequence[Endpoint],
        name: str,
        identity: Identity,
        on_message: Callable[[Message | Undelivered], None],
        *,
        source: Callable[[Endpoint], str],
        nat64: Embedding | None = None,
        proxy: Endpoint | None = None,
        on_state: Callable[[str], None] | None = None,
    ) -> None:
        self.server = servers[0]
        """The endpoint of the service that was reached last; the first one before that."""
        self.trouble = ""
        """Why this peer is not registered, for people."""
        self.name = name
        self._identity = identity
        self._on_message = on_message
        self._servers = preferred(servers)
        self._ways = Ways(source, nat64, proxy)
        self._on_state = on_state
        self._member: Member | None = None
        self._writer: Outgoing | None = None
        self._answers: dict[int, asyncio.Future[Answer]] = {}
        # Numbers go on over all connections, and no other program that had this name and
        # key before had the same: what the service says of a message is about that one.
        self._numbers = itertools.count(secrets.randbelow(2**48))
        self._said: OrderedDict[int, tuple[str, dict[str, Any]]] = OrderedDict()
        self._registered = asyncio.Event()
        self._refused = asyncio.Event()
        self._renewing = asyncio.Event()

    @property
    def registered(self) -> bool:
        return self._registered.is_set()

    async def wait_registered(self, timeout_s: float) -> None:
        """Wait until this peer is registered; RendezvousError if it takes too long."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._registered.wait()
        except TimeoutError:
            why = self.trouble or "no answer"
            text = f"not registered with the rendezvous service {self.server}: {why}"
            raise RendezvousError("", text) from None

    async def settled(self, timeout_s: float) -> None:
        """Wait until this peer is registered, or it is plain that it will not soon be."""
        waits = [asyncio.ensure_future(e.wait()) for e in (self._registered, self._refused)]
        try:
            await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def renew(self) -> None:
        """Connect again at once: the connection's way, or this peer's address, is no more."""
        self._registered.clear()
        self._renewing.set()

    async def refresh(self, timeout_s: float) -> bool:
        """See whether the service answers in time, and connect again if not; whether it did not."""
        if self._member is None or not self.registered:
            return True
        try:
            async with asyncio.timeout(timeout_s):
                await self._answer(self._member.who(self.name))
        except (TimeoutError, RendezvousError):
            self.renew()
            return True
        return False

    async def run(self) -> None:
        """Keep the connection up until cancelled."""
        pause = FIRST_PAUSE_S
        refusals = 0
        while True:
            try:
                await self._session_until_renewed()
                refusals = 0
            except (OSError, TimeoutError) as error:
                refusals = 0 if isinstance(error, TimeoutError) else refusals + 1
                self._note(str(error) or "the connection attempt timed out")
            finally:
                was_registered = self._forget()
            if refusals == REFUSALS:
                self._refused.set()
            # A service that restarts should not meet all its peers in one instant,
            # and one that is just starting should not be waited for needlessly.
            pause = FIRST_PAUSE_S if was_registered else min(2 * pause, LONGEST_PAUSE_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._renewing.wait()

    async def who(self, name: str) -> bytes:
        """The key of the peer of that name; RendezvousError `unknown-name` if there is none."""
        key, _ = await self._ask(lambda member: (member.who(name), 0))
        return key

    async def reach(self, port: int, token: bytes) -> str:
        """Have the service come to `port` unasked; the address by which it sees this peer."""
        return (await self._answer(self._ready().reach(port, token))).address

    async def volunteer(self, elected: bool, lacks: tuple[str, ...]) -> None:
        """Say that this peer would be a relay for others, and what it lacks for that."""
        await self._answer(self._ready().volunteer(lacks, elected=elected))

    async def volunteers(self) -> tuple[Volunteering, ...]:
        """Who would be a relay, elected ones first."""
        return (await self._answer(self._ready().volunteers())).volunteers

    async def send(self, to: str, body: dict[str, Any]) -> int:
        """Send `body` to the peer `to`; the bytes it took. RendezvousError if it is refused.

        It may arrive twice, if the connection is lost before the service's word is there.
        """
        try:
            _, size = await self._ask(lambda member: self._say(member, to, body))
        except FrameError as error:
            raise RendezvousError("too-big", str(error)) from error
        return size

    def post(self, to: str, body: dict[str, Any]) -> int:
        """As `send`, but without waiting for the service's word; 0 if there is no connection."""
        if self._member is None or not self.registered:
            return 0
        try:
            _, size = self._say(self._member, to, body)
        except FrameError:
            return 0
        self._flush()
        return size

    def _say(self, member: Member, to: str, body: dict[str, Any]) -> tuple[int, int]:
        """Send `body`, and remember it by its number; that, and the size of the frame."""
        number, size = member.send(to, body)
        self._said[number] = to, body
        if len(self._said) > MOST_SAID:
            self._said.popitem(last=False)
        return number, size

    def _ready(self) -> Member:
        if self._member is None or not self.registered:
            why = self.trouble or "not connected"
            raise RendezvousError("", f"not registered with {self.server}: {why}")
        return self._member

    async def _ask(self, put: Callable[[Member], tuple[int, int]]) -> tuple[bytes, int]:
        """Put a question, again on the next connection if this one is lost; key and size."""
        member, size = self._ready(), 0
        try:
            async with asyncio.timeout(ANSWER_S):
                while True:
                    number, more = put(member)
                    size += more
                    answer = await self._answer(number)
                    if answer.code != DISCONNECTED:
                        break
                    self._said.pop(number, None)  # it will have another
                    await self._registered.wait()
                    member = self._ready()
        except TimeoutError:
            text = f"no answer from the rendezvous service {self.server}"
            raise RendezvousError("", text) from None
        if answer.code:
            raise RendezvousError(answer.code, answer.reason)
        return answer.key, size

    async def _answer(self, number: int) -> Answer:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._answers[number] = future
        self._flush()
        try:
            return await future
        finally:
            self._answers.pop(number, None)

    async def _session_until_renewed(self) -> None:
        self._renewing.clear()
        loop = asyncio.get_running_loop()
        session, renewing = (
            loop.create_task(self._session()),
            loop.create_task(self._renewing.wait()),
        )
        try:
            await asyncio.wait((session, renewing), return_when=asyncio.FIRST_COMPLETED)
            if session.done():
                session.result()
        finally:
            for task in (session, renewing):
                task.cancel()
            await asyncio.gather(session, renewing, return_exceptions=True)

    async def _session(self) -> None:
        async with asyncio.timeout(CONNECT_S):
            self.server, reader, writer = await first_connected(
                self._servers, self._ways.connect, lambda connection: connection[2].close()
            )
        self._writer = writer
        self._member = Member(self.name, self._identity, self._numbers)
        self._flush()
        while data := await reader.read(64 * 1024):
            for event in self._member.receive(data):
                if isinstance(event, Refused):
                    self._note(event.reason)
                    return
                self._dispatch(event)
            self._flush()
        if self.registered:
            self._note("the service closed the connection")

    def _dispatch(self, event: Registered | Answer | Message | Late) -> None:
        match event:
            case Registered():
                self._registered.set()
                self._note("")
            case Answer():
                future = self._answers.pop(event.number, None)
                if future and not future.done():
                    future.set_result(event)
            case Message():
                self._on_message(event)
            case Late():
                self._undelivered(event)

    def _undelivered(self, late: Late) -> None:
        """Say which messages are late; what is not known to have been sent is passed over."""
        for number in late.numbers:
            to, body = self._said.get(number, ("", {}))
            if to == late.to:
                self._on_message(Undelivered(to, body, late.seconds, late.end))

    def _note(self, trouble: str) -> None:
        if trouble != self.trouble or not trouble:
            self.trouble = trouble
            if self._on_state:
                self._on_state(trouble)

    def _flush(self) -> None:
        if self._member and self._writer and (data := self._member.take()):
            self._writer.write(data)

    def _forget(self) -> bool:
        """Drop the connection; whether it was a registered one."""
        was_registered = self.registered
        self._registered.clear()
        self._member = None
        if self._writer:
            self._writer.close()
            self._writer = None
        for number, future in self._answers.items():
            if not future.done():
                future.set_result(Answer(number, b"", DISCONNECTED, "the connection was lost"))
        self._answers.clear()
        return was_registered
