"""Sockets and clocks for machines: the only place where packets of an attempt are sent.

A driver holds one socket and any number of machines that share it.  Each
packet is offered to them in turn; after each packet and each timer, what they
want sent is sent, and whoever waits for something is woken if it has come.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import cast

from lab.peer.endpoint import Endpoint
from lab.peer.families import Embedding
from lab.peer.machine import Machine
from lab.peer.record import Tally
from lab.peer.stun.codec import MalformedError
from lab.peer.stun.framing import Splitter, frame

EARLY = 8
"""Packets that are kept for a machine which is yet to come."""


class Driver:
    """What a UDP and a TCP socket have in common; made by `open_udp` and `open_tcp`.

    `lab.peer.streams` has one for paths over TCP.
    """

    transport = "udp"

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.trouble = ""
        """The last error of the socket, for people; "" for none."""
        self.local = Endpoint("0.0.0.0", 0)
        self.silent: dict[Endpoint, float] = {}
        """Servers that did not answer, and when; what several drivers know may be one."""
        self.stamps: dict[Endpoint, Callable[[bytes], bytes]] = {}
        """What is done to each packet that goes to an endpoint, on its way out."""
        self._loop = asyncio.get_running_loop()
        self._machines: list[Machine] = []
        self._early: deque[tuple[bytes, Endpoint]] = deque(maxlen=EARLY)
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the socket has come to its end."""
        return self._closed

    @property
    def now(self) -> float:
        """The clock of every machine here, in seconds."""
        return self._loop.time()

    def local_to(self, remote: Endpoint) -> Endpoint:
        """Our end of what goes to `remote`; `local` where all goes by one socket."""
        return self.local

    def add(self, machine: Machine) -> None:
        """Let `machine` take part; it may send at once.

        It is also offered the last packets that nobody took: those of another
        peer that was quicker than the answer which says how to read them.
        """
        self._machines.append(machine)
        early, self._early = self._early, deque(maxlen=EARLY)
        for data, source in early:
            self._offer(data, source)
        self.step()

    def remove(self, machine: Machine) -> None:
        """Let `machine` take part no more."""
        if machine in self._machines:
            self._machines.remove(machine)

    async def until(self, condition: Callable[[], bool], deadline: float) -> bool:
        """Wait until `condition` holds; False if the deadline or the socket's end is first."""
        if condition():
            return True
        if self._closed:
            return False
        future: asyncio.Future[None] = self._loop.create_future()
        entry = (condition, future)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout_at(deadline):
                await future
        except TimeoutError:
            pass
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)
        return condition()

    def step(self) -> None:
        """Carry on: call after a machine was told something by other means than a packet."""
        if self._closed:
            return
        now = self.now
        for machine in tuple(self._machines):
            due = machine.deadline()
            if due is not None and due <= now:
                machine.tick(now)
            for datagram in machine.take():
                payload = datagram.payload
                if stamp := self.stamps.get(datagram.destination):
                    payload = stamp(payload)
                self.tally.count(datagram.kind, len(payload))
                self._transmit(payload, datagram.destination)
        self._wake()
        self._schedule()

    def close(self) -> None:
        """Close the socket; waits end."""
        self._closed = True
        if self._timer:
            self._timer.cancel()
        self._machines.clear()
        for _, future in self._waiting:
            if not future.done():
                future.set_result(None)

    def _transmit(self, data: bytes, destination: Endpoint) -> None:
        raise NotImplementedError

    def _received(self, data: bytes, source: Endpoint) -> None:
        self._offer(data, source)
        self.step()

    def _offer(self, data: bytes, source: Endpoint) -> bool:
        """Give a packet to the machine that knows it; whether there is one."""
        now = self.now
        for machine in tuple(self._machines):
            kind = machine.receive(data, source, now)
            if kind:
                self.tally.count(kind, len(data))
                return True
        self._early.append((data, source))
        return False

    def _wake(self) -> None:
        for condition, future in self._waiting:
            if not future.done() and condition():
                future.set_result(None)

    def _schedule(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        due = [d for m in self._machines if (d := m.deadline()) is not None]
        if due:
            self._timer = self._loop.call_at(min(due), self.step)


class UdpDriver(Driver, asyncio.DatagramProtocol):
    """Machines on a UDP socket; `ipv4` is how an IPv6 socket sends to IPv4, if it can."""

    _transport: asyncio.DatagramTransport

    def __init__(self, tally: Tally, ipv4: Embedding | None = None) -> None:
        super().__init__(tally)
        self._ipv4 = ipv4

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)
        self.local = Endpoint(*transport.get_extra_info("sockname")[:2])

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if not self._closed:
            source = Endpoint(addr[0], addr[1])
            self._received(data, self._ipv4.unwrap(source) if self._ipv4 else source)

    def error_received(self, exc: Exception) -> None:
        # "No route to host" and the like: another candidate may still work.
        self.trouble = str(exc)

    def close(self) -> None:
        super().close()
        self._transport.close()

    def _transmit(self, data: bytes, destination: Endpoint) -> None:
        if not self._transport.is_closing():
            to = self._ipv4.wrap(destination) if self._ipv4 else destination
            self._transport.sendto(data, to)


class TcpDriver(Driver, asyncio.Protocol):
    """Machines on a TCP connection that carries STUN and ChannelData."""

    transport = "tcp"
    _transport: asyncio.Transport

    def __init__(self, tally: Tally, server: Endpoint) -> None:
        super().__init__(tally)
        self.server = server
        self._splitter = Splitter()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.local = Endpoint(*transport.get_extra_info("sockname")[:2])

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._splitter.feed(data):
                if not self._closed:
                    self._received(message, self.server)
        except MalformedError as error:
            self.trouble = str(error)
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closed:
            self.trouble = str(exc) if exc else "the server closed the connection"
            self.close()

    def close(self) -> None:
        super().close()
        self._transport.close()

    def _transmit(self, data: bytes, destination: Endpoint) -> None:
        if not self._transport.is_closing():
            self._transport.write(frame(data))


async def open_udp(address: str, tally: Tally, ipv4: Embedding | None = None) -> UdpDriver:
    """A driver on a fresh UDP port of `address`; OSError if there is none.

    "" stands for all of IPv4, "::" for all of IPv6, and for IPv4 too where
    `ipv4` says that it is mapped.
    """
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((address, 0))
        _, driver = await loop.create_datagram_endpoint(lambda: UdpDriver(tally, ipv4), sock=sock)
    except BaseException:
        sock.close()
        raise
    return driver


async def open_tcp(
    address: str, server: Endpoint, tally: Tally, timeout_s: float, nat64: Embedding | None = None
) -> TcpDriver:
    """A driver on a TCP connection to `server`, through a NAT64 if there is one.

    OSError (TimeoutError too) if there is none.
    """
    loop = asyncio.get_running_loop()
    to = nat64.wrap(server) if nat64 else server
    async with asyncio.timeout(timeout_s):
        _, driver = await loop.create_connection(
            lambda: TcpDriver(tally, server),
            to.address,
            to.port,
            local_addr=(address, 0) if address else None,
        )
    return driver
