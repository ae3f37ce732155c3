"""TCP hole punching between all 81 ordered pairs of NATs (RFC 5128, section 3.4).

Each peer learns its external endpoint over a connection that it keeps, listens
on the same port, and connects from it to the other's endpoint.  The oracle is
the one of UDP, for these reasons (RFC 5382 asks the same of both):

- a SYN is admitted like a datagram, by the mapping that it is addressed to and
  the endpoint that it comes from, and the SYN-ACK finds the flow established;
- a SYN from the very endpoint that the receiver connects to meets its SYN-SENT
  socket: a simultaneous open (RFC 9293, section 3.5).  One from another port
  (the sender's mapping depends on the destination) finds the listener, as a
  datagram finds a peer who takes note of where it came from;
- what is not admitted has to vanish: a reset would end the attempt.

Without the listener, what comes from a port that nobody named is lost: the
host itself resets it.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from rules_bench import DEADLINE_S, connect_later, fresh_port, ready
from test_rules_pairs import HOST, STUN, Pair, facing, nat_of

from lab.predict.pairs import KINDS, punches

pytestmark = pytest.mark.kernel

__all__ = ["facing"]

SERVICE = (STUN[0], 3479)


@dataclass
class Side:
    """A peer with one TCP port for everything."""

    pair: Pair
    name: str
    port: int
    listener: socket.socket | None
    control: socket.socket
    server: socket.socket
    """The service's end of `control`."""
    external: tuple[str, int]
    connector: socket.socket | None = None

    def connect(self, to: tuple[str, int]) -> None:
        """Send a SYN at once: another socket spares the wait for a retransmission."""
        if self.connector:
            self.connector.close()
        self.connector = self.pair.bench.tcp(self.name, HOST, self.port)
        connect_later(self.connector, to)

    def barrier(self) -> None:
        """What was sent before has arrived, or never will."""
        for sender, receiver in ((self.control, self.server), (self.server, self.control)):
            sender.sendall(b"!")
            assert receiver.recv(1) == b"!"

    @property
    def through(self) -> bool:
        """Whether its SYN was answered, or crossed the other's."""
        try:
            return bool(self.connector and self.connector.getpeername())
        except OSError:
            return False

    def hears(self, data: bytes) -> bool:
        """Whether it gets `data` by some connection: begun by itself, or by the other."""
        with contextlib.ExitStack() as stack:
            ends = [self.connector] if self.through else []
            while self.listener and ready(self.listener, within_s=0 if ends else DEADLINE_S):
                ends.append(stack.enter_context(self.listener.accept()[0]))
            readable, _, _ = select.select(ends, [], [], DEADLINE_S)
            return [end.recv(len(data)) for end in readable] == [data]


@contextlib.contextmanager
def side(pair: Pair, name: str, service: socket.socket, *, listens: bool) -> Iterator[Side]:
    port = fresh_port()
    with contextlib.ExitStack() as stack:
        control = stack.enter_context(pair.bench.tcp(name, HOST, port))
        control.connect(SERVICE)
        server, external = service.accept()
        stack.enter_context(server)
        server.settimeout(DEADLINE_S)
        listener = None
        if listens:
            listener = stack.enter_context(pair.bench.tcp(name, HOST, port, listen=True))
        made = Side(pair, name, port, listener, control, server, external)
        yield made
        if made.connector:
            made.connector.close()


def punched(pair: Pair, *, expected: bool, listens: bool = True) -> bool:
    """Whether the two connect; who is expected to gets time, who isn't gets a barrier."""
    with (
        pair.bench.tcp("core", *SERVICE, listen=True) as service,
        side(pair, "a", service, listens=listens) as a,
        side(pair, "b", service, listens=listens) as b,
    ):
        for one, other in ((a, b), (b, a), (a, b)):
            one.connect(other.external)
            for each in (a, b, a, b):
                each.barrier()
            if a.through or b.through:
                break
        if expected and not (a.through or b.through):
            # The machine is slow: a retransmission may still do it.
            select.select([], [a.connector, b.connector], [], DEADLINE_S)
        for one, other in ((a, b), (b, a)):
            if one.through:
                one.connector.setblocking(True)
                one.connector.sendall(b"through")
                return other.hears(b"through")
        return False


@pytest.mark.parametrize("x", KINDS, ids=str)
def test_tcp_punching_is_as_predicted(facing: Pair, x) -> None:
    facing.use("a", nat_of(x))
    wrong = []
    for y in KINDS:
        facing.use("b", nat_of(y))
        expected = punches(x, y)
        if punched(facing, expected=expected) is not expected:
            wrong.append(str(y))
    assert wrong == []


def test_without_a_listener_a_port_that_nobody_named_is_refused(facing: Pair) -> None:
    """The SYN is admitted, but the host has nobody who expects it."""
    fickle, by_address = KINDS[-1], KINDS[1]
    assert str(fickle) == "APDM/APDF"
    assert str(by_address) == "EIM/ADF"
    facing.use("a", nat_of(fickle))
    facing.use("b", nat_of(by_address))
    assert punched(facing, expected=True)
    assert not punched(facing, expected=False, listens=False)
