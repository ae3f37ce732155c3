"""Packets on TCP streams: cutting them apart, and machines on several connections."""

from __future__ import annotations

import asyncio
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.peer.endpoint import Endpoint
from lab.peer.machine import Datagram
from lab.peer.record import Tally
from lab.peer.streams import MAX_PACKET, MAX_STREAMS, Packets, StreamDriver


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.data())
def test_packets_come_out_as_they_went_in(packets, data):
    stream = b"".join(len(p).to_bytes(2, "big") + p for p in packets)
    splitter, found = Packets(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += splitter.feed(stream[:size])
        stream = stream[size:]
    assert found == packets


@given(st.binary(max_size=4000))
def test_whatever_comes_is_packets_or_an_error(stream):
    try:
        found = Packets().feed(stream)
    except ValueError:
        return
    assert all(0 < len(packet) <= MAX_PACKET for packet in found)


class Echo:
    """Knows packets that begin with `k`, and returns them."""

    def __init__(self):
        self.got, self._out = [], []

    def receive(self, data, source, now):
        if not data.startswith(b"k"):
            return ""
        self.got.append((data, source))
        self._out.append(Datagram(b"re:" + data, source, "echo"))
        return "echo"

    def tick(self, now):
        pass

    def deadline(self):
        return None

    def take(self):
        out, self._out = self._out, []
        return out


async def _ends(driver, listener):
    """A client's socket, and the endpoint at which the driver has adopted the other end."""
    client = socket.create_connection(listener.getsockname())
    accepted, _ = listener.accept()
    accepted.setblocking(False)
    await driver.adopt(accepted)
    return client, Endpoint(*client.getsockname()[:2])


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def test_an_answer_goes_where_the_question_came_from(listener):
    async def run():
        tally = Tally()
        driver = StreamDriver(tally, Endpoint(*listener.getsockname()[:2]))
        echo = Echo()
        driver.add(echo)
        one, first = await _ends(driver, listener)
        two, second = await _ends(driver, listener)
        # Each connection has its own end here, whatever the port was first bound to.
        driver.local = Endpoint("192.0.2.1", 9)
        here = Endpoint(*listener.getsockname()[:2])
        assert [driver.local_to(there) for there in (first, second)] == [here, here]
        assert driver.local_to(Endpoint("192.0.2.2", 9)) == driver.local
        one.sendall(b"\0\2k1")
        two.sendall(b"\0\2k2")
        await driver.until(lambda: len(echo.got) == 2, driver.now + 30)
        assert sorted(echo.got) == sorted([(b"k1", first), (b"k2", second)])
        loop = asyncio.get_running_loop()
        for client, answer in ((one, b"\0\5re:k1"), (two, b"\0\5re:k2")):
            client.setblocking(False)
            assert await loop.sock_recv(client, 100) == answer
        assert tally.packets == {"echo": 4}
        # A stream of something else is cut off, and the other one lives.
        one.sendall(b"\xff\xff\xff\xff")
        assert await loop.sock_recv(one, 100) == b""
        await driver.until(lambda: driver.remotes == (second,), driver.now + 30)
        assert driver.remotes == (second,)
        driver.close()
        one.close()
        two.close()

    asyncio.run(run())


def test_strangers_take_no_place_from_who_has_proven_something(listener):
    async def run():
        driver = StreamDriver(Tally(), Endpoint(*listener.getsockname()[:2]))
        echo = Echo()
        driver.add(echo)
        known, remote = await _ends(driver, listener)
        known.sendall(b"\0\1k")
        await driver.until(lambda: bool(echo.got), driver.now + 30)
        strangers = [(await _ends(driver, listener))[0] for _ in range(MAX_STREAMS + 3)]
        assert len(driver.remotes) == MAX_STREAMS
        assert remote in driver.remotes
        driver.close()
        for each in (known, *strangers):
            each.close()

    asyncio.run(run())
