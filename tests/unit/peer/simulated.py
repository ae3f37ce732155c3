"""A network of machines without sockets: endpoints, NATs and a clock that jumps."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

from lab.peer.endpoint import Endpoint


class Nat:
    """A NAT in RFC 4787's words; `mapping` and `filtering` are what they depend on:
    0 nothing, 1 the address, 2 address and port."""

    def __init__(self, address: str, mapping: int = 0, filtering: int = 2):
        self.address = address
        self.mapping = mapping
        self.filtering = filtering
        self.ports: dict[tuple, int] = {}
        self.owners: dict[int, Endpoint] = {}
        self.allowed: set[tuple] = set()
        self.flows: dict[tuple[Endpoint, Endpoint], int] = {}
        self.refused: list[tuple[float, Endpoint, Endpoint]] = []
        self._next = itertools.count(20000)

    def out(self, source: Endpoint, to: Endpoint) -> Endpoint:
        key = (source, *to[: self.mapping])
        port = self.flows.get((source, to))  # an answer leaves by the port it was asked at
        if port is None:
            port = self.ports.setdefault(key, next(self._next))
        self.owners[port] = source
        self.allowed.add((port, *to[: self.filtering]))
        return Endpoint(self.address, port)

    def enter(self, now: float, source: Endpoint, to: Endpoint) -> Endpoint | None:
        if (to.port, *source[: self.filtering]) in self.allowed:
            inner = self.owners[to.port]
            self.flows[inner, source] = to.port
            return inner
        self.refused.append((now, source, to))
        return None


def _pass(source: Endpoint, to: Endpoint, data: bytes) -> bool:
    return True


class Network:
    """Carries packets with `delay` each way; `tap` sees and may drop or multiply each one."""

    def __init__(self, delay: float = 0.01):
        self.delay = delay
        self.now = 0.0
        self.machines: dict[Endpoint, list] = {}
        self.nats: dict[str, Nat] = {}
        self.behind: dict[str, Nat] = {}
        self.sent: list[tuple[float, Endpoint, Endpoint, bytes]] = []
        self.tap: Callable[[Endpoint, Endpoint, bytes], bool] = _pass
        self._queue: list = []
        self._order = itertools.count()

    def put(self, endpoint: Endpoint, *machines: object, nat: Nat | None = None) -> None:
        self.machines.setdefault(endpoint, []).extend(machines)
        if nat:
            self.nats[nat.address] = nat
            self.behind[endpoint.address] = nat

    def inject(self, source: Endpoint, to: Endpoint, data: bytes) -> None:
        """A packet on the wire, as `to`'s network sees it."""
        heapq.heappush(self._queue, (self.now + self.delay, next(self._order), source, to, data))

    def send(self, source: Endpoint, to: Endpoint, data: bytes) -> None:
        self.sent.append((self.now, source, to, data))
        nat = self.behind.get(source.address)
        inside = to.address in self.behind and self.behind[to.address] is nat
        seen = nat.out(source, to) if nat and not inside else source
        if self.tap(seen, to, data):
            self.inject(seen, to, data)

    def run(self, until: float, done: Callable[[], bool] = lambda: False) -> None:
        """Let time pass; stops when `done()`."""
        while not done():
            self._flush()
            due = [
                when
                for machines in self.machines.values()
                for machine in machines
                if (when := machine.deadline()) is not None
            ]
            if self._queue:
                due.append(self._queue[0][0])
            now = min(due, default=until)
            if now >= until:
                self.now = until
                return
            self.now = max(self.now, now)
            while self._queue and self._queue[0][0] <= self.now:
                _, _, source, to, data = heapq.heappop(self._queue)
                self._arrive(source, to, data)
            for machines in self.machines.values():
                for machine in machines:
                    when = machine.deadline()
                    if when is not None and when <= self.now:
                        machine.tick(self.now)

    def _flush(self) -> None:
        for endpoint, machines in self.machines.items():
            for machine in machines:
                for datagram in machine.take():
                    self.send(endpoint, datagram.destination, datagram.payload)

    def _arrive(self, source: Endpoint, to: Endpoint, data: bytes) -> None:
        nat = self.nats.get(to.address)
        inner = nat.enter(self.now, source, to) if nat else to
        # A private address is known only on its own side of a NAT.
        if nat is None and to.address in self.behind and source.address not in self.behind:
            return
        for machine in self.machines.get(inner, ()):
            if machine.receive(data, source, self.now):
                return
