"""The rendezvous service by whole requests: what is lost, repeated, late, or nonsense."""

from __future__ import annotations

import asyncio
import functools

from lab.peer.endpoint import Endpoint
from lab.peer.identity import Identity
from lab.peer.rendezvous.client import RendezvousClient
from lab.peer.rendezvous.polling import PATH, PolledStream
from lab.peer.rendezvous.service import RendezvousService
from lab.peer.rendezvous.web import Streams
from lab.peer.web.requests import Requests

NUMBER = "0" * 32


def in_a_loop(test):
    """Run a test that is a coroutine."""

    @functools.wraps(test)
    def run():
        asyncio.run(test())

    return run


class Members:
    """Hears what streams say, lets in as many as told."""

    def __init__(self, room: int = 1) -> None:
        self.said = b""
        self.streams = []
        self.ended = []
        self.room = room

    def admit(self, transport):
        self.streams.append(transport)
        return len(self.streams)

    def heard(self, number, data):
        self.said += data

    def gone(self, number):
        self.ended.append(number)

    def enter(self, address):
        if not self.room:
            return False
        self.room -= 1
        return True

    def leave(self, address):
        self.room += 1


class Connection:
    def get_extra_info(self, name):
        return ("192.0.2.1", 1)


def status(answer: bytes) -> int:
    return int(answer.split()[1])


@in_a_loop
async def test_requests_that_come_twice_or_too_early_do_no_harm():
    members = Members()
    streams = Streams(members)

    def post(offset, body):
        return status(streams.post(NUMBER, offset, body, Connection()))

    assert post(3, b"late") == 404, "a stream begins at its beginning"
    assert post(0, b"one") == post(0, b"one") == post(0, b"onetwo") == 204
    assert post(7, b"four") == 404
    assert members.said == b"onetwo"
    got = []
    members.streams[0].write(b"hello")
    assert streams.get(NUMBER, 0, got.append)
    assert streams.get(NUMBER, 0, got.append), "the first answer was lost"
    assert streams.get(NUMBER, 5, got.append)
    assert got == [b"hello", b"hello"]
    members.streams[0].write(b"more")
    assert got[2:] == [b"more"]
    assert streams.get(NUMBER, 0, got.append) is None, "that has been confirmed"
    assert streams.get(NUMBER, 99, got.append) is None


@in_a_loop
async def test_streams_are_bounded_and_end():
    members = Members(room=1)
    streams = Streams(members)
    assert status(streams.post(NUMBER, 0, b"", Connection())) == 204
    assert status(streams.post("1" * 32, 0, b"", Connection())) == 404
    got = []
    now = asyncio.get_running_loop().time()
    assert streams.get(NUMBER, 0, got.append)
    streams.tick(now + 10)
    assert not got, "a GET waits"
    streams.tick(now + 30)
    assert got == [b""]
    assert not members.ended
    streams.tick(now + 60)
    assert members.ended == [1]
    assert members.room == 1
    assert streams.get(NUMBER, 0, got.append) is None


async def served(service: RendezvousService) -> Endpoint:
    await service.start(("127.0.0.1",), 0)
    return Endpoint(*service._listeners[0].sockets[0].getsockname()[:2])


@in_a_loop
async def test_a_peer_registers_through_a_proxy_without_tunnels():
    """The service itself is the proxy here: CONNECT is refused, the rest is answered."""
    service = RendezvousService()
    at = await served(service)
    got = asyncio.Queue()
    clients = {}
    for name, proxy in (("alice", at), ("bob", None)):
        clients[name] = RendezvousClient(
            (at,), name, Identity.create(), got.put_nowait, source=lambda _: "", proxy=proxy
        )
    tasks = [asyncio.create_task(client.run()) for client in clients.values()]
    try:
        for client in clients.values():
            await client.wait_registered(30)
        assert set(service.broker.members) == {"alice", "bob"}
        assert len(service.streams._streams) == 1
        await clients["alice"].send("bob", {"text": "hello"})
        await clients["bob"].send("alice", {"text": "hello yourself"})
        texts = {(await asyncio.wait_for(got.get(), 30)).body["text"] for _ in range(2)}
        assert texts == {"hello", "hello yourself"}
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        service.close()


@in_a_loop
async def test_what_is_no_request_of_ours_is_refused():
    service = RendezvousService()
    at = await served(service)
    try:
        requests = Requests(at)
        for method, path in (
            ("GET", "/"),
            ("PUT", f"{PATH}{NUMBER}/0"),
            ("GET", f"{PATH}{NUMBER}/0"),
            ("GET", f"{PATH}{NUMBER}/{'9' * 99}"),
        ):
            assert (await requests.ask(method, path)).status == 404
        requests.close()
        reader, writer = await asyncio.open_connection(*at)
        writer.write(b"Q nonsense\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400")
        writer.close()
        stream = PolledStream(at, "", at)
        await stream.open()
        stream.write(b"\xff\xff\xff\xff no frame")
        assert b"malformed" in await asyncio.wait_for(stream.read(1000), 30)
        stream.close()
    finally:
        service.close()
