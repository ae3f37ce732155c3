"""One function for each reader of bytes that others send.

Each takes any bytes and returns; an exception that the reader does not
promise, a promise that it does not keep, or an answer larger than what a
reader may give is a fault.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType, SimpleNamespace
from typing import Any

from lab.peer.endpoint import Endpoint
from lab.peer.identity import Identity, to_text
from lab.peer.lan import dns
from lab.peer.portmap import igd, natpmp, pcp, ssdp
from lab.peer.portmap.lease import TCP, UDP, PortmapError
from lab.peer.record import Tally
from lab.peer.relay.allocation import Client
from lab.peer.relay.client import TurnClient
from lab.peer.relay.commands import Forward, Open, Reply
from lab.peer.relay.credentials import Gatekeeper
from lab.peer.relay.server import RelayServer
from lab.peer.rendezvous.broker import Broker, Close, Send
from lab.peer.rendezvous.frames import FrameError, FrameReader
from lab.peer.rendezvous.frames import encode as frame_of
from lab.peer.rendezvous.member import Member
from lab.peer.session.wire import Kind, SessionSeal
from lab.peer.streams import Packets
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
from lab.peer.stun.responder import Site, respond
from lab.peer.traversal.call import AttemptError
from lab.peer.traversal.ice import _endpoint, _parse
from lab.peer.traversal.prober import Part, Prober
from lab.peer.traversal.seal import Agreement
from lab.peer.traversal.signals import _PURPOSE, SignalError, _canonical
from lab.peer.traversal.signals import parse as parse_signal
from lab.peer.volunteer.wire import Type as VolunteerType
from lab.peer.volunteer.wire import exchange, proven_by
from lab.peer.volunteer.wire import parse as parse_volunteer
from lab.peer.web import websocket
from lab.peer.web.message import HttpError, Parser

Target = Callable[[bytes], object]

HERE, THERE = Endpoint("192.0.2.1", 3478), Endpoint("198.51.100.7", 4000)
RELAYED = Endpoint("192.0.2.1", 50000)
_IDENTITY = Identity.create()


def pieces(data: bytes) -> Iterator[bytes]:
    """`data` as a stream may bring it: the first byte says in how long pieces."""
    size = data[0] + 1 if data else 1
    for at in range(1, len(data), size):
        yield data[at : at + size]


def stun(data: bytes) -> None:
    """A message is read or refused; what was read can be written and read again."""
    try:
        message = parse(data)
    except MalformedError:
        return
    again = parse(encode(Message(message.method, message.kind, message.transaction)))
    assert (again.method, again.kind) == (message.method, message.kind)
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


def splitter(data: bytes) -> None:
    """A stream is cut into the same messages however it comes."""
    whole, parts = Splitter(limit=4096), Splitter(limit=4096)
    found: list[list[bytes]] = [[], []]
    refused = [False, False]
    for number, feed in enumerate(([data[1:]], pieces(data))):
        try:
            for piece in feed:
                found[number] += (whole, parts)[number].feed(piece)
        except MalformedError:
            refused[number] = True
    assert refused[0] == refused[1]
    assert refused[0] or found[0] == found[1]
    assert all(is_stun(one) or len(one) >= 4 for one in found[1])


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


def _register(broker: Broker, number: int, name: str) -> None:
    member = Member(name, _IDENTITY)
    for _ in range(2):
        for command in broker.received(number, member.take(), 0.0):
            if isinstance(command, Send):
                member.receive(command.data)
    assert name in broker.members


def member(data: bytes) -> None:
    """A peer survives its rendezvous service."""
    peer = Member("alice", _IDENTITY)
    for piece in pieces(data):
        peer.receive(piece)
    peer.take()


def frames(data: bytes) -> None:
    """Frames come out as they went in, and are objects."""
    reader = FrameReader()
    try:
        found = [one for piece in pieces(data) for one in reader.feed(piece)]
    except FrameError:
        return
    for message, size in found:
        assert isinstance(message, dict)
        assert size <= 16 * 1024 + 4
        with contextlib.suppress(FrameError):  # in ASCII, some are too long
            assert FrameReader().feed(frame_of(message))[0][0] == message


_BASE: Mapping[str, Any] = MappingProxyType(
    {
        "kind": "offer",
        "attempt": "00" * 8,
        "technique": "direct",
        "from": "alice",
        "to": "bob",
        "ephemeral": to_text(bytes(32)),
        "candidates": [],
        "window_ms": 1000,
        "details": {},
    }
)


def signal(data: bytes) -> None:
    """A body is a signal or none; one that is signed is read to its end."""
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(body, dict):
        return
    signed = {**_BASE, **body}
    signed.pop("signature", None)
    try:
        signature = _IDENTITY.sign(_PURPOSE, _canonical(signed))
    except (ValueError, RecursionError):
        return
    for one in (body, {**signed, "signature": to_text(signature)}):
        try:
            parse_signal(one, "alice", _IDENTITY.key)
        except SignalError:
            continue


def sealed(data: bytes) -> None:
    """Nothing but the other end's packets changes a prober or makes it answer."""
    mine, other = Agreement(), Agreement()
    seal = mine.seal(b"12345678", other.ephemeral, b"t", caller=True)
    prober = Prober(seal, Part.CALLER, (THERE,), now=0.0, until=1.0, kind="punch")
    prober.tick(0.0)
    prober.take()
    for said in (data, b"\xf5" + data[1:2] + b"12345678" + data[10:]):
        prober.receive(said, THERE, 0.01)
    assert not prober.heard
    assert not prober.take()
    assert not prober.complete


def session_frame(data: bytes) -> None:
    """Nothing but the other end's frames is opened."""
    seal = SessionSeal(b"12345678", bytes(32), bytes(32)[::-1])
    for said in (data, b"\xf6" + data[1:2] + b"12345678" + data[10:]):
        assert seal.open(said) is None
    assert seal.rejected == 2
    # What the other end makes of any body is a frame or none.
    other = SessionSeal(b"12345678", bytes(32), bytes(32))
    frame = other._seal(Kind.DATA if data[:1] < b"\x80" else Kind.CHECK, data[:1000])[1]
    other.open(frame)


def volunteer(data: bytes) -> None:
    """A packet to a relay is one of its own, and comes out as it went in, or is none."""
    packet = parse_volunteer(data)
    if packet:
        assert packet.encode() == data
        if packet.type is VolunteerType.PROVE:
            assert not proven_by(packet, bytes(32), exchange(packet), bytes(32))


def http(data: bytes) -> None:
    """A stream gives the same messages however it comes, none longer than it may be."""
    for requests in (True, False):
        found = [
            _messages(Parser(requests=requests, max_body=2048), feed)
            for feed in ([data[1:]], list(pieces(data)))
        ]
        assert found[0] == found[1]


def _messages(parser: Parser, feed: list[bytes]) -> list[object]:
    found: list[object] = []
    try:
        for piece in [*(one for one in feed if one), b""]:
            parser.feed(piece)
            while (message := parser.next()) is not None:
                assert len(message.body) <= 2048
                found.append(message)
    except HttpError:
        found.append("refused")
    return found


def web_socket(data: bytes) -> None:
    """Frames are the same however they come, and bounded."""
    for masked in (True, False):
        found: list[list[websocket.Frame | str]] = [[], []]
        for number, feed in enumerate(([data[1:]], pieces(data))):
            decoder = websocket.Decoder(masked=masked)
            try:
                for piece in feed:
                    found[number] += decoder.feed(piece)
            except websocket.FrameError:
                found[number] = ["refused"]
        assert found[0] == found[1]


def packets(data: bytes) -> None:
    """Packets on a stream are the same however they come."""
    found: list[list[bytes | str]] = [[], []]
    for number, feed in enumerate(([data[1:]], pieces(data))):
        cutter = Packets()
        try:
            for piece in feed:
                found[number] += cutter.feed(piece)
        except ValueError:
            found[number] = ["refused"]
    assert found[0] == found[1]


def port_mapping(data: bytes) -> None:
    """A router's answers are read or refused."""
    for protocol in (UDP, TCP):
        for read in (
            lambda: natpmp.parse_address(data),
            lambda p=protocol: natpmp.parse_mapping(data, p),
            lambda p=protocol: pcp.parse_map(data, data[24:36].ljust(12, b"\0"), p),
        ):
            try:
                read()
            except PortmapError:
                continue


def upnp(data: bytes) -> None:
    """What a device says of itself is read or refused."""
    found = ssdp.parse_found(data)
    assert found is None or found.location.isascii()
    ssdp.parse_search(data)
    for read in (
        lambda: igd.parse_description(data, "http://192.168.1.1:5000/rootDesc.xml").url,
        lambda: igd.parse_answer(200, data),
        lambda: igd.parse_answer(500, data),
    ):
        try:
            read()
        except PortmapError:
            continue


def names(data: bytes) -> None:
    """A message of mDNS or LLMNR is read or refused."""
    try:
        message = dns.parse(data)
    except dns.MalformedError:
        return
    for record in message.answers:
        dns.pairs(record.data)


def ice_candidate(data: bytes) -> None:
    """A candidate of ICE is one that can be sent to, or none."""
    call: Any = SimpleNamespace(peer="bob", tally=Tally())
    try:
        assert _endpoint(_parse(call, data.decode("utf-8", "replace"))).sendable
    except AttemptError:
        return


TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        one.__name__.replace("_", "-"): one
        for one in (
            stun,
            stun_server,
            splitter,
            relay,
            relay_client,
            rendezvous,
            member,
            frames,
            signal,
            sealed,
            session_frame,
            volunteer,
            http,
            web_socket,
            packets,
            port_mapping,
            upnp,
            names,
            ice_candidate,
        )
    }
)
