"""A peer's connection to the rendezvous service, kept up for as long as the peer lives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from lab.peer.endpoint import Endpoint
from lab.peer.eyeballs import first_connected, preferred
from lab.peer.families import Embedding
from lab.peer.identity import Identity
from lab.peer.rendezvous.frames import FrameError
from lab.peer.rendezvous.member import Answer, Member, Message, Refused, Registered
from lab.peer.web.connection import RefusedError, open_connection

CONNECT_S = 3.0
ANSWER_S = 5.0
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
REFUSALS = 4
"""So often in a row, and a refusal (a firewall's, say) is there to stay: after 0.7 s."""


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
        on_message: Callable[[Message], None],
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
        self._name = name
        self._identity = identity
        self._on_message = on_message
        self._servers = preferred(servers)
        self._source = source
        self._nat64 = nat64
        self._proxy = proxy
        self._on_state = on_state
        self._member: Member | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._answers: dict[int, asyncio.Future[Answer]] = {}
        self._registered = asyncio.Event()
        self._refused = asyncio.Event()

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

    async def run(self) -> None:
        """Keep the connection up until cancelled."""
        pause = FIRST_PAUSE_S
        refusals = 0
        while True:
            try:
                await self._session()
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
            await asyncio.sleep(pause)

    async def who(self, name: str) -> bytes:
        """The key of the peer of that name; RendezvousError `unknown-name` if there is none."""
        member = self._ready()
        return (await self._answer(member.who(name))).key

    async def send(self, to: str, body: dict[str, Any]) -> int:
        """Send `body` to the peer `to`; the bytes it took. RendezvousError if it is refused."""
        member = self._ready()
        try:
            number, size = member.send(to, body)
        except FrameError as error:
            raise RendezvousError("too-big", str(error)) from error
        await self._answer(number)
        return size

    def post(self, to: str, body: dict[str, Any]) -> int:
        """As `send`, but without waiting for the service's word; 0 if there is no connection."""
        if self._member is None or not self.registered:
            return 0
        try:
            _, size = self._member.send(to, body)
        except FrameError:
            return 0
        self._flush()
        return size

    def _ready(self) -> Member:
        if self._member is None or not self.registered:
            why = self.trouble or "not connected"
            raise RendezvousError("", f"not registered with {self.server}: {why}")
        return self._member

    async def _answer(self, number: int) -> Answer:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._answers[number] = future
        self._flush()
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await future
        except TimeoutError:
            text = f"no answer from the rendezvous service {self.server}"
            raise RendezvousError("", text) from None
        finally:
            self._answers.pop(number, None)
        if answer.code:
            raise RendezvousError(answer.code, answer.reason)
        return answer

    async def _session(self) -> None:
        async with asyncio.timeout(CONNECT_S):
            self.server, reader, writer = await first_connected(
                self._servers, self._connect, lambda connection: connection[2].close()
            )
        self._writer = writer
        self._member = Member(self._name, self._identity)
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

    async def _connect(
        self, server: Endpoint
    ) -> tuple[Endpoint, asyncio.StreamReader, asyncio.StreamWriter]:
        if self._proxy:
            try:
                way = await open_connection(server, self._source(self._proxy), self._proxy)
            except (OSError, RefusedError):
                pass  # not every proxy opens tunnels, and not every firewall needs one
            else:
                return server, way.reader, way.writer
        to = self._nat64.wrap(server) if self._nat64 else server
        own = self._source(server)
        reader, writer = await asyncio.open_connection(
            to.address, to.port, limit=64 * 1024, local_addr=(own, 0) if own else None
        )
        return server, reader, writer

    def _dispatch(self, event: Registered | Answer | Message) -> None:
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
                future.set_result(Answer(number, b"", "disconnected", "the connection was lost"))
        return was_registered
