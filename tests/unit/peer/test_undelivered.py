"""What does not arrive is told of by name, and the attempt that it was of learns it alone."""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
from contextlib import asynccontextmanager

import pytest

from lab.peer.endpoint import Endpoint
from lab.peer.identity import Identity
from lab.peer.record import Outcome, Tally
from lab.peer.rendezvous import client as client_module
from lab.peer.rendezvous import members, parcels
from lab.peer.rendezvous.client import RendezvousClient, Undelivered
from lab.peer.rendezvous.frames import encode
from lab.peer.rendezvous.member import Member, Message
from lab.peer.rendezvous.service import RendezvousService
from lab.peer.settings import Settings
from lab.peer.traversal.call import AttemptError, OutgoingCall
from lab.peer.traversal.restraint import Pace
from lab.peer.traversal.signalling import Mailbox, Signalling
from lab.peer.traversal.signals import More, Ping
from lab.peer.traversal.signals import encode as body_of
from tests.unit.peer.support import an_offer, network

WAIT_S = 30.0
ALICE, BOB = Identity.create(), Identity.create()
ONE, TWO = b"attempt1", b"attempt2"
AWAY = "bob has been away from the rendezvous service for 3.0 s"


def offer(attempt: bytes) -> dict[str, object]:
    return body_of(an_offer(attempt, {}), ALICE)


def two_attempts() -> tuple[Signalling, dict[bytes, Mailbox]]:
    signalling = Signalling(ALICE, lambda *_: None)
    mailboxes = {attempt: Mailbox("bob", BOB.key, Tally()) for attempt in (ONE, TWO)}
    for attempt, mailbox in mailboxes.items():
        signalling.open(attempt, mailbox)
    return signalling, mailboxes


@pytest.mark.parametrize("end", [parcels.LOST, parcels.TOO_OLD, parcels.TOO_MANY])
def test_an_offer_that_will_not_arrive_is_told_to_its_attempt(end):
    signalling, mailboxes = two_attempts()
    late = Undelivered("bob", offer(ONE), 3.0, end)
    signalling.deliver(late)
    assert mailboxes[ONE].signals.get_nowait() == late
    assert mailboxes[ONE].away_s == 3.0
    assert mailboxes[TWO].signals.empty()
    assert mailboxes[TWO].away_s == 0.0


@pytest.mark.parametrize("end", ["", parcels.BACK, "another word"])
def test_an_offer_that_waits_or_has_arrived_ends_nothing(end):
    signalling, mailboxes = two_attempts()
    for seconds in (1.0, 2.0):
        signalling.deliver(Undelivered("bob", offer(ONE), seconds, end))
    assert [mailbox.away_s for mailbox in mailboxes.values()] == [2.0, 0.0]
    assert all(mailbox.signals.empty() for mailbox in mailboxes.values())


def test_what_is_added_to_an_offer_may_be_missing_but_not_the_peer():
    signalling, mailboxes = two_attempts()
    more = body_of(More(ONE, {}), ALICE)
    for end in (parcels.TOO_OLD, parcels.TOO_MANY):
        signalling.deliver(Undelivered("bob", more, 3.0, end))
    assert mailboxes[ONE].signals.empty()
    signalling.deliver(Undelivered("bob", more, 3.0, parcels.LOST))
    assert not mailboxes[ONE].signals.empty()


@pytest.mark.parametrize(
    ("to", "body"),
    [
        ("carol", offer(ONE)),
        ("bob", offer(b"attempt3")),
        ("bob", body_of(Ping(ONE), ALICE)),
        ("bob", {}),
    ],
)
def test_what_is_of_no_attempt_with_that_peer_ends_none(to, body):
    signalling, mailboxes = two_attempts()
    signalling.deliver(Undelivered(to, body, 3.0, parcels.LOST))
    assert all(mailbox.signals.empty() for mailbox in mailboxes.values())


class Post:
    """A service that takes what it is given, and says nothing."""

    name = "alice"

    def __init__(self) -> None:
        self.sent: asyncio.Queue[dict[str, object]] = asyncio.Queue()

    async def send(self, to, body):
        self.sent.put_nowait(body)
        return len(str(body))


def call(signalling: Signalling, attempt: bytes, settings: Settings) -> OutgoingCall:
    mailbox = Mailbox("bob", BOB.key, Tally())
    signalling.open(attempt, mailbox)
    return OutgoingCall(
        settings,
        signalling,
        mailbox,
        attempt=attempt,
        technique="udp-punch",
        deadline=asyncio.get_running_loop().time() + WAIT_S,
        pace=Pace(),
    )


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (parcels.LOST, AWAY),
        (parcels.TOO_OLD, f"{AWAY}, which keeps an offer no longer"),
        (
            parcels.TOO_MANY,
            "the rendezvous service keeps no more of what has not arrived at bob",
        ),
    ],
)
def test_a_newer_attempt_with_the_same_peer_goes_on(tmp_path, end, reason):
    settings = Settings(
        lab="t", node="alice", seed=1, roles=("peer",), folder=tmp_path, addresses=("127.0.0.1",)
    )

    async def play() -> None:
        signalling = Signalling(ALICE, lambda *_: None)
        signalling.client = post = Post()
        older = asyncio.create_task(call(signalling, ONE, settings).offer(()))
        said = await post.sent.get()
        newer = asyncio.create_task(call(signalling, TWO, settings).offer(()))
        await post.sent.get()
        signalling.deliver(Undelivered("bob", said, 3.0, end))
        (failed,) = await asyncio.gather(older, return_exceptions=True)
        assert isinstance(failed, AttemptError)
        assert (failed.outcome, failed.reason) == (Outcome.UNREACHABLE, reason)
        assert not newer.done()
        newer.cancel()

    asyncio.run(play())


# --- a client and its service ---


class Meeting:
    """A service, and clients of it."""

    def __init__(self, here: Endpoint) -> None:
        self.here = here
        self.service = RendezvousService()
        self.heard: list[object] = []
        self._running: dict[str, asyncio.Task[None]] = {}

    async def join(self, name: str, identity: Identity) -> RendezvousClient:
        hear = self.heard.append if name == "alice" else (lambda _: None)
        client = RendezvousClient((self.here,), name, identity, hear, source=lambda _: "")
        self._running[name] = asyncio.create_task(client.run())
        await client.wait_registered(WAIT_S)
        return client

    async def leave(self, name: str) -> None:
        if task := self._running.pop(name, None):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        while name in self.service.broker.members:
            await asyncio.sleep(0.01)

    def forget(self) -> None:
        """Let the service believe that who has left will not be back."""
        later = asyncio.get_running_loop().time() + members.HOLD_S
        self.service.carry_out(self.service.broker.tick(later))

    def lie(self, *numbers: int) -> None:
        """Have the service say to everybody that these messages to bob are lost."""
        said = {"t": "late", "to": "bob", "ids": list(numbers), "ms": 3000, "end": "lost"}
        for transport in self.service.connections.values():
            transport.write(encode(said))


@asynccontextmanager
async def meeting():
    async with asyncio.timeout(WAIT_S):
        here = Endpoint(f"{network()}.2", 4000)
        there = Meeting(here)
        await there.service.start((here.address,), here.port)
        try:
            yield there
        finally:
            for name in ("alice", "bob"):
                await there.leave(name)
            there.service.close()


def test_a_client_knows_which_of_its_messages_is_lost(monkeypatch):
    monkeypatch.setattr(members, "HOLD_S", WAIT_S)  # until it is told to forget

    async def play() -> None:
        async with meeting() as there:
            alice = await there.join("alice", ALICE)
            await there.join("bob", BOB)
            await there.leave("bob")
            await alice.send("bob", {"number": 1})
            # A message is known by its number also on the next connection.
            alice.renew()
            await alice.wait_registered(WAIT_S)
            there.forget()
            await there.join("bob", BOB)
            await alice.send("bob", {"number": 2})
            await alice.who("bob")
            (late,) = (event for event in there.heard if event.end)
            assert (late.to, late.body, late.end) == ("bob", {"number": 1}, "lost")

    asyncio.run(play())


def test_what_a_service_says_of_messages_that_were_not_sent_is_passed_over():
    async def play() -> None:
        async with meeting() as there:
            alice = await there.join("alice", ALICE)
            await there.join("bob", BOB)
            await alice.send("alice", {"number": 1})
            (mine,) = alice._said
            there.lie(0, 1, 2, mine + 1, mine, 2**60)  # one there is, but it was not for bob
            await alice.who("bob")
            assert [type(event) for event in there.heard] == [Message]

    asyncio.run(play())


def test_a_client_remembers_only_so_much():
    async def play() -> None:
        async with meeting() as there:
            alice = await there.join("alice", ALICE)
            for number in range(2 * client_module.MOST_SAID):
                alice.post("bob", {"number": number})
            said = [body["number"] for _, body in alice._said.values()]
            assert said == list(range(client_module.MOST_SAID, 2 * client_module.MOST_SAID))
            assert all(b - a == 1 for a, b in itertools.pairwise(alice._said))

    asyncio.run(play())


async def slow(there: Meeting) -> tuple[socket.socket, asyncio.Transport]:
    """Bob, registered, who reads nothing from then on; and the service's end of it."""
    loop, bob = asyncio.get_running_loop(), Member("bob", BOB)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    before = set(there.service.connections)
    await loop.sock_connect(sock, there.here)
    while not bob.registered:
        await loop.sock_sendall(sock, bob.take())
        bob.receive(await loop.sock_recv(sock, 4096))
    (number,) = there.service.connections.keys() - before
    transport = there.service.connections[number]
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return sock, transport


def test_what_waits_to_be_sent_when_a_connection_breaks_has_not_arrived(monkeypatch):
    monkeypatch.setattr(members, "HOLD_S", WAIT_S)

    async def play() -> None:
        async with meeting() as there:
            alice = await there.join("alice", ALICE)
            sock, transport = await slow(there)
            for number in range(4):
                await alice.send("bob", {"number": number, "long": "x" * 15_000})
            assert transport.get_write_buffer_size() > 30_000
            # A reset, upon which nothing is left of the buffer.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
            while "bob" in there.service.broker.members:
                await asyncio.sleep(0.01)
            await there.join("bob", BOB)
            await alice.who("bob")
            back = [event.body["number"] for event in there.heard if event.end == parcels.BACK]
            assert back[-3:] == [1, 2, 3]

    asyncio.run(play())
