"""The end that was called: it answers the attempts of a session that another peer leads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from lab.peer.identity import Identity
from lab.peer.session.conversation import GIVE_UP_S, Conversation, Emit
from lab.peer.session.path import What
from lab.peer.session.report import End, Report
from lab.peer.session.terms import Terms
from lab.peer.session.wire import agreed
from lab.peer.traversal.seal import Agreement


class Follower(Conversation):
    """One session that another peer, the owner of `key`, has opened.

    `hint` tells the lead that this end has lost the path, and whether it can
    be called again only now.
    """

    def __init__(
        self,
        identity: Identity,
        ends: tuple[str, str],
        key: bytes,
        terms: Terms,
        emit: Emit,
    ) -> None:
        """`ends` are this peer and the lead; ValueError if its key is none of an honest peer."""
        super().__init__(*ends, terms, emit)
        self.key = key
        own = Agreement()
        self.answer = Terms(
            session=terms.session,
            ephemeral=own.ephemeral,
            keepalive_s=terms.keepalive_s,
            rate=terms.rate,
            size=terms.size,
        )
        """What this end says in its answers."""
        identities = (key, identity.key)
        self.open(agreed(own, terms.session, identities, terms.ephemeral, leads=False))

    async def run(
        self, refresh: Callable[[], Awaitable[bool]], hint: Callable[[bool], None]
    ) -> Report:
        """Take part until the lead ends the session, or calls no more."""
        without_since: float | None = self.now
        helping: set[asyncio.Task[None]] = set()

        async def ask_for_help() -> None:
            hint(await refresh())

        try:
            while True:
                waits = None if without_since is None else without_since + GIVE_UP_S - self.now
                try:
                    async with asyncio.timeout(waits and max(0.0, waits)):
                        await self.woken.wait()
                except TimeoutError:
                    self.report.end = End.LOST if self.report.time_to_path_s else End.FAILED
                    self.report.reason = f"{self.peer} called no more for {GIVE_UP_S:g} s"
                    break
                self.woken.clear()
                for what in self.changed():
                    if what is What.DEAD:
                        helping.add(asyncio.ensure_future(ask_for_help()))
                if self.session and self.session.over:
                    self.report.end, self.report.reason = End.HUNG_UP, f"{self.peer} ended it"
                    break
                if self.current is not None:
                    without_since = None
                elif without_since is None:
                    without_since = self.now
            report = self.finish()
            self.say("ended", outcome=report.end.value, reason=report.reason)
            return report
        finally:
            for task in helping:
                task.cancel()
            self.finish()
