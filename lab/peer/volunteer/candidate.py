"""A peer that would be a relay: measures itself, stands for election, tells the service."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import random
import secrets
import time
from dataclasses import asdict, replace
from typing import Any

from lab.peer.endpoint import Endpoint
from lab.peer.identity import Identity
from lab.peer.marks import Mark
from lab.peer.rendezvous.client import RendezvousClient, RendezvousError
from lab.peer.volunteer.carrier import Bounds, Carrier, Client
from lab.peer.volunteer.election import Election, Measured, Terms
from lab.peer.volunteer.joining import Joining
from lab.peer.volunteer.service import Arrivals, Volunteer
from lab.peer.volunteer.wire import ATTEMPT_BYTES, TOKEN_BYTES

EVERY_S = 60.0
"""Between measurements."""
REACH_S = 3.0
"""How long the service's packets are waited for."""
REGISTER_S = 30.0
RETRY_S = 2.5
"""Once and up to twice this after the service had no time for a test."""
SAMPLE = 256
"""Packets by which the peer tests how many it can pass on."""
TURNS = 8
"""In so many turns, of which the best counts: in another one the processor had other work."""


class Candidate:
    """One peer that volunteers, at addresses of its own; `run` until it is cancelled."""

    def __init__(
        self, terms: Terms, identity: Identity, client: RendezvousClient, addresses: tuple[str, ...]
    ) -> None:
        self.election = Election(terms)
        self.carrier = Carrier(identity.key)
        self.measured: Measured | None = None
        """What the last measurement found."""
        self._identity = identity
        self._client = client
        self._addresses = addresses
        self._service = Volunteer(self.carrier)
        self._began = asyncio.get_running_loop().time()
        self._task: asyncio.Task[None] | None = None
        self._measure_at = 0.0
        self._wake = asyncio.Event()

    async def start(self) -> None:
        """Listen, and stand for election from now on; OSError if the port is taken."""
        await self._service.start(self._addresses, self.election.terms.port)
        self._task = asyncio.get_running_loop().create_task(self._run())

    def close(self) -> None:
        if self._task:
            self._task.cancel()
        self._service.close()

    def registered(self) -> None:
        """The service knows this peer anew: it has to be told."""
        self._wake.set()

    def status(self) -> dict[str, Any]:
        """How this peer stands, for the order `status`."""
        return {
            "elected": self.election.elected,
            "lacks": list(self.election.lacks),
            "pairs": self.carrier.pairs,
            "carried": self.carrier.carried,
            "forged": self.carrier.forged,
            "measured": asdict(self.measured) if self.measured else None,
        }

    def carry(self, attempt: bytes, asker: bytes, other: bytes) -> tuple[Endpoint | None, str]:
        """Make room for a pair: where its peers should come, or None and why not."""
        if not self.election.elected:
            return None, f"not elected: lacks {', '.join(self.election.lacks)}"
        now = asyncio.get_running_loop().time()
        if trouble := self.carrier.grant(attempt, asker, other, now):
            return None, trouble
        return Endpoint(self._public() or self._addresses[0], self.election.terms.port), ""

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            pause = RETRY_S * random.uniform(1, 2)  # noqa: S311 - spreads load
            try:
                await self._client.wait_registered(REGISTER_S)
                if self._now >= self._measure_at:
                    self.measured = await self._measure()
                    self._measure_at = self._now + EVERY_S
                elif self.measured:
                    self.measured = replace(self.measured, uptime_s=self._uptime)
                if self.measured:
                    self.election.hear(self.measured)
                if not self.election.elected:
                    self.carrier.clear()
                await self._client.volunteer(self.election.elected, self.election.lacks)
                pause = self._pause()
            except RendezvousError:
                pass  # it is asked too much just now, or away
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    @property
    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    @property
    def _uptime(self) -> float:
        return self._now - self._began

    def _pause(self) -> float:
        """Until the next measurement, or until this peer is old enough."""
        young = self.election.terms.after_s - self._uptime
        until = max(0.0, self._measure_at - self._now)
        return min(until, young + 0.01) if young > 0 else until

    async def _measure(self) -> Measured:
        test = Arrivals(secrets.token_bytes(TOKEN_BYTES))
        self._service.expected = test
        seen = await self._client.reach(self.election.terms.port, test.token)
        try:
            async with asyncio.timeout(REACH_S):
                await test.udp.wait()
                await test.measured.wait()
        except TimeoutError:
            pass  # what did not come is what was to be found out
        finally:
            self._service.expected = None
        return Measured(
            public=seen in self._addresses and ipaddress.ip_address(seen).is_global,
            udp=test.udp.is_set(),
            tcp=test.tcp.is_set(),
            line_bps=test.line_bps,
            packets_per_s=capability(self._identity),
            uptime_s=self._uptime,
        )

    def _public(self) -> str:
        """The address to tell others."""
        public = (a for a in self._addresses if ipaddress.ip_address(a).is_global)
        return next(public, "")


def capability(identity: Identity) -> float:
    """How many packets a second this program can pass on, its system's share left out."""
    carrier = Carrier(bytes(32), Bounds(burst=1e9))
    attempt = bytes(ATTEMPT_BYTES)
    ends = [Client("udp", Endpoint("192.0.2.1", port)) for port in (1, 2)]
    others = (identity, Identity.create())
    carrier.grant(attempt, others[0].key, others[1].key, 0.0)
    joinings = []
    for client, own in zip(ends, others, strict=True):
        joinings.append(joining := Joining(own, attempt, client.endpoint, bytes(32), 0.0))
        joining.tick(0.0)
        while said := joining.take():
            for send in carrier.received(client, said[0].payload, 0.0):
                joining.receive(send.data, client.endpoint, 0.0)
    packet = bytes((Mark.PATH, 5)) + attempt + bytes(1000)
    stamps = joinings[0].stamps
    stamped = [stamps.put(packet) if stamps else packet for _ in range(SAMPLE)]
    quickest = float("inf")
    for first in range(0, SAMPLE, SAMPLE // TURNS):
        began = time.perf_counter()
        for each in stamped[first : first + SAMPLE // TURNS]:
            carrier.received(ends[0], each, 0.0)
        quickest = min(quickest, time.perf_counter() - began)
    return SAMPLE / TURNS / max(quickest, 1e-9)
