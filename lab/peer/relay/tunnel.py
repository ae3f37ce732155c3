"""A machine whose packets go through a relay: it sees the peers, the socket sees the relay."""

from __future__ import annotations

from lab.peer.endpoint import Endpoint
from lab.peer.machine import Datagram, Machine
from lab.peer.relay.client import TurnClient


class Tunnel:
    """`client` with `inner` on top; a `lab.peer.machine.Machine` for the relay's socket."""

    def __init__(self, client: TurnClient) -> None:
        self.client = client
        self.inner: Machine | None = None
        """Set when the relay is there."""

    def receive(self, data: bytes, source: Endpoint, now: float) -> str:
        kind = self.client.receive(data, source, now)
        inbox, self.client.inbox = self.client.inbox, []
        for peer, payload in inbox:
            if self.inner:
                # What is inside says what a packet is for.
                kind = self.inner.receive(payload, peer, now) or kind
        return kind

    def tick(self, now: float) -> None:
        self.client.tick(now)
        if self.inner:
            self.inner.tick(now)

    def deadline(self) -> float | None:
        inner = self.inner.deadline() if self.inner else None
        due = [d for d in (self.client.deadline(), inner) if d is not None]
        return min(due, default=None)

    def take(self) -> list[Datagram]:
        out = self.client.take()
        for datagram in self.inner.take() if self.inner else ():
            self.client.send(datagram.destination, datagram.payload)
            out += [wrapped._replace(kind=datagram.kind) for wrapped in self.client.take()]
        return out
