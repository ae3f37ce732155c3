"""The candidates of this end: host, server-reflexive and relayed, in both families.

aioice gathers all at one time and asks STUN over IPv4 alone.  Here each candidate
can be told as it comes (RFC 8838), STUN is asked in each family that there is,
and servers that have no IPv6 are asked through a NAT64 where that is the way.

A relay is asked for a port in each family that this peer has, and in IPv4, which most
can send to (RFC 8656, section 18.9); one that it lacks it refuses.  It is asked over
UDP, and where that gets no answer by TCP and TLS at one time (RFC 8835, section 3.4,
has browsers know all three); the first that it answers is enough.
"""

from __future__ import annotations

import asyncio
import copy
import ipaddress
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

from aioice import Candidate, Connection, stun
from aioice.candidate import candidate_priority
from aioice.ice import StunProtocol

from lab.peer.endpoint import Endpoint
from lab.peer.settings import Settings
from lab.peer.traversal.iceturn import CONNECT_S, MOST_PREFERRED, Transport, learned, relayed

GATHER_S = 1.5
"""How long servers are waited for over UDP: three tries of STUN."""
STREAM_S = 2 * CONNECT_S
"""And a relay by TCP or TLS: to connect, and as long again to get a port there."""

_Job = Coroutine[Any, Any, tuple[Candidate, ...]]


class Gatherer(Connection):
    """A connection of one component over UDP; TURN by TCP or TLS where UDP gets no answer."""

    def __init__(self, settings: Settings, *, controlling: bool) -> None:
        super().__init__(
            ice_controlling=controlling,
            use_ipv4=4 in (settings.families or {4}),
            use_ipv6=6 in settings.families,
        )
        self._settings = settings
        self.silent: tuple[Endpoint, ...] = ()
        """Servers that are not asked over UDP, as it is known that they do not answer."""
        self._stun = self._sent_to(settings.stun_servers)
        self._turn = self._sent_to(settings.relays)
        self._turn_tls = self._sent_to(settings.relays_by_tls)
        self.gathered = asyncio.Event()
        """Set when there are no more candidates of this end to come."""

    async def gather_hosts(self) -> None:
        """Gather the candidates that need no server, IPv6 preferred (RFC 8421, section 4)."""
        await self.gather_candidates()
        hosts = sorted(self._local_candidates, key=_family, reverse=True)
        for place, candidate in enumerate(hosts):
            candidate.priority = candidate_priority(1, "host", MOST_PREFERRED - place)

    async def gather(self) -> None:
        """Gather all candidates; servers that do not answer cost 3 s."""
        await self.gather_hosts()
        async for _ in self.others():
            pass

    async def others(self) -> AsyncIterator[Candidate]:
        """Gather those that need servers, each as it comes; they can be used at once."""
        # aioice has no public way to add one of its own afterwards.
        questions = [
            self._reflexive(protocol, server)
            for protocol in tuple(self._protocols)
            for server in self._speaking(self._stun)
            if server.family == _family(protocol.local_candidate)
        ]
        by_udp = [self._relayed(server, "udp") for server in self._speaking(self._turn)[:1]]
        relays = False
        try:
            async for candidate in _as_they_come([*questions, *by_udp], GATHER_S):
                relays = relays or candidate.type == "relay"
                yield candidate
            if not relays:
                by_stream = [
                    *(self._relayed(server, "tcp") for server in self._turn),
                    *(self._relayed(server, "tls") for server in self._turn_tls),
                ]
                async for candidate in _as_they_come(by_stream, STREAM_S, only_first=True):
                    yield candidate
        finally:
            self.gathered.set()

    def reached(self, candidate: Candidate) -> tuple[Candidate, ...]:
        """A candidate of the other end, and the same as it is sent to through a NAT64."""
        nat64 = self._settings.nat64
        if nat64 is None or _family(candidate) != 4:
            return (candidate,)
        wrapped = copy.copy(candidate)
        wrapped.host = nat64.wrap(Endpoint(candidate.host, candidate.port)).address
        return (candidate, wrapped)

    def _sent_to(self, servers: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
        """`servers` as they are sent to: IPv4, if there is that, then IPv6, then by a NAT64."""
        settings = self._settings
        reachable = settings.reachable(tuple(servers))
        own = [s for s in reachable if s.family in (settings.families or {4})]
        far = [settings.nat64.wrap(s) for s in reachable if s not in own and settings.nat64]
        return (*sorted(own, key=lambda server: server.family), *far)

    async def _reflexive(self, protocol: StunProtocol, server: Endpoint) -> tuple[Candidate, ...]:
        local = protocol.local_candidate
        question = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        answer, _ = await protocol.request(question, server)
        host, port = answer.attributes["XOR-MAPPED-ADDRESS"]
        if any((host, port) == (known.host, known.port) for known in self._local_candidates):
            return ()
        # Its base's rank among the hosts is its own, too.
        preference = local.priority >> 8 & MOST_PREFERRED
        base = (local.host, local.port)
        candidate = learned("srflx", preference, (host, port), base=base[0], related=base)
        self._local_candidates.append(candidate)
        return (candidate,)

    def _speaking(self, servers: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
        silent = self._sent_to(self.silent)
        return tuple(server for server in servers if server not in silent)

    async def _relayed(self, server: Endpoint, transport: Transport) -> tuple[Candidate, ...]:
        """Ports at a relay, one of each family that is wanted and that it gives."""
        families = sorted(self._settings.families | {4})
        asked = (self._lent(server, transport, family) for family in families)
        found = await asyncio.gather(*asked, return_exceptions=True)
        return tuple(candidate for candidate in found if isinstance(candidate, Candidate))

    async def _lent(self, server: Endpoint, transport: Transport, family: int) -> Candidate:
        candidate, protocol = await relayed(self, self._settings, server, transport, family)
        self._local_candidates.append(candidate)
        self._protocols.append(protocol)
        if self._early_checks_done:
            for remote in self.remote_candidates:
                self._pair_remote_candidate(remote)
            self.sort_check_list()
        return candidate


def _family(candidate: Candidate) -> int:
    return ipaddress.ip_address(candidate.host).version


async def _as_they_come(
    jobs: list[_Job], limit_s: float, *, only_first: bool = False
) -> AsyncIterator[Candidate]:
    """What the jobs find within the limit; of those that find something `only_first`, if so."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        for done in asyncio.as_completed(tasks, timeout=limit_s):
            try:
                found = await done
            except TimeoutError:
                return
            except Exception:  # noqa: S112 - a server that fails is one that is not there
                continue
            for candidate in found:
                yield candidate
            if found and only_first:
                return
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
