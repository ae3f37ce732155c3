"""aioice's connection at the RFC's pace, with the best pair nominated, not the first one.

Of aioice's own behaviour three things are changed.  Checks leave 50 ms apart.
A check under way is sent again when one from the other end comes in by the same
pair, as that is the moment from which there is a hole for it (RFC 8445, section
7.3.1.4, where the check begins anew).  And no check nominates:
`lab.peer.traversal.nomination` says which pair, and when.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import Callable

from aioice import Candidate, stun
from aioice.candidate import candidate_foundation
from aioice.ice import CandidatePair, StunProtocol

from lab.peer.endpoint import Endpoint
from lab.peer.settings import Settings
from lab.peer.traversal.icegather import Gatherer
from lab.peer.traversal.nomination import Standing, due

CLOSE_S = 1.0
PACE_S = 0.05
"""Between the beginnings of two checks (RFC 8445, section 14.2: Ta)."""
NOMINATION_AGAIN = 2
"""How often a nomination is sent again, by a pair that has answered a moment ago."""


class IceLink(Gatherer):
    """See the module."""

    def __init__(
        self, settings: Settings, count: Callable[[int], None], *, controlling: bool
    ) -> None:
        super().__init__(settings, controlling=controlling)
        self.checks = 0
        """How many pairs were checked, or checked again."""
        self.valid = 0
        """How many of them answered."""
        self.told = 0
        """How many candidates the other end told."""
        self.all_told = asyncio.Event()
        """Set when there are no more candidates of the other end to come."""
        # To aioice, a controlling agent with such a peer nominates by a check of its own, and
        # one that is at it already leaves that to others: to `_nominate`.
        self.remote_is_lite = True
        self._nominating.add(1)
        self._loop = asyncio.get_running_loop()
        self._count = count
        self._next_check = 0.0
        self._began: dict[CandidatePair, float] = {}
        self._answered: dict[CandidatePair, float] = {}
        self._requests: dict[CandidatePair, stun.Message] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._choice: asyncio.Task[None] | None = None
        self._mapped: Endpoint | None = None
        self._relay_hosts = {relay.address for relay in settings.relays}

    async def add_remote_candidate(self, remote_candidate: Candidate | None) -> None:
        """A candidate of the other end, or None if there are no more."""
        if remote_candidate is None:
            self.all_told.set()
            await super().add_remote_candidate(None)
        else:
            self.told += 1
            for candidate in self.reached(remote_candidate):
                await super().add_remote_candidate(candidate)
        self._consider()

    async def check_start(self, pair: CandidatePair) -> None:
        """Check a pair when its turn comes: one each `PACE_S`, where aioice has 20 ms."""
        at = max(self._loop.time(), self._next_check)
        self._next_check = at + PACE_S
        await asyncio.sleep(at - self._loop.time())
        self.checks += 1
        self._began[pair] = self._loop.time()
        await super().check_start(pair)

    def build_request(self, pair: CandidatePair, nominate: bool) -> stun.Message:
        """A check; it is counted, its retransmissions are not."""
        message: stun.Message = super().build_request(pair, nominate)
        self._requests[pair] = message
        self._count(len(bytes(message)))
        return message

    def check_incoming(
        self, message: stun.Message, addr: tuple[str, int], protocol: StunProtocol
    ) -> None:
        """A check from the other end: what was sent there before may have found no hole."""
        super().check_incoming(message, addr, protocol)
        for pair in self._check_list:
            under_way = pair.state is CandidatePair.State.IN_PROGRESS
            if under_way and pair.protocol is protocol and pair.remote_addr == addr:
                # The same transaction, early.
                protocol.send_stun(self._requests[pair], addr)

    def check_complete(self, pair: CandidatePair) -> None:
        """The check of a pair has ended."""
        if pair.state is CandidatePair.State.SUCCEEDED and pair not in self._answered:
            self._answered[pair] = self._loop.time()
            self.valid += 1
        super().check_complete(pair)
        self._consider()

    def selected(self) -> tuple[Candidate, Candidate]:
        """Both ends of the pair that was nominated, this one as the other end sees it if known."""
        pair = self._nominated[1]
        return self._seen(pair), self._unwrapped(pair.remote_candidate)

    def socket(self) -> Endpoint:
        """Our end of the pair as its own system names it; of a relayed one, where it asks from."""
        base = self._nominated[1].local_candidate
        if base.type == "relay" and base.related_address and base.related_port:
            return Endpoint(base.related_address, base.related_port)
        return Endpoint(base.host, base.port)

    def relayed(self, local: Candidate, remote: Candidate) -> bool:
        """Whether a relay carries what goes between the two.

        The other end's relayed endpoint may be heard from before it is told
        of; it is known by the relay's address, if both have the same relay.
        """
        return "relay" in (local.type, remote.type) or remote.host in self._relay_hosts

    async def close(self) -> None:
        """Close all sockets and give the relayed endpoint back; waits a second at most."""
        if self._timer:
            self._timer.cancel()
        if self._choice:
            self._choice.cancel()
            await asyncio.gather(self._choice, return_exceptions=True)
        with contextlib.suppress(TimeoutError, ConnectionError, OSError):
            async with asyncio.timeout(CLOSE_S):
                await super().close()

    def _check_list_maybe_fail(self) -> None:
        # To aioice nothing more can come of a list of checks that have all ended.
        if not (self.ice_controlling and any(map(_valid, self._check_list))):
            super()._check_list_maybe_fail()

    def _consider(self) -> None:
        """Nominate if the time has come, or look again when it will have."""
        if self._timer:
            self._timer.cancel()
        if self._choice or self._closing or not self.ice_controlling:
            return
        pairs = tuple(self._check_list)
        more = not (self.all_told.is_set() and self.gathered.is_set())
        found = due([self._standing(pair) for pair in pairs], more=more)
        if found is None:
            return
        place, at = found
        if at <= self._loop.time():
            self._choice = self._loop.create_task(self._nominate(pairs[place]))
        else:
            self._timer = self._loop.call_at(at, self._consider)

    def _standing(self, pair: CandidatePair) -> Standing:
        return Standing(
            self._priority(pair),
            self.relayed(pair.local_candidate, self._unwrapped(pair.remote_candidate)),
            ended=pair.state is CandidatePair.State.FAILED,
            began=self._began.get(pair),
            answered=self._answered.get(pair) if _valid(pair) else None,
        )

    def _priority(self, pair: CandidatePair) -> int:
        """RFC 8445, section 6.1.2.3."""
        ours, theirs = pair.local_candidate.priority, pair.remote_candidate.priority
        return int(2**32 * min(ours, theirs) + 2 * max(ours, theirs) + (ours > theirs))

    async def _nominate(self, pair: CandidatePair) -> None:
        request = self.build_request(pair, nominate=True)
        try:
            response, _ = await pair.protocol.request(
                request,
                pair.remote_addr,
                integrity_key=str(self.remote_password).encode(),
                retransmissions=NOMINATION_AGAIN,
            )
        except stun.TransactionError:
            self.check_state(pair, CandidatePair.State.FAILED)
            self._choice = None
        else:
            self._mapped = Endpoint(*response.attributes["XOR-MAPPED-ADDRESS"])
            pair.nominated = True
        self.check_complete(pair)

    def _seen(self, pair: CandidatePair) -> Candidate:
        base, mapped = pair.local_candidate, self._mapped
        if mapped is None or base.type == "relay":
            return base
        for known in self._local_candidates:
            if (known.host, known.port) == mapped and known.type != "relay":
                return known
        return Candidate(
            foundation=candidate_foundation("prflx", "udp", base.host),
            component=1,
            transport="udp",
            priority=self._requests[pair].attributes["PRIORITY"],
            host=mapped.address,
            port=mapped.port,
            type="prflx",
        )

    def _unwrapped(self, remote: Candidate) -> Candidate:
        """A candidate of the other end without the prefix of a NAT64."""
        nat64 = self._settings.nat64
        if nat64 is None or ":" not in remote.host:
            return remote
        plain = copy.copy(remote)
        plain.host = nat64.unwrap(Endpoint(remote.host, remote.port)).address
        return plain


def _valid(pair: CandidatePair) -> bool:
    return pair.state is CandidatePair.State.SUCCEEDED
