"""What one party may use of a service: each bound is tried by somebody who wants more."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct

import pytest

from lab.peer.endpoint import Endpoint
from lab.peer.identity import Identity
from lab.peer.relay import service as relay_service
from lab.peer.relay.allocation import Client, Limits
from lab.peer.relay.commands import Forward, Open, Reply
from lab.peer.relay.credentials import Gatekeeper
from lab.peer.relay.server import RelayServer
from lab.peer.relay.service import RelayService
from lab.peer.rendezvous import broker as broker_module
from lab.peer.rendezvous import service as rendezvous_service
from lab.peer.rendezvous.broker import Broker
from lab.peer.rendezvous.commands import Send
from lab.peer.rendezvous.frames import FrameReader, encode
from lab.peer.rendezvous.member import Answer, Member
from lab.peer.rendezvous.parcels import EACH, Parcel
from lab.peer.rendezvous.service import RendezvousService
from lab.peer.stun import service as stun_service
from lab.peer.stun.codec import Class, Message, Method, long_term_key, new_transaction, request
from lab.peer.stun.codec import encode as encode_stun
from lab.peer.stun.responder import Site
from lab.peer.stun.service import StunService
from lab.peer.traversal.birthday import MOST_PACE, MOST_PROBES, MOST_SOCKETS, Effort
from lab.peer.web import relay as web_relay
from lab.peer.web import websocket
from lab.peer.web.message import HttpError, Parser
from lab.peer.web.message import request as http_request
from lab.peer.web.relay import WebRelay
from lab.peer.web.tunnel import basic
from tests.unit.peer.support import network

WAIT_S = 30
HERE, ALICE = Endpoint("192.0.2.9", 3478), Endpoint("198.51.100.1", 40000)
PEER = Endpoint("198.51.100.2", 50000)
KEY = long_term_key("user", "realm", "password")


def play(story):
    """Run `story()` in a loop, for so long as it may take."""

    async def within():
        async with asyncio.timeout(WAIT_S):
            await story()

    asyncio.run(within())


async def ended(reader):
    """Wait until the server has closed the connection."""
    with contextlib.suppress(ConnectionError):
        while await reader.read(65536):
            pass


async def drip(writer, data, every_s=0.02):
    """Send a byte at a time for as long as anybody listens."""
    with contextlib.suppress(ConnectionError):
        for byte in data:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(every_s)


# --- places for connections ---


@pytest.mark.parametrize("kind", ["stun", "relay", "rendezvous", "web"])
def test_one_address_cannot_take_every_place(kind, monkeypatch):
    module = {
        "stun": stun_service,
        "relay": relay_service,
        "rendezvous": rendezvous_service,
        "web": web_relay,
    }[kind]
    monkeypatch.setattr(module, "MAX_PER_ADDRESS", 3)

    async def story():
        net = network()
        here = Endpoint(f"{net}.2", 4000)
        if kind == "stun":
            service = StunService(Site(here.address, "", here.port, 0))
            await service.start()
        else:
            service = {
                "relay": lambda: RelayService(RelayServer(Gatekeeper("realm", {}))),
                "rendezvous": RendezvousService,
                "web": lambda: WebRelay("user", "password"),
            }[kind]()
            await service.start((here.address,), (here.port,) if kind == "web" else here.port)
        greedy = [
            await asyncio.open_connection(*here, local_addr=(f"{net}.66", 0)) for _ in range(8)
        ]
        for reader, _ in greedy[3:]:
            await ended(reader)
        assert len(service.doors) == 3
        # Another address finds a place, and so does the first one when it has given one up.
        _, other = await asyncio.open_connection(*here, local_addr=(f"{net}.7", 0))
        greedy[0][1].close()
        while len(service.doors) > 3:
            await asyncio.sleep(0.01)
        _, again = await asyncio.open_connection(*here, local_addr=(f"{net}.66", 0))
        while len(service.doors) < 4:
            await asyncio.sleep(0.01)
        for writer in (other, again, *(writer for _, writer in greedy)):
            writer.close()
        service.close()

    play(story)


# --- patience ---


def test_a_byte_now_and_then_keeps_no_stun_connection(monkeypatch):
    monkeypatch.setattr(stun_service, "STREAM_IDLE_S", 0.3)

    async def story():
        here = Endpoint(f"{network()}.2", 3478)
        service = StunService(Site(here.address, "", here.port, 0))
        await service.start()
        reader, writer = await asyncio.open_connection(*here)
        dripping = asyncio.create_task(drip(writer, struct.pack("!HH", 1, 900) + bytes(900)))
        await ended(reader)
        dripping.cancel()
        assert len(service.doors) == 0
        service.close()

    play(story)


@pytest.mark.parametrize(
    "data",
    [
        b"GET /join/" + b"0" * 3000,
        b"POST /join/x HTTP/1.1\r\nContent-Length: 3000\r\n\r\n" + b"x" * 3000,
    ],
)
def test_a_byte_now_and_then_keeps_no_web_connection(data, monkeypatch):
    monkeypatch.setattr(web_relay, "IDLE_S", 0.3)

    async def story():
        here = Endpoint(f"{network()}.2", 8080)
        service = WebRelay("user", "password")
        await service.start((here.address,), (here.port,))
        reader, writer = await asyncio.open_connection(*here)
        dripping = asyncio.create_task(drip(writer, data))
        await ended(reader)
        dripping.cancel()
        service.close()

    play(story)


def test_a_tcp_client_of_the_relay_needs_an_allocation_to_stay(monkeypatch):
    monkeypatch.setattr(relay_service, "STRANGER_S", 0.2)

    async def story():
        here = Endpoint(f"{network()}.2", 3478)
        server = RelayServer(Gatekeeper("realm", {"user": "password"}), Limits(loopback=True))
        service = RelayService(server)
        await service.start((here.address,), here.port)
        reader, writer = await asyncio.open_connection(*here)
        own = Endpoint(*writer.get_extra_info("sockname"))
        client = Client("tcp", own, here)
        while client not in service.streams:
            await asyncio.sleep(0.01)
        allocate(service, client, asyncio.get_running_loop().time())
        while client not in server.allocations:
            await asyncio.sleep(0.01)
        # With one it stays, and without it again it does not.
        assert not service.dismiss_stranger(client)
        service.carry_out(server._delete(client))
        await ended(reader)
        writer.close()
        service.close()

    play(story)


def test_a_silent_websocket_is_asked_and_then_closed(monkeypatch):
    monkeypatch.setattr(web_relay, "IDLE_S", 0.2)

    async def story():
        service, reader, writer = await web_socket()
        decoder, heard = websocket.Decoder(masked=False), []
        while data := await reader.read(4096):
            heard += decoder.feed(data)
        assert [frame.opcode for frame in heard] == [websocket.Opcode.PING]
        assert not service._sessions
        writer.close()
        service.close()

    play(story)


# --- answers to who may not have asked ---


def test_stun_answers_one_address_only_so_often(monkeypatch):
    monkeypatch.setattr(stun_service, "ANSWERS_PER_S", 2.0)

    async def story():
        net = network()
        here = Endpoint(f"{net}.2", 3478)
        service = StunService(Site(here.address, "", here.port, 0))
        await service.start()
        question = encode_stun(request(Method.BINDING))
        victim, other = socket.socket(type=socket.SOCK_DGRAM), socket.socket(type=socket.SOCK_DGRAM)
        for sock, last in ((victim, 66), (other, 7)):
            sock.setblocking(False)
            sock.bind((f"{net}.{last}", 0))
        loop = asyncio.get_running_loop()
        started = loop.time()
        for _ in range(200):
            victim.sendto(question, here)
        other.sendto(question, here)
        # The other's answer comes, and everything before it has been dealt with.
        assert await loop.sock_recv(other, 2048)
        answers = 0
        with contextlib.suppress(BlockingIOError):
            while victim.recv(2048):
                answers += 1
        assert answers <= 4 + 2 * (loop.time() - started) + 1
        victim.close()
        other.close()
        service.close()

    play(story)


def test_the_relay_refuses_one_address_only_so_often_over_udp():
    server = RelayServer(Gatekeeper("realm", {"user": "password"}), Limits(refusals_per_s=5))
    asked = encode_stun(request(Method.ALLOCATE, {"REQUESTED-TRANSPORT": 17 << 24}))
    victim, other = Client("udp", ALICE, HERE), Client("udp", PEER, HERE)
    answers = sum(len(server.from_client(victim, asked, 1.0)) for _ in range(100))
    assert answers == 10
    assert server.from_client(other, asked, 1.0)
    # Over TCP nobody forges an address.
    assert server.from_client(Client("tcp", ALICE, HERE), asked, 1.0)


# --- what a relay carries ---


def allocate(relay, client, now, user="user"):
    """An Allocate as its client would sign it; what the server wants done is done."""
    server = relay.server if isinstance(relay, RelayService) else relay
    more = {
        "REQUESTED-TRANSPORT": 17 << 24,
        "USERNAME": user,
        "REALM": "realm",
        "NONCE": server._gate.nonce(client.endpoint, now),
    }
    message = Message(Method.ALLOCATE, Class.REQUEST, new_transaction(), more)
    commands = server.from_client(client, encode_stun(message, key=KEY), now)
    if isinstance(relay, RelayService):
        relay.carry_out(commands)
    return commands


def test_an_allocation_has_its_share_of_the_line():
    server = RelayServer(Gatekeeper("realm", {"user": "password"}), Limits(octets_per_s=1e5))
    client, relayed = Client("udp", ALICE, HERE), Endpoint("192.0.2.9", 50000)
    assert isinstance(allocate(server, client, 0.0)[0], Open)
    server.opened(client, relayed, 0.0)
    server.allocations[client].bind(0x4000, PEER, 0.0)
    packet = struct.pack("!HH", 0x4000, 1000) + bytes(1000)
    out = [command for _ in range(500) for command in server.from_client(client, packet, 1.0)]
    assert len(out) == 100
    assert all(isinstance(command, Forward) for command in out)
    # What comes in counts too; a second later there is a second's worth again.
    assert not server.from_peer(relayed, PEER, bytes(1000), 1.0)
    back = [c for _ in range(500) for c in server.from_peer(relayed, PEER, bytes(1000), 2.0)]
    assert len(back) == 100


def test_requests_under_way_count_as_allocations():
    server = RelayServer(Gatekeeper("realm", {"user": "password"}), Limits(per_user=3))
    clients = [Client("udp", Endpoint(ALICE.address, port), HERE) for port in range(1, 9)]
    commands = [allocate(server, client, 0.0)[0] for client in clients]
    assert [isinstance(command, Open) for command in commands] == [True] * 3 + [False] * 5
    # What fails to open, and who goes before it does, gives the place back.
    server.opened(clients[0], None, 0.0)
    server.gone(clients[1])
    again = [allocate(server, client, 0.0)[0] for client in clients[3:]]
    assert [isinstance(command, Open) for command in again] == [True] * 2 + [False] * 3
    assert all(isinstance(command, Reply) for command in again[2:])


def test_an_ipv6_subnet_is_one_address():
    server = RelayServer(
        Gatekeeper("realm", {"user": "password"}), Limits(per_address=2), frozenset({4, 6})
    )
    subnet = [Client("udp", Endpoint(f"2001:db8::{n:x}", 9), HERE) for n in range(1, 5)]
    commands = [allocate(server, client, 0.0)[0] for client in subnet]
    assert [isinstance(command, Open) for command in commands] == [True, True, False, False]


@pytest.mark.parametrize("address", ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "127.0.0.9", "::1"])
def test_no_address_goes_by_another_name(address):
    assert not Limits().admits(address)


# --- words for others ---


def registered(broker, number, name):
    member = Member(name, Identity.create())
    broker.opened(number, 0.0)
    for _ in range(2):
        for command in broker.received(number, member.take(), 0.0):
            if isinstance(command, Send):
                member.receive(command.data)
    assert member.registered
    return member


def test_a_peer_may_say_so_many_bytes():
    broker = Broker()
    alice = registered(broker, 1, "alice")
    registered(broker, 2, "bob")
    codes = []
    for _ in range(100):
        alice.send("bob", {"x": "y" * 15000})
        for command in broker.received(1, alice.take(), 1.0):
            if command.connection == 1:
                codes += [e.code for e in alice.receive(command.data) if isinstance(e, Answer)]
    carried = codes.count("")
    assert carried * 15000 <= 8 * broker_module.OCTETS_PER_S
    assert codes.count("too-fast") == 100 - carried


def test_little_is_kept_for_who_is_cut_off():
    broker = Broker(rate=1000.0)
    alice = registered(broker, 1, "alice")
    registered(broker, 2, "bob")
    broker.closed(2, 0.0)
    for number in range(2 * EACH):
        alice.send("bob", {"number": number})
    broker.received(1, alice.take(), 1.0)
    kept = [parcel.frame for parcel in broker._members._held["bob"].parcels]
    assert len(kept) == EACH
    assert f'"number":{2 * EACH - 1}}}'.encode() in kept[-1]


def test_nothing_that_a_member_says_is_free():
    broker = Broker(rate=5)
    registered(broker, 1, "alice")
    said = encode({"t": "pong"}) * 50
    answers = [
        message["code"]
        for command in broker.received(1, said, 0.0)
        for message, _ in FrameReader().feed(command.data)
    ]
    assert answers == ["too-fast"] * 40


def test_who_reads_slowly_is_not_cut_off_by_others():
    async def story():
        here = Endpoint(f"{network()}.2", 4000)
        service = RendezvousService()
        await service.start((here.address,), here.port)
        loop = asyncio.get_running_loop()
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.setblocking(False)
        await loop.sock_connect(slow, here)
        bob = Member("bob", Identity.create())
        while not bob.registered:
            await loop.sock_sendall(slow, bob.take())
            bob.receive(await loop.sock_recv(slow, 4096))
        (number,) = service.connections
        transport = service.connections[number]
        said = encode({"t": "message", "from": "x", "key": "", "body": {"x": "y" * 16000}})
        for sender in range(1000):  # none of which has more than its share
            parcel = Parcel("x", sender.to_bytes(2), said, 0.0)
            service.carry_out(service.broker._members.deliver("bob", parcel))
        assert transport.get_write_buffer_size() <= rendezvous_service.MAX_UNREAD
        assert not transport.is_closing()
        # What the service itself has to say is not lost; who reads none of that is cut off.
        for _ in range(1000):
            service.carry_out([Send(number, said)])
        assert transport.is_closing()
        slow.close()
        service.close()

    play(story)


# --- the web relay ---


async def web_socket():
    """A relay, and a connection that is a WebSocket."""
    here = Endpoint(f"{network()}.2", 8080)
    service = WebRelay("user", "password")
    await service.start((here.address,), (here.port,))
    reader, writer = await asyncio.open_connection(*here)
    headers = (("Authorization", basic("user", "password")),)
    upgrade = websocket.upgrade_headers(bytes(16))
    writer.write(http_request("GET", f"/join/{'a' * 32}", str(here), (*headers, *upgrade)))
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    return service, reader, writer


def test_who_does_not_read_fills_no_memory(monkeypatch):
    monkeypatch.setattr(web_relay, "MAX_UNREAD", 64 * 1024)

    async def story():
        service, reader, writer = await web_socket()
        writer.transport.pause_reading()
        ping = websocket.encode(websocket.Opcode.PING, bytes(125), b"mask")
        for _ in range(400):
            writer.write(ping * 500)
            await writer.drain()
        writer.write(websocket.encode(websocket.Opcode.CLOSE, b"", b"mask"))
        # All of it was taken, and what had no room in the network's buffers is lost.
        while service._sessions:
            await asyncio.sleep(0.01)
        writer.transport.resume_reading()
        answers = 0
        while data := await reader.read(1 << 20):
            answers += len(data) // 127
        assert 100 < answers < 400 * 500
        writer.close()
        service.close()

    play(story)


def test_a_request_has_a_largest_size():
    parser = Parser(requests=True, max_body=web_relay.MAX_REQUEST)
    parser.feed(b"POST /join/x HTTP/1.1\r\nContent-Length: 65537\r\n\r\n")
    with pytest.raises(HttpError):
        parser.next()


def test_a_request_is_read_once_however_it_is_cut_up():
    """What was read is not looked at again: a head in one piece and a body by the byte."""
    heads = "".join(f"X-{number}: y\r\n" for number in range(1000))
    for start, body in (
        ("Content-Length: 4000", b"x" * 4000),
        ("Transfer-Encoding: chunked", b"1\r\nx\r\n" * 4000 + b"0\r\n\r\n"),
    ):
        parser = Parser(requests=True)
        parser.feed(f"POST / HTTP/1.1\r\n{heads}{start}\r\n\r\n".encode())
        assert parser.next() is None
        assert not parser.rest()
        for byte in body[:-1]:
            parser.feed(bytes([byte]))
            assert parser.next() is None
        parser.feed(body[-1:])
        assert parser.next().body == b"x" * 4000


def test_an_offer_of_infinite_effort_is_taken_for_none():
    # `1e999` is a number of JSON, and infinite.
    told = json.loads('{"sockets": 1e999, "probes": -1e999, "pace": 1e300}')
    assert Effort.told(told) == Effort(0, 1, MOST_PACE)
    # So is one that is too large for a float, and it is not infinite.
    told = dict.fromkeys(("sockets", "probes", "pace"), 10**400)
    assert Effort.told(told) == Effort(MOST_SOCKETS, MOST_PROBES, MOST_PACE)
