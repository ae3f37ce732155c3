"""Many UDP ports that act as one: whoever is heard on one of them is answered from there."""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Callable
from typing import cast

from lab.peer.driver import Driver
from lab.peer.endpoint import Endpoint
from lab.peer.record import Tally

MAX_HEARD = 64


class FanDriver(Driver):
    """Machines on many UDP sockets; made by `open_fan`."""

    def __init__(self, tally: Tally) -> None:
        super().__init__(tally)
        self._sockets: list[_Socket] = []
        self._heard_at: OrderedDict[Endpoint, _Socket] = OrderedDict()
        """Where authentic packets of an endpoint arrived last."""

    @property
    def size(self) -> int:
        """How many sockets there are."""
        return len(self._sockets)

    def open(self, packet: Callable[[], bytes], remote: Endpoint, kind: str) -> None:
        """Send one packet from each socket to `remote`, so that a NAT maps each of them."""
        for each in self._sockets:
            data = packet()
            self.tally.count(kind, len(data))
            each.send(data, remote)

    def joined(self, each: _Socket) -> None:
        """A socket is open; called by it."""
        self._sockets.append(each)
        self.local = self._sockets[0].local

    def came(self, data: bytes, source: Endpoint, each: _Socket) -> None:
        """A packet came by one of the sockets; called by it."""
        if self._closed:
            return
        before = self._heard_at.get(source)
        self._heard_at[source] = each
        if self._offer(data, source):
            self.local = each.local
            while len(self._heard_at) > MAX_HEARD:
                self._heard_at.popitem(last=False)
        elif before:
            self._heard_at[source] = before
        else:
            del self._heard_at[source]
        self.step()

    def close(self) -> None:
        super().close()
        for each in self._sockets:
            each.close()

    def _transmit(self, data: bytes, destination: Endpoint) -> None:
        self._heard_at.get(destination, self._sockets[0]).send(data, destination)


class _Socket(asyncio.DatagramProtocol):
    """One of the many."""

    _transport: asyncio.DatagramTransport
    local: Endpoint

    def __init__(self, fan: FanDriver) -> None:
        self._fan = fan

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)
        self.local = Endpoint(*transport.get_extra_info("sockname")[:2])
        self._fan.joined(self)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._fan.came(data, Endpoint(addr[0], addr[1]), self)

    def error_received(self, exc: Exception) -> None:
        self._fan.trouble = str(exc)

    def send(self, data: bytes, remote: Endpoint) -> None:
        if not self._transport.is_closing():
            self._transport.sendto(data, remote)

    def close(self) -> None:
        self._transport.close()


async def open_fan(address: str, count: int, tally: Tally) -> FanDriver:
    """A driver on `count` fresh UDP ports of `address` (IPv4); OSError if there are too few."""
    loop = asyncio.get_running_loop()
    fan = FanDriver(tally)
    try:
        for _ in range(count):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                sock.setblocking(False)
                sock.bind((address, 0))
                await loop.create_datagram_endpoint(lambda: _Socket(fan), sock=sock)
            except BaseException:
                sock.close()
                raise
    except BaseException:
        fan.close()
        raise
    return fan
