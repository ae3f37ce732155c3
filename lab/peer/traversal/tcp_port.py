"""One local TCP port for everything: it asks STUN, listens, and connects.

A NAT that keeps its mappings gives every connection of one local port the same
external one, which is what makes TCP punching possible (RFC 5128, section
3.4).  So all sockets here are bound to one port (SO_REUSEADDR, SO_REUSEPORT):
the one to the STUN server, which stays open and so keeps the mapping, the one
that listens, and one for each endpoint that is connected to.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
import socket
from collections import Counter
from collections.abc import Coroutine, Iterable
from typing import Any

from lab.peer.driver import TcpDriver
from lab.peer.endpoint import Endpoint
from lab.peer.record import Outcome, TryOutcome
from lab.peer.streams import StreamDriver
from lab.peer.stun.transaction import tcp_schedule
from lab.peer.traversal.call import AttemptError, Call
from lab.peer.traversal.learn import Learned, learn
from lab.peer.traversal.prober import Prober
from lab.peer.traversal.silence import LEARN_S, fresh

RETRY_S = 0.1
"""Pause before connecting again after a reset; half of it is drawn at random, so that
two peers who reset each other do not go on in step."""
LEAST_RETRY_S, MOST_RETRY_S = 0.01, 5.0
"""What an attempt may choose instead."""
PROOF_S = 1.0
"""How long a connection may take to prove itself before it is made anew."""
_REFUSED = (errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.EPIPE)
_RESET = (errno.ECONNREFUSED, errno.ECONNRESET)
_BLOCKED = (errno.ENETUNREACH, errno.EPERM, errno.EACCES)
_TAKEN = (errno.EADDRNOTAVAIL, errno.EADDRINUSE, errno.EISCONN)
"""There is, or begins to be, a connection with this pair of endpoints: the other was quicker."""


class TcpPort:
    """See the module; closed with the attempt.

    Raises AttemptError if the peer gets no TCP port.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listeners: list[socket.socket] = []
        self._rng = random.Random()  # noqa: S311 - not secret, but to differ from the other peer's
        self._port = 0
        self.outcomes: Counter[TryOutcome] = Counter()
        """How connects ended."""
        self.retry_s = RETRY_S
        """Pause before connecting again, of which up to a half is left out by chance."""
        self.reset = False
        """Whether one ended with a reset, so that another is worth a try."""
        try:
            for family in sorted(call.settings.families or {4}):
                made = self._socket(family)
                self._listeners.append(made)
                made.listen(16)
                self._port = made.getsockname()[1]
        except OSError as error:
            self.close()
            raise AttemptError(Outcome.FAILED, f"{call.me} got no TCP port: {error}") from error
        local = Endpoint(*self._listeners[0].getsockname()[:2])
        self.driver = StreamDriver(call.tally, local, call.settings.nat64)
        call.drivers.append(self.driver)
        call.at_close(self._end)

    def listen(self) -> None:
        """Accept connections from now on."""
        for listener in self._listeners:
            self._spawn(self._accept(listener))

    async def learn_own(self) -> Learned:
        """Ask the STUN server in each family that can be sent to."""
        asked = [await self.learn(server) for server in self._call.settings.stun_servers]
        found = tuple(dict.fromkeys(one.mapped for one in asked if one.mapped))
        if found:
            return Learned(found[0], all_mapped=found)
        reason = f"{self._call.me} can send to no STUN server"
        return asked[0] if asked else Learned(None, reason)

    async def learn(self, server: Endpoint) -> Learned:
        """Ask `server` from where the port's connections come; the connection stays open."""
        call, silent = self._call, self._call.silences.tcp
        if fresh(silent, server, call.now):
            age = call.now - silent[server]
            why = f"no answer so far, tried again {age:.1f} s ago"
            return Learned(None, f"{call.me} does not reach the STUN server {server} by TCP: {why}")
        limit = min(LEARN_S, max(0.1, call.deadline - call.now))
        to = self._through(server)
        sock = self._socket(to.family)
        try:
            async with asyncio.timeout(limit):
                await self._loop.sock_connect(sock, to)
                _, driver = await self._loop.create_connection(
                    lambda: TcpDriver(call.tally, server), sock=sock
                )
        except OSError as error:
            sock.close()
            if isinstance(error, TimeoutError):
                silent[server] = call.now
            why = str(error) or f"no answer in {limit:.1f} s"
            return Learned(None, f"{call.me} does not reach the STUN server {server} by TCP: {why}")
        silent.pop(server, None)
        call.drivers.append(driver)
        return await learn(driver, server, call.deadline, schedule=tcp_schedule(limit))

    def connect(self, remotes: Iterable[Endpoint], until: float) -> None:
        """Connect to each of `remotes`, again and again until one succeeds; SYNs leave in order."""
        own = {Endpoint(address, self._port) for address in self._call.settings.addresses}
        for remote in remotes:
            if remote not in own and self._call.settings.reachable((remote,)):
                self._spawn(self._reach(remote, until))

    def carry(self, prober: Prober) -> None:
        """Let `prober` try every connection that there is and that comes."""

        def opened(remote: Endpoint) -> None:
            prober.expect((remote,))

        for remote in self.driver.remotes:
            opened(remote)
        self.driver.on_open = opened
        self.driver.add(prober)

    def stop(self) -> None:
        """Begin no more connections."""
        for task in tuple(self._tasks):
            task.cancel()

    def close(self) -> None:
        """Stop, and listen no more."""
        self.stop()
        for listener in self._listeners:
            listener.close()

    async def _end(self) -> None:
        self.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = await self._loop.sock_accept(listener)
            except OSError:
                return
            sock.setblocking(False)
            await self.driver.adopt(sock)

    async def _reach(self, remote: Endpoint, until: float) -> None:
        while self._call.now < until:
            if await self._try(remote, until):
                await asyncio.sleep(self.retry_s * self._rng.uniform(0.5, 1))
            elif remote not in self.driver.remotes or await self._proves(remote):
                return
            else:
                # Open at this end only: the other one has met a reset, and forgotten it.
                self.driver.drop(remote)

    async def _proves(self, remote: Endpoint) -> bool:
        """Whether a new connection carries what the other peer has sealed."""
        driver = self.driver
        patience = PROOF_S + 2 * (getattr(self._call, "rtt_before", None) or 0.0)
        await driver.until(
            lambda: driver.proven(remote) or remote not in driver.remotes,
            self._call.now + patience,
        )
        return driver.proven(remote)

    async def _try(self, remote: Endpoint, until: float) -> bool:
        """Connect once; whether to do it again."""
        at, to = self._call.now, self._through(remote)
        if not self._call.restraint.allows(remote, at):
            return True
        try:
            sock = self._socket(to.family)
        except OSError as error:
            self._note(TryOutcome.FAILED, at, remote, str(error))
            return False
        try:
            async with asyncio.timeout_at(until):
                await self._loop.sock_connect(sock, to)
        except TimeoutError:
            sock.close()
            self._note(TryOutcome.TIMED_OUT, at, remote, "no answer")
            return False
        except OSError as error:
            sock.close()
            if error.errno in _TAKEN:
                # The other peer's SYN is with the listener: that may become a connection, or not.
                return remote not in self.driver.remotes
            self.reset = self.reset or error.errno in _RESET
            # What asyncio says of it is no more than that it failed.
            why = os.strerror(error.errno) if error.errno else str(error)
            self._note(_meaning(error), at, remote, why)
            return True
        except asyncio.CancelledError:
            sock.close()
            self._note(TryOutcome.CANCELLED, at, remote)
            raise
        self._note(TryOutcome.SUCCESS, at, remote)
        await self.driver.adopt(sock)
        return False

    def _note(self, outcome: TryOutcome, at: float, remote: Endpoint, reason: str = "") -> None:
        self.outcomes[outcome] += 1
        self._call.tried(outcome, at, remote, reason)

    def _through(self, remote: Endpoint) -> Endpoint:
        """`remote` as it is connected to: behind a prefix where a NAT64 is the way to IPv4."""
        nat64 = self._call.settings.nat64
        return nat64.wrap(remote) if nat64 else remote

    def _socket(self, family: int) -> socket.socket:
        """A socket on the port, in that family."""
        made = socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET)
        try:
            made.setblocking(False)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == 6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            own = [a for a in self._call.settings.addresses if (":" in a) == (family == 6)]
            wildcard = "::" if family == 6 else ""
            made.bind((own[0] if len(own) == 1 else wildcard, self._port))
        except BaseException:
            made.close()
            raise
        return made

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _meaning(error: OSError) -> TryOutcome:
    if error.errno in _REFUSED:
        return TryOutcome.REFUSED
    if error.errno in _BLOCKED:
        return TryOutcome.BLOCKED
    return TryOutcome.TIMED_OUT if error.errno == errno.ETIMEDOUT else TryOutcome.FAILED
