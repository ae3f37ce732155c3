"""What STUN, relays and rendezvous read, both ends of each."""

from __future__ import annotations

import contextlib
from typing import Any

from lab.peer.endpoint import Endpoint
from lab.peer.relay.allocation import Client
from lab.peer.relay.client import TurnClient
from lab.peer.relay.commands import Forward, Open, Reply
from lab.peer.relay.credentials import Gatekeeper
from lab.peer.relay.server import RelayServer
from lab.peer.rendezvous.broker import Broker
from lab.peer.rendezvous.commands import Close, Send
from lab.peer.rendezvous.frames import MAX_FRAME, FrameError, FrameReader
from lab.peer.rendezvous.frames import encode as frame_of
from lab.peer.rendezvous.member import Member
from lab.peer.stun.codec import (
    Class,
    MalformedError,
    Message,
    Method,
    encode,
    is_stun,
    long_term_key,
    parse,
)
from lab.peer.stun.framing import Splitter
from lab.peer.stun.framing import frame as padded
from lab.peer.stun.responder import Site, respond
from tests.fuzz.common import HERE, IDENTITY, RELAYED, THERE, pieces

_SEALS = ("MESSAGE-INTEGRITY", "FINGERPRINT")


def stun(data: bytes) -> None:
    """A message is read or refused; what was read can be written, and is the same when read."""
    try:
        message = parse(data)
    except MalformedError:
        return
    told = {name: value for name, value in message.attributes.items() if name not in _SEALS}
    plain = Message(message.method, message.kind, message.transaction, told)
    assert parse(encode(plain)) == plain
    again = parse(encode(plain, key=b"key", fingerprint=True))
    assert again.authentic(b"key")
    assert not again.authentic(b"another")
    assert {name: again.attributes[name] for name in told} == told
    message.authentic(b"key")
    for name in ("XOR-MAPPED-ADDRESS", "MAPPED-ADDRESS", "OTHER-ADDRESS"):
        message.endpoint(name)
    assert message.error is None or isinstance(message.error[1], str)


def stun_server(data: bytes) -> None:
    """The server answers a request or is silent; no answer asks for another one."""
    for alternate in ("", "192.0.2.2"):
        site = Site(HERE.address, alternate, 3478, 3479)
        for stream in (False, True):
            reply = respond(data, THERE, HERE, site, stream=stream)
            if reply is None:
                continue
            assert reply.origin in site.endpoints
            assert reply.destination.address == THERE.address
            assert len(reply.payload) <= len(data) + 100
            assert parse(reply.payload).kind in (Class.RESPONSE, Class.ERROR)
            assert respond(reply.payload, HERE, THERE, site) is None


_LIMIT = 512
"""Small enough for inputs that are longer."""


def splitter(data: bytes) -> None:
    """A stream is cut into the same messages however it comes, and no more is kept than one."""
    found: list[list[bytes]] = [[], []]
    refused = [False, False]
    for number, feed in enumerate(([data[1:]], pieces(data))):
        cutter = Splitter(limit=_LIMIT)
        try:
            for piece in feed:
                found[number] += cutter.feed(piece)
                assert len(cutter._buffer) < _LIMIT
        except MalformedError:
            refused[number] = True
    assert refused[0] == refused[1]
    assert refused[0] or found[0] == found[1]
    assert all(is_stun(one) or len(one) >= 4 for one in found[1])
    assert Splitter().feed(b"".join(map(padded, found[1]))) == found[1]


def relay(data: bytes) -> None:
    """A relay does nothing for who has no allocation, and sends nowhere unasked.

    The first byte chooses who speaks: a stranger, the owner of an allocation,
    a permitted peer, another one.
    """
    server, client = (
        RelayServer(Gatekeeper("lab", {"user": "password"})),
        Client("udp", THERE, HERE),
    )
    key = long_term_key("user", "lab", "password")
    if data[:1] and data[0] % 4:
        _allocate(server, client, key)
    said = data[1:]
    match data[0] % 4 if data else 0:
        case 0:
            commands = server.from_client(client, said, 1.0)
            assert not any(isinstance(command, Forward | Open) for command in commands)
            assert sum(len(command.data) for command in commands) <= len(said) + 180
        case 1:
            commands = server.from_client(client, said, 1.0)
            targets = [command.peer for command in commands if isinstance(command, Forward)]
            assert all(peer.address == "203.0.113.9" for peer in targets)
        case 2:
            commands = server.from_peer(RELAYED, Endpoint("203.0.113.9", 9), said, 1.0)
            assert [type(command) for command in commands] == [Reply]
        case _:
            assert not server.from_peer(RELAYED, Endpoint("203.0.113.8", 9), said, 1.0)
            stranger = Client("udp", Endpoint("198.51.100.8", 4000), HERE)
            commands = server.from_client(stranger, said, 1.0)
            assert not any(isinstance(command, Forward | Open) for command in commands)
    server.tick(2.0)


def _allocate(server: RelayServer, client: Client, key: bytes) -> None:
    signed = {"USERNAME": "user", "REALM": "lab", "NONCE": server._gate.nonce(client.endpoint, 0.0)}
    for method, attributes in (
        (Method.ALLOCATE, {"REQUESTED-TRANSPORT": 17 << 24}),
        (Method.CREATE_PERMISSION, {"XOR-PEER-ADDRESS": ("203.0.113.9", 9)}),
        (Method.CHANNEL_BIND, {"CHANNEL-NUMBER": 0x4000, "XOR-PEER-ADDRESS": ("203.0.113.9", 9)}),
    ):
        request = Message(method, Class.REQUEST, bytes(12), {**attributes, **signed})
        for command in server.from_client(client, encode(request, key=key), 0.0):
            if isinstance(command, Open):
                server.opened(client, RELAYED, 0.0)


def relay_client(data: bytes) -> None:
    """A client believes its server alone, and of that only what it asked for."""
    client = TurnClient(HERE, "user", "password")
    client.allocate(0.0)
    client.tick(0.0)
    (first,) = client.take()
    said = first.payload[8:20].join((data[:8], data[8:])) if len(data) > 8 else data
    client.receive(said, THERE, 0.1)
    assert client.relayed is None
    assert client.refusal is None
    client.receive(said, HERE, 0.1)
    client.permit("203.0.113.9", 0.2)
    client.receive(data, HERE, 0.3)
    assert not client.inbox
    client.tick(0.4)
    client.take()


def rendezvous(data: bytes) -> None:
    """A stranger's bytes register nobody; a member's reach whom they name, and bounded."""
    broker = Broker()
    for number in (1, 2):
        broker.opened(number, 0.0)
    _register(broker, 2, "bob")
    if data[:1] and data[0] & 1:
        _register(broker, 1, "alice")
    members = broker.members
    total = 0
    for piece in pieces(data):
        for command in broker.received(1, piece, 1.0):
            if isinstance(command, Send):
                total += len(command.data)
                assert command.connection in (1, 2)
            else:
                assert command == Close(1)
    assert set(broker.members) <= set(members)
    assert "bob" in broker.members
    # By TCP: nobody else has the answers, and a member's messages are counted.
    assert total <= 40 * len(data) + 400
    broker.tick(2.0)
    # Whoever they were for may go before they arrive; they are of no use for ever.
    broker.closed(2, 3.0)
    assert not [one for one in broker.tick(12.0) if isinstance(one, Send) and one.parcel]
    assert "bob" not in broker.members


def _register(broker: Broker, number: int, name: str) -> None:
    member = Member(name, IDENTITY)
    for _ in range(2):
        for command in broker.received(number, member.take(), 0.0):
            if isinstance(command, Send):
                member.receive(command.data)
    assert name in broker.members


def member(data: bytes) -> None:
    """A peer survives its rendezvous service."""
    peer = Member("alice", IDENTITY)
    for piece in pieces(data):
        peer.receive(piece)
    peer.take()


def frames(data: bytes) -> None:
    """Frames are the same however they come, are objects, and come out as they went in."""
    found: list[list[tuple[dict[str, Any], int]] | str] = []
    for feed in ([data[1:]], pieces(data)):
        reader = FrameReader()
        try:
            found.append([one for piece in feed for one in reader.feed(piece)])
        except FrameError:
            found.append("refused")
        else:
            assert len(reader._buffer) < 4 + MAX_FRAME
    assert found[0] == found[1]
    if isinstance(found[0], str):
        return
    assert sum(size for _, size in found[0]) <= len(data)
    for message, _ in found[0]:
        assert isinstance(message, dict)
        with contextlib.suppress(FrameError):  # in ASCII, some are too long
            assert FrameReader().feed(frame_of(message))[0][0] == message
