"""Every session of a peer: those that it keeps up, and those that it follows."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from lab.peer.record import Outcome, Record
from lab.peer.rendezvous.client import RendezvousClient
from lab.peer.session.conversation import Conversation, Emit
from lab.peer.session.follower import Follower
from lab.peer.session.keeper import Keeper, Order
from lab.peer.session.report import Report
from lab.peer.session.terms import KEY, terms_in
from lab.peer.traversal.attempts import Attempts
from lab.peer.traversal.call import AttemptError, Call, Established
from lab.peer.traversal.purpose import Use
from lab.peer.traversal.signals import More, Offer

MAX_FOLLOWED = 64
"""Sessions that others lead."""
MAX_FOLLOWED_PER_PEER = 8
REFRESH_S = 1.0
"""How long the rendezvous service has to say that it is there."""
REGISTER_S = 5.0


class Sessions:
    """Opens sessions, and knows which offers belong to one (`lab.peer.traversal.purpose.Uses`).

    `announce` is told what happens in sessions that other peers lead.
    """

    def __init__(self, attempts: Attempts, announce: Emit) -> None:
        self._attempts = attempts
        self._announce = announce
        self._followed: dict[bytes, Follower] = {}
        self._kept: set[Keeper] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        attempts.answers.uses = self

    @property
    def running(self) -> list[dict[str, Any]]:
        """The sessions under way, for the order `status`."""
        both: list[Conversation] = [*self._kept, *self._followed.values()]
        return [
            {
                "session": each.terms.session.hex(),
                "peer": each.peer,
                "part": "lead" if each.leads else "follower",
                "technique": each.current.technique if each.current else None,
            }
            for each in both
        ]

    def open(self, order: Order, emit: Emit) -> Keeper:
        """A session to keep up: `run` it."""
        return Keeper(self._attempts, order, emit, self._refresh)

    async def keep(self, keeper: Keeper) -> Report:
        """Run a session to its end."""
        self._kept.add(keeper)
        try:
            return await keeper.run()
        finally:
            self._kept.discard(keeper)

    def moved(self, gone: frozenset[str]) -> None:
        """Note that this peer has other addresses; `gone` are those that it had."""
        for each in (*self._kept, *self._followed.values()):
            each.moved(gone)
        for follower in self._followed.values():
            task = asyncio.ensure_future(self._call_me(follower))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End what others lead; who leads it finds out, or has been told."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- offers of other peers ---

    def wanted(self, sender: str, key: bytes, offer: Offer) -> Use | None:
        """See `Uses`: the session that an offer is for, which may be a new one."""
        if KEY not in offer.details:
            return None
        try:
            terms = terms_in(offer.details)
        except ValueError as error:
            raise AttemptError(Outcome.REFUSED, str(error)) from error
        if terms is None:
            return None
        follower = self._followed.get(terms.session)
        if follower is None:
            follower = self._follow(sender, key, offer)
        # The key is what counts; whoever has it may have several names, but not for one session.
        if (follower.key, follower.peer) != (key, sender) or follower.terms != terms:
            raise AttemptError(Outcome.REFUSED, "the session is another peer's")

        async def run(call: Call, path: Established) -> None:
            await follower.carry(call, path)

        return Use(follower.answer.details(), run, self._answered)

    def _follow(self, sender: str, key: bytes, offer: Offer) -> Follower:
        of_peer = sum(follower.key == key for follower in self._followed.values())
        if len(self._followed) >= MAX_FOLLOWED or of_peer >= MAX_FOLLOWED_PER_PEER:
            raise AttemptError(Outcome.REFUSED, "there are sessions enough")
        terms = terms_in(offer.details)
        identity, me = self._attempts.signalling.identity, self._attempts.settings.node
        try:
            assert terms  # noqa: S101 - parsed by the caller
            follower = Follower(identity, (me, sender), key, terms, self._announce)
        except ValueError as error:
            raise AttemptError(Outcome.REFUSED, str(error)) from error
        self._followed[terms.session] = follower
        task = asyncio.get_running_loop().create_task(self._run(follower))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return follower

    async def _run(self, follower: Follower) -> None:
        try:
            report = await follower.run(
                self._refresh, lambda again: self._hint(follower, again=again)
            )
            self._announce({"event": "session", "what": "record", "record": report.to_json()})
        finally:
            self._followed.pop(follower.terms.session, None)

    def _answered(self, record: Record) -> None:
        self._announce({"event": "answered", "record": record.to_json()})

    # --- the way to be called ---

    async def _refresh(self) -> bool:
        """See that this peer can be called; whether it had to register again."""
        client = self._attempts.signalling.client
        if not isinstance(client, RendezvousClient):
            return False
        renewed = await client.refresh(REFRESH_S)
        with contextlib.suppress(Exception):  # attempts say what is wrong
            await client.wait_registered(REGISTER_S)
        return renewed

    async def _call_me(self, follower: Follower) -> None:
        """The address has changed: the lead can't know, so it is told."""
        await self._refresh()
        self._hint(follower, again=True)

    def _hint(self, follower: Follower, *, again: bool) -> None:
        signal = More(follower.terms.session, {"again": again})
        self._attempts.signalling.post(follower.peer, signal)
