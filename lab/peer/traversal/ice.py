"""Techniques `ice` and `ice-trickle`: all of ICE (RFC 8445) by aioice, as a yardstick.

Host, server-reflexive and relayed candidates of both peers are paired and
checked at one time, and the caller, who controls, nominates the best pair that
can be had soon (`lab.peer.traversal.nomination`).  `ice`
tells all candidates in offer and answer; `ice-trickle` tells its host
candidates at once and the others as they come (RFC 8838).  The path that ICE
finds carries the same proof and the same measurements as every other.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from lab.peer.driver import Driver
from lab.peer.endpoint import Endpoint
from lab.peer.record import DATA, Candidate, CandidateKind, Outcome, PathKind
from lab.peer.settings import Settings
from lab.peer.traversal.call import AttemptError, Call, Established, IncomingCall, OutgoingCall
from lab.peer.traversal.prober import Part
from lab.peer.traversal.seal import Seal
from lab.peer.traversal.settle import settle, silence
from lab.peer.traversal.signals import More
from lab.peer.traversal.silence import fresh

if TYPE_CHECKING:  # imported when an attempt begins: it costs 2 MB that others need not pay
    from aioice import Candidate as IceCandidate

    from lab.peer.traversal.icelink import IceLink

KIND = "ice"
MAX_CANDIDATES = 24
MAX_LINE = 200
HOSTS_S = 1.0
"""Two transmissions of each check, and as long for answers (RFC 8489, section 6.2.1)."""
_KINDS = {
    "host": CandidateKind.HOST,
    "srflx": CandidateKind.SERVER_REFLEXIVE,
    "prflx": CandidateKind.PEER_REFLEXIVE,
    "relay": CandidateKind.RELAYED,
}


class Ice:
    """See the module."""

    def __init__(self, *, trickle: bool = False) -> None:
        self.name = "ice-trickle" if trickle else "ice"
        self._trickle = trickle

    def applies(self, settings: Settings) -> str:
        return ""

    async def call(self, call: OutgoingCall) -> Established:
        link = await self._gather(call, controlling=True)
        async with self._telling(call, link):
            answer = await call.offer((), self._details(link))
            return await self._connect(call, link, answer.details, call.seal(answer), Part.CALLER)

    async def answer(self, call: IncomingCall) -> Established:
        link = await self._gather(call, controlling=False)
        async with self._telling(call, link):
            await call.answer((), self._details(link))
            theirs, part = call.incoming.details, Part.PASSIVE_CALLEE
            return await self._connect(call, link, theirs, call.seal(), part)

    async def _gather(self, call: Call, *, controlling: bool) -> IceLink:
        from lab.peer.traversal.icelink import IceLink  # noqa: PLC0415 - see above

        link = IceLink(
            call.settings, lambda size: call.tally.count(KIND, size), controlling=controlling
        )
        call.at_close(link.close)
        silent = call.silences.udp
        link.silent = tuple(server for server in silent if fresh(silent, server, call.now))
        await (link.gather_hosts() if self._trickle else link.gather())
        return link

    def _details(self, link: IceLink) -> dict[str, Any]:
        return {
            "user": link.local_username,
            "password": link.local_password,
            "candidates": [candidate.to_sdp() for candidate in link.local_candidates],
            "more": self._trickle,
        }

    @contextlib.asynccontextmanager
    async def _telling(self, call: Call, link: IceLink) -> AsyncIterator[None]:
        """Tell the other peer of candidates as they come, if that is the way."""
        if not self._trickle:
            yield
            return

        async def tell() -> None:
            async for candidate in link.others():
                say = {"candidate": candidate.to_sdp()}
                call.signalling.post(call.peer, More(call.attempt, say), call.tally)
            call.signalling.post(call.peer, More(call.attempt, {"candidate": ""}), call.tally)

        task = asyncio.get_running_loop().create_task(tell())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _connect(
        self, call: Call, link: IceLink, theirs: Any, seal: Seal, part: Part
    ) -> Established:
        started = call.now
        remote = _remote(call, theirs)
        link.remote_username, link.remote_password = theirs["user"], theirs["password"]
        for candidate in remote:
            await link.add_remote_candidate(candidate)
        hearing = asyncio.get_running_loop().create_task(_hear(call, link, more=theirs["more"]))
        try:
            await _checked(call, link)
        except (ConnectionError, TimeoutError) as error:
            pairs = f"{len(link.local_candidates)} and {link.told} candidates"
            reason = f"no pair of {pairs} answered a check: {error or 'time is up'}"
            raise AttemptError(Outcome.TIMED_OUT, reason) from error
        finally:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)
        local, far = link.selected()
        relayed = link.relayed(local, far)
        driver = IceDriver(call, link, link.socket(), _endpoint(far))
        call.drivers.append(driver)
        # ICE has sent to it, by whatever way: a relay may be the one to another family.
        prober = call.prober(seal, part, [_candidate(far)], KIND, through_relay=True)
        driver.add(prober)
        if not await settle(driver, prober, call.deadline):
            raise silence(call, driver, prober, started, "ICE's path carried nothing")
        count = f"{link.valid} of {link.checks} check{'' if link.checks == 1 else 's'} answered"
        return Established(
            PathKind.RELAYED if relayed else PathKind.DIRECT,
            prober,
            driver,
            _candidate(local),
            _candidate(far),
            f"ICE {'nominated' if link.ice_controlling else 'was given'} "
            f"{local.type} {_endpoint(local)} and {far.type} {_endpoint(far)} "
            f"of {len(link.local_candidates)} and {link.told} candidates, "
            f"{count}",
            carried=(KIND, DATA) if relayed else (),
        )


class IceDriver(Driver):
    """Machines on the path that ICE found."""

    def __init__(self, call: Call, link: IceLink, local: Endpoint, remote: Endpoint) -> None:
        super().__init__(call.tally)
        self.local = local
        self._link = link
        self._remote = remote
        self._tasks = {self._loop.create_task(self._read())}

    def close(self) -> None:
        super().close()
        for task in self._tasks:
            task.cancel()

    def _transmit(self, data: bytes, destination: Endpoint) -> None:
        task = self._loop.create_task(self._send(data))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, data: bytes) -> None:
        try:
            await self._link.send(data)
        except (ConnectionError, OSError) as error:
            self.trouble = str(error)

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                self._received(await self._link.recv(), self._remote)


async def _checked(call: Call, link: IceLink) -> None:
    """Wait until a pair is chosen; TimeoutError if there is none in time.

    Where all that one of the two has in the end is its own addresses, as neither a
    STUN server nor a relay answered it, `HOSTS_S` are enough to say so.
    """
    async with asyncio.timeout_at(call.deadline):
        loop = asyncio.get_running_loop()
        work = loop.create_task(link.connect())
        told = loop.create_task(link.all_told.wait())
        try:
            await asyncio.wait((work,), timeout=HOSTS_S)
            await asyncio.wait((work, told), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                for candidates in (link.local_candidates, link.remote_candidates):
                    if all(candidate.type == "host" for candidate in candidates):
                        raise TimeoutError("one of the two has nothing but its own addresses")
            await work
        finally:
            for task in (work, told):
                task.cancel()
            await asyncio.gather(work, told, return_exceptions=True)


async def _hear(call: Call, link: IceLink, *, more: bool) -> None:
    """Take the candidates that the other peer tells of later, until it says that there are none."""
    count = 0
    while more and count < MAX_CANDIDATES:
        said = (await call.mailbox.more.get()).details.get("candidate")
        if not said:
            break
        count += 1
        with contextlib.suppress(AttemptError):
            await link.add_remote_candidate(_parse(call, said))
    # It gives up when all has been tried, so it is told so when this end has all of its own.
    await link.gathered.wait()
    await link.add_remote_candidate(None)


def _remote(call: Call, theirs: Any) -> list[IceCandidate]:
    """The candidates in an offer or answer; AttemptError if it is not one of ICE."""
    lines, user, password = (theirs.get(key) for key in ("candidates", "user", "password"))
    texts = isinstance(user, str) and isinstance(password, str)
    sensible = texts and 4 <= len(user) <= 256 and 22 <= len(password) <= 256
    if not sensible or not isinstance(lines, list) or not isinstance(theirs.get("more"), bool):
        raise AttemptError(Outcome.FAILED, f"{call.peer} sent no ICE candidates")
    return [_parse(call, line) for line in lines[:MAX_CANDIDATES]]


def _parse(call: Call, line: object) -> IceCandidate:
    from aioice import Candidate as Parsed  # noqa: PLC0415 - see above

    try:
        if not isinstance(line, str) or len(line) > MAX_LINE:
            raise ValueError("no line of SDP")
        candidate = Parsed.from_sdp(line)
        # Addresses alone: resolving names would let a peer have others asked.
        if not Endpoint.parse(str(Endpoint(candidate.host, candidate.port))).sendable:
            raise ValueError("nobody can be sent to there")
    except (ValueError, IndexError, AssertionError) as error:
        raise AttemptError(Outcome.FAILED, f"{call.peer}: not an ICE candidate") from error
    return candidate


def _endpoint(candidate: IceCandidate) -> Endpoint:
    return Endpoint(candidate.host, candidate.port)


def _candidate(candidate: IceCandidate) -> Candidate:
    return Candidate(_KINDS[candidate.type], _endpoint(candidate))
