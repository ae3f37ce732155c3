"""One attempt, as a technique sees it: ports to open, and the other peer to talk to."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, TypeVar

from lab.peer.addresses import worth_telling
from lab.peer.driver import Driver, TcpDriver, UdpDriver, open_tcp, open_udp
from lab.peer.endpoint import Endpoint
from lab.peer.eyeballs import first_connected, preferred
from lab.peer.lan.neighbours import NOT_HERE
from lab.peer.record import Candidate, CandidateKind, Outcome, PathKind, Tally, Try, TryOutcome
from lab.peer.rendezvous.client import RendezvousError, Undelivered
from lab.peer.rendezvous.parcels import TOO_MANY, TOO_OLD
from lab.peer.settings import Settings
from lab.peer.traversal.prober import Part, Prober
from lab.peer.traversal.restraint import Pace, Restraint
from lab.peer.traversal.run import Run
from lab.peer.traversal.seal import Agreement, Seal
from lab.peer.traversal.signalling import Mailbox, Signalling
from lab.peer.traversal.signals import Decline, Offer, digest, transcript
from lab.peer.traversal.wording import seconds

_T = TypeVar("_T")

MAX_TRIES = 200


class AttemptError(Exception):
    """The attempt has failed: `outcome`, and why in one sentence for a person."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Established:
    """A path that both peers have proven; it works for as long as `driver` is open."""

    path: PathKind
    prober: Prober
    driver: Driver
    local: Candidate
    remote: Candidate
    note: str
    """How it came about, in one sentence for a person."""
    outcome: Outcome = Outcome.SUCCESS
    carried: tuple[str, ...] = ()
    """Kinds of packets (`lab.peer.record.Tally`) that a relay carried."""

    @property
    def socket(self) -> Endpoint:
        """Our end as our own system names it."""
        remote = self.prober.nominated
        return self.driver.local_to(remote) if remote else self.driver.local


class Call:
    """What caller and callee have in common."""

    def __init__(
        self,
        settings: Settings,
        signalling: Signalling,
        mailbox: Mailbox,
        *,
        attempt: bytes,
        technique: str,
        deadline: float,
        pace: Pace,
        options: Mapping[str, Any] = MappingProxyType({}),
        restraint: Restraint | None = None,
        run: Run | None = None,
    ) -> None:
        self.settings = settings
        self.signalling = signalling
        self.mailbox = mailbox
        self.attempt = attempt
        self.technique = technique
        self.deadline = deadline
        self.pace = pace
        self.restraint = restraint or Restraint()
        self.run = run or Run()
        """What this attempt has in common with others."""
        self.silences = self.run.silences
        """Who is silent, as seen from the network that this attempt began in."""
        self.options = options
        """What who ordered the attempt wants otherwise than usual; read it by `option`."""
        self.besides: Mapping[str, Any] = {}
        """What is said in the offer or answer beside what the technique says."""
        self.tries: list[Try] = []
        """What was tried, for the record."""
        self.began = asyncio.get_running_loop().time()
        self.agreement = Agreement()
        self.drivers: list[Driver] = []
        self._farewells: list[Callable[[], Awaitable[None]]] = []
        self._loop = asyncio.get_running_loop()

    @property
    def me(self) -> str:
        return self.settings.node

    @property
    def called(self) -> str:
        """The name by which the other peer knows this one: on a LAN it may be another."""
        client = self.signalling.client
        return client.name if client else self.me

    @property
    def peer(self) -> str:
        return self.mailbox.peer

    @property
    def tally(self) -> Tally:
        return self.mailbox.tally

    @property
    def now(self) -> float:
        return self._loop.time()

    def option(self, name: str, usual: float, least: float, most: float) -> float:
        """A number that may be chosen for an attempt; AttemptError if the choice makes no sense."""
        value = self.options.get(name, usual)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise AttemptError(Outcome.FAILED, f"option {name} is a number, not {value!r:.40}")
        if not least <= value <= most:
            raise AttemptError(Outcome.FAILED, f"option {name} is from {least:g} to {most:g}")
        return value

    def tried(self, outcome: TryOutcome, at: float, remote: Endpoint, reason: str = "") -> None:
        """Note a try that began `at` and ends now; the first `MAX_TRIES` are kept."""
        if len(self.tries) < MAX_TRIES:
            self.tries.append(Try(outcome, at - self.began, self.now - at, remote, reason))

    async def open_udp(self) -> UdpDriver:
        """A fresh UDP port, closed with the attempt."""
        try:
            driver = await open_udp(self.settings.bind, self.tally, self.settings.ipv4)
        except OSError as error:
            raise AttemptError(Outcome.FAILED, f"{self.me} got no UDP port: {error}") from error
        driver.silent = self.silences.udp
        self.silences.waiting.add(driver)
        self.drivers.append(driver)
        return driver

    async def open_tcp(self, server: Endpoint, timeout_s: float, *others: Endpoint) -> TcpDriver:
        """A TCP connection to `server`, or to another endpoint of it if that is quicker.

        It is closed with the attempt; OSError if there is none.
        """
        settings = self.settings

        async def connect(server: Endpoint) -> TcpDriver:
            source, nat64 = settings.source(server), settings.nat64
            return await open_tcp(source, server, self.tally, timeout_s, nat64)

        driver = await first_connected(preferred((server, *others)), connect, TcpDriver.close)
        self.drivers.append(driver)
        return driver

    def hosts(self, driver: Driver) -> tuple[Candidate, ...]:
        """The peer's own addresses with the driver's port, IPv6 first."""
        local = driver.local
        # A TCP driver has a socket for each family, on one port.
        both = driver.transport == "tcp" or not local.sendable
        families = (self.settings.families if both else None) or {local.family}
        addresses = worth_telling(self.settings.addresses) or (local.address,)
        found = (Endpoint(address, local.port) for address in addresses)
        own = (e for e in found if e.sendable and e.family in families)
        return tuple(Candidate(CandidateKind.HOST, e) for e in own)[:4]

    def prober(
        self,
        seal: Seal,
        part: Part,
        remotes: Sequence[Candidate],
        kind: str,
        *,
        through_relay: bool = False,
    ) -> Prober:
        """A prober at the pace of this peer, of those `remotes` that it can send to.

        It goes on until the attempt's deadline, or until nobody waits for it (`settle`).
        """
        endpoints = tuple(candidate.endpoint for candidate in remotes)
        if not through_relay:
            endpoints = self.settings.reachable(endpoints)
        return Prober(
            seal,
            part,
            preferred(endpoints),
            now=self.now,
            until=self.deadline,
            kind=kind,
            pace=self.pace,
            rng=random.Random(f"{self.settings.seed} {self.attempt.hex()}"),  # noqa: S311 - jitter
            restraint=self.restraint,
        )

    def _sealed(self, ephemeral: bytes, shared: bytes, *, caller: bool, path: int) -> Seal:
        """The seal of a path by the other peer's key; AttemptError if that is none."""
        try:
            return self.agreement.seal(self.attempt, ephemeral, shared, caller=caller, path=path)
        except ValueError as error:
            reason = f"{self.peer} sent a key that no honest peer sends"
            raise AttemptError(Outcome.FAILED, reason) from error

    async def within(self, work: Awaitable[_T], grace_s: float = 0.0) -> _T:
        """What comes of `work`; TimeoutError if it takes `grace_s` longer than the deadline.

        The deadline may move meanwhile.
        """
        task = asyncio.ensure_future(work)
        try:
            while not task.done() and (left := self.deadline + grace_s - self.now) > 0:
                await asyncio.wait((task,), timeout=left)
            if not task.done():
                raise TimeoutError
            return task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def at_close(self, action: Callable[[], Awaitable[None]]) -> None:
        """Do this before the ports are closed, however the attempt ends."""
        self._farewells.append(action)

    async def close(self) -> None:
        """Say what has to be said, then close every port of the attempt."""
        try:
            for action in self._farewells:
                await action()
        finally:
            self._shut()

    def _shut(self) -> None:
        for driver in self.drivers:
            driver.close()
        self.signalling.close(self.attempt)


class OutgoingCall(Call):
    """An attempt that this peer makes."""

    _offer: Offer
    answer: Offer | None = None
    """What the callee said, once it has."""
    rtt_before: float | None = None
    """Round trip over the rendezvous service, once it is known."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.rtt_known = asyncio.Event()
        """Set when `rtt_before` is, or when it can't be."""

    async def offer(
        self, candidates: Sequence[Candidate], details: Mapping[str, Any] | None = None
    ) -> Offer:
        """Send the offer and wait for the answer.

        AttemptError if the other peer declines, is unknown, or says nothing.
        """
        self._offer = Offer(
            attempt=self.attempt,
            technique=self.technique,
            sender=self.called,
            to=self.peer,
            ephemeral=self.agreement.ephemeral,
            candidates=tuple(candidates),
            window_s=max(0.1, self.deadline - self.now),
            details={**(details or {}), **self.besides},
        )
        try:
            await self.signalling.send(self.peer, self._offer, self.tally)
            self.answer = await self.within(self._answer())
            return self.answer
        except RendezvousError as error:
            raise from_rendezvous(error, self.peer) from error
        except TimeoutError:
            reason = f"{self.peer} did not answer the offer over the rendezvous service"
            if away := self.mailbox.away_s:
                reason += f": its connection there has been dead for {seconds(away)}"
            raise AttemptError(Outcome.NO_STREAM, reason) from None

    async def _answer(self) -> Offer:
        expected = digest(self._offer)
        while True:
            signal = await self.mailbox.signals.get()
            if isinstance(signal, Undelivered):
                raise AttemptError(Outcome.UNREACHABLE, _undelivered(signal))
            if isinstance(signal, Decline):
                outcome = Outcome.UNSUPPORTED if signal.code == "unsupported" else Outcome.REFUSED
                raise AttemptError(outcome, f"{self.peer} declined: {signal.reason}")
            if signal.offer_digest == expected and signal.to == self.called:
                return signal

    def seal(self, answer: Offer, path: int = 1) -> Seal:
        """The seal of the path of that number, once the callee's key is known."""
        shared = transcript(self._offer, answer.ephemeral, self.mailbox.key)
        return self._sealed(answer.ephemeral, shared, caller=True, path=path)


class IncomingCall(Call):
    """An attempt that the other peer makes."""

    incoming: Offer

    def seal(self, path: int = 1) -> Seal:
        """The seal of the path: known at once, so that the callee can send first."""
        me = self.signalling.identity.key
        shared = transcript(self.incoming, self.agreement.ephemeral, me)
        return self._sealed(self.incoming.ephemeral, shared, caller=False, path=path)

    async def answer(
        self, candidates: Sequence[Candidate], details: Mapping[str, Any] | None = None
    ) -> None:
        """Answer the offer."""
        answer = replace(
            self.incoming,
            sender=self.called,
            to=self.peer,
            ephemeral=self.agreement.ephemeral,
            candidates=tuple(candidates),
            details={**(details or {}), **self.besides},
            offer_digest=digest(self.incoming),
        )
        try:
            await self.signalling.send(self.peer, answer, self.tally)
        except RendezvousError as error:
            raise from_rendezvous(error, self.peer) from error


def _undelivered(offer: Undelivered) -> str:
    """Why an offer will not arrive, in one sentence."""
    if offer.end == TOO_MANY:
        return f"the rendezvous service keeps no more of what has not arrived at {offer.to}"
    gone = f"{offer.to} has been away from the rendezvous service for {seconds(offer.seconds)}"
    return f"{gone}, which keeps an offer no longer" if offer.end == TOO_OLD else gone


def from_rendezvous(error: RendezvousError, peer: str) -> AttemptError:
    """What a refusal by the rendezvous service means for an attempt."""
    if error.code == "unknown-name":
        reason = f"the rendezvous service knows no peer named {peer!r}"
        return AttemptError(Outcome.UNREACHABLE, reason)
    if error.code == NOT_HERE:
        return AttemptError(Outcome.UNREACHABLE, str(error))
    outcome = Outcome.REFUSED if error.code else Outcome.UNREACHABLE
    return AttemptError(outcome, f"rendezvous: {error}")
