"""One whole attempt, played in memory before peers are forked.

A forked peer shares memory with its parent until it writes to it.  What
OpenSSL and the interpreter prepare when something is used for the first time
(algorithm tables, specialised bytecode) is written once in the parent here,
instead of once in each of 500 children: it saves each of them 2-3 MB and some
milliseconds.  The protocols have neither sockets nor clocks, so that a
rehearsal touches nothing outside this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

from lab.peer.endpoint import Endpoint
from lab.peer.identity import Identity
from lab.peer.machine import Datagram, Machine
from lab.peer.node import Node
from lab.peer.record import Candidate, CandidateKind
from lab.peer.relay.allocation import Client
from lab.peer.relay.client import TurnClient
from lab.peer.relay.commands import Command, Forward, Open, Reply
from lab.peer.relay.credentials import Gatekeeper
from lab.peer.relay.server import RelayServer
from lab.peer.relay.tunnel import Tunnel
from lab.peer.rendezvous.broker import Broker
from lab.peer.rendezvous.commands import Send
from lab.peer.rendezvous.member import Event, Member, Message
from lab.peer.rendezvous.service import RendezvousService
from lab.peer.settings import RENDEZVOUS_PORT, STUN_PORT, from_environment
from lab.peer.stun.codec import Method, request
from lab.peer.stun.responder import Site, respond
from lab.peer.stun.service import StunService
from lab.peer.stun.transaction import QUICK, Transaction
from lab.peer.traversal.prober import Part, Prober
from lab.peer.traversal.seal import Agreement
from lab.peer.traversal.signals import Offer, digest, encode, parse, transcript

_ALICE, _BOB = Endpoint("192.0.2.1", 1000), Endpoint("192.0.2.2", 1000)
_STUN, _RELAY = Endpoint("192.0.2.3", 3478), Endpoint("192.0.2.4", 3478)
_RELAYED = Endpoint("192.0.2.4", 50000)
_ATTEMPT = bytes(8)


def rehearse() -> bool:
    """Play an attempt of each kind; whether all of them worked."""
    alice, bob = Identity.create(), Identity.create()
    offer, ephemeral = _signals(alice, bob)
    callee = Agreement()
    shared = transcript(offer, callee.ephemeral, bob.key)
    works = True
    for relayed in (False, True):
        ours = ephemeral.seal(_ATTEMPT, callee.ephemeral, shared, caller=True)
        theirs = callee.seal(_ATTEMPT, ephemeral.ephemeral, shared, caller=False)
        near = _RELAYED if relayed else _ALICE
        one = Prober(ours, Part.CALLER, [_BOB], now=0, until=1, kind="punch")
        two = Prober(theirs, Part.ACTIVE_CALLEE, [near], now=0, until=1, kind="punch")
        if relayed:
            _relayed(one, two)
        else:
            _punched(one, two)
        works = works and one.complete and two.complete
    return works


def rehearse_live(rounds: int = 2) -> None:
    """Start two peers that connect, with sockets and loop, and end them again.

    For a network that is nobody's, with a loopback interface that is up.  What
    a program prepares when its parts run for the first few times is shared by
    all that are forked later: 0.5 MB of each.
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        for _ in range(rounds):
            asyncio.run(_live(Path(folder)))


async def _live(folder: Path) -> None:
    service = RendezvousService()
    await service.start(("127.0.0.1",), RENDEZVOUS_PORT)
    stun = StunService(Site("127.0.0.1", "", STUN_PORT, STUN_PORT + 1))
    await stun.start()
    nodes = []
    try:
        for name, address in (("alice", "127.0.0.2"), ("bob", "127.0.0.3")):
            env = {
                "LAB_NODE": name,
                "LAB_ROLE": "peer",
                "LAB_DIR": str(folder / name),
                "LAB_ADDRESSES": address,
                "LAB_STUN": f"127.0.0.1:{STUN_PORT}",
                "LAB_RENDEZVOUS": f"127.0.0.1:{RENDEZVOUS_PORT}",
            }
            nodes.append(Node(from_environment(env)))
            await nodes[-1].start()
        await _order(folder / "alice" / "control.sock")
    finally:
        for node in nodes:
            await node.close()
        stun.close()
        service.close()


async def _order(control: Path) -> None:
    """Have a peer connect."""
    reader, writer = await asyncio.open_unix_connection(control)
    order = {"id": 1, "do": "connect", "peer": "bob", "techniques": ["direct", "udp-punch"]}
    writer.write(json.dumps(order).encode() + b"\n")
    while line := await reader.readline():
        if json.loads(line).get("done"):
            break
    writer.close()


def _signals(alice: Identity, bob: Identity) -> tuple[Offer, Agreement]:
    """Register both, and pass an offer and an answer through the service."""
    broker = Broker()
    members = {1: Member("alice", alice), 2: Member("bob", bob)}
    for number in members:
        broker.opened(number, 0.0)
    _exchange(broker, members)
    ephemeral = Agreement()
    offer = Offer(
        attempt=_ATTEMPT,
        technique="udp-punch",
        sender="alice",
        to="bob",
        ephemeral=ephemeral.ephemeral,
        candidates=(Candidate(CandidateKind.HOST, _ALICE),),
        window_s=1.0,
    )
    members[1].who("bob")
    members[1].send("bob", encode(offer, alice))
    for event in _exchange(broker, members):
        if isinstance(event, Message):
            json.dumps(event.body)
            parse(event.body, event.sender, event.key)
    digest(offer)
    return offer, ephemeral


def _exchange(broker: Broker, members: dict[int, Member]) -> list[Event]:
    """Carry frames until nobody has any."""
    events: list[Event] = []
    busy = True
    while busy:
        busy = False
        for number, member in members.items():
            data = member.take()
            if not data:
                continue
            busy = True
            for command in broker.received(number, data, 0.0):
                if isinstance(command, Send):
                    events += members[command.connection].receive(command.data)
    return events


def _punched(one: Prober, two: Prober) -> None:
    """Learn an endpoint from STUN, then let two probers meet."""
    transaction = Transaction(request(Method.BINDING), _STUN, QUICK, 0.0)
    transaction.tick(0.0)
    for datagram in transaction.take():
        site = Site(_STUN.address, "192.0.2.5", 3478, 3479)
        reply = respond(datagram.payload, _ALICE, _STUN, site)
        if reply:
            transaction.receive(reply.payload, _STUN, 0.0)
    for now in (0.0, 0.05, 0.1):
        one.tick(now)
        two.tick(now)
        for _ in range(4):
            _hand_over(one.take(), two, _ALICE, now)
            _hand_over(two.take(), one, _BOB, now)


def _hand_over(datagrams: Iterable[Datagram], to: Machine, source: Endpoint, now: float) -> None:
    for datagram in datagrams:
        to.receive(datagram.payload, source, now)


def _relayed(one: Prober, two: Prober) -> None:
    """Let the first prober speak through a relay."""
    server = RelayServer(Gatekeeper("lab", {"user": "password"}))
    client = Client("udp", _ALICE, _RELAY)
    turn = TurnClient(_RELAY, "user", "password")
    tunnel = Tunnel(turn)
    turn.allocate(0.0)
    for now in (0.0, 0.05, 0.1, 0.15, 0.2):
        if turn.relayed and not turn.permitted:
            turn.permit(_BOB.address, now)
            turn.bind(_BOB, now)
        elif turn.permitted:
            tunnel.inner = one
            two.tick(now)
        tunnel.tick(now)
        for _ in range(6):
            commands: list[Command] = []
            for datagram in tunnel.take():
                commands += server.from_client(client, datagram.payload, now)
            for datagram in two.take():
                commands += server.from_peer(_RELAYED, _BOB, datagram.payload, now)
            _carry_out(server, commands, tunnel, two, now)


def _carry_out(
    server: RelayServer, commands: list[Command], tunnel: Tunnel, two: Prober, now: float
) -> None:
    for command in commands:
        match command:
            case Open(client):
                _carry_out(server, server.opened(client, _RELAYED, now), tunnel, two, now)
            case Reply(_, data):
                tunnel.receive(data, _RELAY, now)
            case Forward(_, _, data):
                two.receive(data, _RELAYED, now)
