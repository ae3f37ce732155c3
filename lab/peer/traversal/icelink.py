"""aioice's connection, given this peer's servers, and able to trickle its own candidates."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from aioice import Candidate, Connection, stun
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import CandidatePair, StunProtocol, relayed_candidate

from lab.peer.endpoint import Endpoint
from lab.peer.settings import Settings

GATHER_S = 1.5
"""How long servers are waited for over UDP: three tries of STUN; and again over TCP."""
CLOSE_S = 1.0
PACE_S = 0.05
"""Between the beginnings of two checks (RFC 8445, section 14.2: Ta)."""

_Job = Coroutine[Any, Any, Candidate | None]


class IceLink(Connection):
    """One component over UDP; TURN over TCP where UDP gets no answer."""

    def __init__(
        self, settings: Settings, count: Callable[[int], None], *, controlling: bool
    ) -> None:
        super().__init__(ice_controlling=controlling, use_ipv6=6 in settings.families)
        self.checks = 0
        """How many pairs were checked, or checked again."""
        self._count = count
        self._next_check = 0.0
        self._stun = _ipv4(settings.stun_servers)
        self._turn = _ipv4(settings.relays)
        self._credentials = settings.relay_user, settings.relay_password
        self.gathered = asyncio.Event()
        """Set when there are no more candidates of this end to come."""

    async def gather_hosts(self) -> None:
        """Gather the candidates that need no server."""
        await self.gather_candidates()

    async def gather(self) -> None:
        """Gather all candidates; servers that do not answer cost 3 s."""
        await self.gather_hosts()
        async for _ in self.others():
            pass

    async def others(self) -> AsyncIterator[Candidate]:
        """Gather those that need servers, each as it comes; they can be used at once."""
        # aioice gathers all at one time and has no public way to add one afterwards.
        protocols = list(self._protocols)
        jobs: list[_Job] = [self._reflexive(p) for p in protocols] if self._stun else []
        if self._turn:
            jobs.append(self._relayed("udp"))
        found = False
        try:
            async for candidate in _as_they_come(jobs):
                found = True
                yield candidate
            if not found and self._turn:
                async for candidate in _as_they_come([self._relayed("tcp")]):
                    yield candidate
        finally:
            self.gathered.set()

    async def check_start(self, pair: CandidatePair) -> None:
        """Check a pair when its turn comes: one each `PACE_S`, where aioice has 20 ms."""
        now = asyncio.get_running_loop().time()
        at = max(now, self._next_check)
        self._next_check = at + PACE_S
        await asyncio.sleep(at - now)
        self.checks += 1
        await super().check_start(pair)

    def build_request(self, pair: CandidatePair, nominate: bool) -> stun.Message:
        """A check; it is counted, its retransmissions are not."""
        message: stun.Message = super().build_request(pair, nominate)
        self._count(len(bytes(message)))
        return message

    def selected(self) -> tuple[Candidate, Candidate]:
        """Both ends of the pair that was nominated."""
        pair = self._nominated[1]
        return pair.local_candidate, pair.remote_candidate

    async def close(self) -> None:
        """Close all sockets and give the relayed endpoint back; waits a second at most."""
        with contextlib.suppress(TimeoutError, ConnectionError, OSError):
            async with asyncio.timeout(CLOSE_S):
                await super().close()

    async def _reflexive(self, protocol: StunProtocol) -> Candidate | None:
        local = protocol.local_candidate
        if ipaddress.ip_address(local.host).version != 4 or self._stun is None:
            return None
        question = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        answer, _ = await protocol.request(question, self._stun)
        host, port = answer.attributes["XOR-MAPPED-ADDRESS"]
        if (host, port) == (local.host, local.port):
            return None
        candidate = Candidate(
            foundation=candidate_foundation("srflx", "udp", local.host),
            component=1,
            transport="udp",
            priority=candidate_priority(1, "srflx"),
            host=host,
            port=port,
            type="srflx",
            related_address=local.host,
            related_port=local.port,
        )
        self._local_candidates.append(candidate)
        return candidate

    async def _relayed(self, transport: str) -> Candidate | None:
        assert self._turn  # noqa: S101 - only asked for with a relay
        user, password = self._credentials
        candidate, protocol = await relayed_candidate(
            component=1,
            hide_related_address=False,
            protocol_factory=lambda: StunProtocol(self),
            turn_server=self._turn,
            turn_username=user,
            turn_password=password,
            turn_ssl=False,
            turn_transport=transport,
        )
        self._local_candidates.append(candidate)
        self._protocols.append(protocol)
        if self._early_checks_done:
            for remote in self.remote_candidates:
                self._pair_remote_candidate(remote)
            self.sort_check_list()
        return candidate


async def _as_they_come(jobs: list[_Job]) -> AsyncIterator[Candidate]:
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        for done in asyncio.as_completed(tasks, timeout=GATHER_S):
            try:
                candidate = await done
            except TimeoutError:
                return
            except Exception:  # noqa: S112 - a server that fails is one that is not there
                continue
            if candidate is not None:
                yield candidate
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _ipv4(endpoints: tuple[Endpoint, ...]) -> tuple[str, int] | None:
    return next(((e.address, e.port) for e in endpoints if e.family == 4), None)
