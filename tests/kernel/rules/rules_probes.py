"""What a NAT does, measured with plain sockets, in the words of RFC 4787.

For UDP and TCP alike: which external ports one inside endpoint gets towards
six destinations, and who may come in once it has sent to one of them.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

from rules_bench import (
    EXTERNAL,
    HOSTS,
    OUTSIDE,
    SERVICE_PORTS,
    Bench,
    connect_later,
    connected,
    fresh_port,
    heard_before,
    receive,
)

from lab.topology.behaviour import Dependence

DESTINATIONS = tuple((address, port) for address in OUTSIDE for port in SERVICE_PORTS)
Mappings = dict[tuple[str, int], int]
"""Destination to external port."""


@dataclass
class Services:
    """Listening sockets on every outside address and port."""

    bench: Bench
    udp: dict[tuple[str, int], socket.socket] = field(default_factory=dict)
    tcp: dict[tuple[str, int], socket.socket] = field(default_factory=dict)

    @classmethod
    @contextlib.contextmanager
    def on(cls, bench: Bench) -> Iterator[Services]:
        made = cls(bench)
        with contextlib.ExitStack() as stack:
            for at in DESTINATIONS:
                made.udp[at] = stack.enter_context(bench.udp("outside", *at))
                made.tcp[at] = stack.enter_context(bench.tcp("outside", *at, listen=True))
            yield made

    # --- mapping ----------------------------------------------------------

    def udp_mappings(self, host: int, port: int, destinations=DESTINATIONS) -> Mappings:
        with self.bench.udp(f"h{host}", HOSTS[host], port) as sock:
            return {at: self._udp_seen(sock, at) for at in destinations}

    def _udp_seen(self, sock: socket.socket, at: tuple[str, int]) -> int:
        sock.sendto(b"hello", at)
        _, (address, port) = receive(self.udp[at])
        assert address == EXTERNAL
        self.udp[at].sendto(b"welcome", (address, port))
        assert receive(sock) == (b"welcome", at)
        return port

    def tcp_mappings(self, host: int, port: int, destinations=DESTINATIONS) -> Mappings:
        with contextlib.ExitStack() as stack:
            found = {}
            for at in destinations:
                sock = stack.enter_context(self.bench.tcp(f"h{host}", HOSTS[host], port))
                sock.connect(at)
                accepted, (address, seen) = self.tcp[at].accept()
                stack.enter_context(accepted)
                assert address == EXTERNAL
                found[at] = seen
            return found

    def mappings(self, protocol: str, host: int, port: int, destinations=DESTINATIONS) -> Mappings:
        measure = self.udp_mappings if protocol == "udp" else self.tcp_mappings
        return measure(host, port, destinations)

    # --- filtering --------------------------------------------------------

    def udp_filtering(self, host: int) -> set[str]:
        """Who else comes in after one packet out: `address` (another port of it), `anyone`."""
        (first, other, *_, stranger) = DESTINATIONS
        with self.bench.udp(f"h{host}", HOSTS[host], fresh_port()) as sock:
            external = (EXTERNAL, self._udp_seen(sock, first))
            self.udp[other].sendto(b"address", external)
            self.udp[stranger].sendto(b"anyone", external)
            self.udp[first].sendto(b"barrier", external)
            heard = {data.decode() for data in heard_before(sock, b"barrier")}
            # Whoever came in is answered from the port that it came in by.
            for name, at in (("address", other), ("anyone", stranger)):
                if name in heard:
                    sock.sendto(b"answer", at)
                    assert receive(self.udp[at]) == (b"answer", external)
            return heard

    def tcp_filtering(self, host: int, expected: set[str]) -> set[str]:
        """As `udp_filtering`; who is in `expected` gets time, who isn't gets a barrier."""
        port = fresh_port()
        first, stranger = DESTINATIONS[0], DESTINATIONS[-1]
        with contextlib.ExitStack() as stack:
            sock = stack.enter_context(self.bench.tcp(f"h{host}", HOSTS[host], port))
            sock.connect(first)
            accepted, external = self.tcp[first].accept()
            stack.enter_context(accepted)
            stack.enter_context(self.bench.tcp(f"h{host}", HOSTS[host], port, listen=True))
            callers = {}
            for name, at in (("address", first), ("anyone", stranger)):
                caller = self.bench.tcp("outside", at[0], fresh_port())
                callers[name] = stack.enter_context(caller)
                connect_later(caller, external)
            heard = {name for name in expected if connected(callers[name])}
            for _ in range(2):
                for sender, receiver in ((accepted, sock), (sock, accepted)):
                    sender.sendall(b"!")
                    assert receiver.recv(1) == b"!"
            return heard | {name for name, at in callers.items() if connected(at, within_s=0)}

    def filtering(self, protocol: str, host: int, expected: set[str]) -> set[str]:
        if protocol == "udp":
            return self.udp_filtering(host)
        return self.tcp_filtering(host, expected)


ADMITTED = {
    Dependence.ENDPOINT_INDEPENDENT: {"address", "anyone"},
    Dependence.ADDRESS_DEPENDENT: {"address"},
    Dependence.ADDRESS_AND_PORT_DEPENDENT: set(),
}


def mapping_key(mapping: Dependence, at: tuple[str, int]) -> tuple:
    """What of a destination a mapping depends on."""
    match mapping:
        case Dependence.ENDPOINT_INDEPENDENT:
            return ()
        case Dependence.ADDRESS_DEPENDENT:
            return at[:1]
        case Dependence.ADDRESS_AND_PORT_DEPENDENT:
            return at


def distinct_ports(mapping: Dependence, found: Mappings) -> dict[tuple, int]:
    """The port of each mapping, in the order of creation; asserts that the kind is exact."""
    groups: dict[tuple, set[int]] = {}
    for at, port in found.items():
        groups.setdefault(mapping_key(mapping, at), set()).add(port)
    assert all(len(ports) == 1 for ports in groups.values()), (mapping, found)
    ports = {key: port for key, (port,) in groups.items()}
    assert len(set(ports.values())) == len(ports), (mapping, found)
    return ports
