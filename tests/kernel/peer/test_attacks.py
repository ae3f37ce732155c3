"""Third parties in a real network, on the path and off it: what they try gets them nothing."""

from __future__ import annotations

import contextlib
import random
import secrets
import signal
import socket
import threading
import time

import pytest

from lab.peer.endpoint import Endpoint
from lab.peer.marks import Mark
from lab.peer.record import Candidate, CandidateKind
from lab.peer.relay.client import TurnClient
from lab.peer.relay.wire import channel_data
from lab.peer.rendezvous.member import Refused, Registered
from lab.peer.stun.codec import Class, Message, Method, encode, is_stun, parse
from lab.peer.traversal.restraint import Restraint
from lab.peer.traversal.seal import Agreement
from lab.peer.traversal.signals import Offer
from lab.peer.traversal.signals import encode as encode_signal
from tests.kernel.peer.hostile import CAROL, MALLORY, VICTIM, Hostile, Impostor
from tests.kernel.peer.wild import PATIENT, run

pytestmark = pytest.mark.kernel

STUN = Endpoint("45.0.0.2", 3478)
RELAY = Endpoint("45.0.0.2", 5349)
STRANGERS = 40
"""Connections: more than a peer keeps, and more than it would probe."""
HOMES = ("45.0.1.2", "45.0.2.2")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    hostile = Hostile(tmp_path_factory.mktemp("hostile"))
    yield hostile
    hostile.close()


@pytest.fixture
def open_nats(hostile):
    """Whoever sends to a home's port gets in: no NAT stands in mallory's way."""
    hostile.nat("a", "full-cone")
    hostile.nat("b", "full-cone")
    yield hostile
    hostile.nat("a", "home")
    hostile.nat("b", "home")


def between_the_two(record):
    """Whether a path leads from one home to the other, and to nobody else."""
    assert record["outcome"] == "success", record
    assert record["path"] == "direct"
    ends = (record["local_candidate"]["endpoint"], record["remote_candidate"]["endpoint"])
    assert tuple(end.rpartition(":")[0] for end in ends) == HOMES
    return record


def heard(sock):
    """What has come to a socket by now."""
    sock.setblocking(False)
    found = []
    with contextlib.suppress(BlockingIOError):
        while data := sock.recv(65535):
            found.append(data)
    return found


def test_replayed_packets_open_no_path_and_are_answered_nowhere(open_nats):
    mallory = open_nats.socket("mallory")
    port = mallory.getsockname()[1]
    copies = 0
    with open_nats.forger() as forge:

        def replay(source, to, payload):
            nonlocal copies
            if payload[:1] == bytes((Mark.PATH,)) and source.address in HOMES:
                copies += 1
                # To whom it was meant for, from its sender and from elsewhere; and back to him.
                forge(source, to, payload)
                forge(Endpoint(MALLORY, port), to, payload)
                forge(to, source, payload)
                forge(Endpoint(MALLORY, port), source, payload)

        with open_nats.tap(replay):
            (record,) = open_nats.alice.connect("bob", "udp-punch", goodput_s=0.2, **PATIENT)
    between_the_two(record)
    assert copies >= 4
    assert heard(mallory) == []
    mallory.close()


def test_who_guesses_ports_and_floods_them_is_not_answered(open_nats):
    mallory = open_nats.socket("mallory")
    stop = threading.Event()
    rng = random.Random(5)

    def flood():
        while not stop.is_set():
            session = rng.randbytes(8)
            for home in HOMES:
                shape = bytes((Mark.PATH, rng.randint(0, 7))) + session + rng.randbytes(51)
                mallory.sendto(shape, (home, rng.randint(32768, 60999)))
                mallory.sendto(rng.randbytes(40), (home, rng.randint(32768, 60999)))

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        (record,) = open_nats.alice.connect("bob", "udp-punch", **PATIENT)
    finally:
        stop.set()
        thread.join()
    between_the_two(record)
    assert heard(mallory) == []
    mallory.close()


def test_forged_answers_of_the_stun_server_are_not_believed_off_the_path(hostile):
    """Whoever does not see the question has 96 bits to guess, even from the right address."""
    asked = set()
    with hostile.forger() as forge:

        def answer(source, to, payload):
            if to == STUN and source.address in HOMES and is_stun(payload) and source not in asked:
                asked.add(source)
                lie = {"XOR-MAPPED-ADDRESS": (MALLORY, 6666)}
                for _ in range(200):
                    guess = Message(Method.BINDING, Class.RESPONSE, secrets.token_bytes(12), lie)
                    forge(STUN, source, encode(guess))

        with hostile.tap(answer):
            (record,) = hostile.alice.connect("bob", "udp-punch", **PATIENT)
    between_the_two(record)
    assert {source.address for source in asked} == set(HOMES)


def test_who_forges_answers_on_the_path_stops_an_attempt_and_no_more(hostile):
    """Mallory answers in the server's place, with the right number, and waits for the probes."""
    mallory = hostile.socket("mallory")
    port = mallory.getsockname()[1]
    with hostile.forger() as forge:

        def answer(source, to, payload):
            if to == STUN and source.address in HOMES and is_stun(payload):
                lie = {"XOR-MAPPED-ADDRESS": (MALLORY, port)}
                said = Message(Method.BINDING, Class.RESPONSE, parse(payload).transaction, lie)
                forge(STUN, source, encode(said))
            if payload[:1] == bytes((Mark.PATH,)) and to == (MALLORY, port):
                # Everything that comes is sent on to both, as from here.
                for home in HOMES:
                    forge(Endpoint(MALLORY, port), Endpoint(home, source.port), payload)

        with hostile.tap(answer):
            (record,) = hostile.alice.connect("bob", "udp-punch", timeout_s=4)
    # Either the true answer was first, or there is no path; never one to mallory.
    if record["outcome"] == "success":
        assert MALLORY not in record["remote_candidate"]["endpoint"]
    assert all(packet[:1] == bytes((Mark.PATH,)) for packet in heard(mallory))
    mallory.close()


def test_who_connects_first_to_a_punching_port_gets_nothing(open_nats):
    open_nats.open_tcp("a")
    open_nats.open_tcp("b")
    stop, met, strangers, answers = threading.Event(), threading.Event(), [], []

    def connect(port):
        sock = open_nats.socket("mallory", socket.SOCK_STREAM)
        sock.settimeout(0.5)
        with contextlib.suppress(OSError):
            sock.connect(("45.0.1.2", port))
            sock.sendall(b"\0\x45" + bytes((Mark.PATH, 1)) + bytes(67))
            strangers.append(sock)
            met.set()
            return
        sock.close()

    def hunt():
        while not stop.is_set() and len(strangers) < STRANGERS:
            # The ports that alice listens on, as somebody with a scanner would find them.
            for port in _listening(open_nats, "alice"):
                connect(port)

    def late():
        # Bob answers when somebody else has been there: alice listens from the beginning.
        met.wait(15)
        open_nats.bob.process.send_signal(signal.SIGCONT)

    threads = [threading.Thread(target=each) for each in (hunt, late)]
    open_nats.bob.process.send_signal(signal.SIGSTOP)
    try:
        for thread in threads:
            thread.start()
        (record,) = open_nats.alice.connect("bob", "tcp-punch", **PATIENT)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    between_the_two(record)
    assert strangers
    for sock in strangers:
        with contextlib.suppress(OSError):
            answers += heard(sock)
        sock.close()
    # What a connection is sent is sealed for the other peer.
    assert all(answer[2:3] == bytes((Mark.PATH,)) for answer in answers if answer)


def _listening(hostile, node):
    listing = run(f"ip netns exec {hostile.name(node)} cat /proc/net/tcp")
    ports = []
    for line in listing.splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A":
            ports.append(int(fields[1].rpartition(":")[2], 16))
    return ports


def test_a_name_is_its_owners(hostile):
    impostor = Impostor(hostile, "bob")
    answer = impostor.register()
    assert isinstance(answer, Refused)
    assert answer.code == "name-taken"
    impostor.close()
    # Bob is still there, and still himself.
    between_the_two(hostile.alice.connect("bob", "udp-punch", **PATIENT)[0])


def turn(client, sock, until):
    """Drive a client of TURN on a socket until something holds."""
    sock.settimeout(0.2)
    deadline = time.monotonic() + 30
    while (now := time.monotonic()) < deadline:
        client.tick(now)
        for datagram in client.take():
            sock.sendto(datagram.payload, datagram.destination)
        if until():
            return True
        with contextlib.suppress(TimeoutError):
            data, source = sock.recvfrom(65535)
            client.receive(data, Endpoint(*source), now)
    return False


def test_nobody_uses_anothers_allocation(hostile):
    own, mallory = hostile.socket("alice"), hostile.socket("mallory")
    alice = TurnClient(RELAY, "user", "password")
    alice.allocate(time.monotonic())
    assert turn(alice, own, lambda: alice.relayed)
    alice.permit("45.0.2.2", time.monotonic())
    assert turn(alice, own, lambda: "45.0.2.2" in alice.permitted)
    victim = Endpoint(VICTIM, 9)
    received = hostile.arrived("victim")
    # From an address without a permission; by a channel that is alice's; and by Send.
    mallory.sendto(b"let me in", alice.relayed)
    mallory.sendto(channel_data(0x4000, b"as alice"), RELAY)
    said = {"XOR-PEER-ADDRESS": victim, "DATA": b"from the relay"}
    mallory.sendto(encode(Message(Method.SEND, Class.INDICATION, bytes(12), said)), RELAY)
    # In alice's name: her address is forged, and her signature is not to be had.
    with hostile.forger() as forge:
        release = Message(Method.REFRESH, Class.REQUEST, bytes(12), {"LIFETIME": 0})
        forge(alice.mapped, RELAY, encode(release))
        forge(alice.mapped, RELAY, encode(release, key=b"guess"))
    # Without credentials, and with wrong ones.
    for password in ("", "guess"):
        thief = TurnClient(RELAY, "user" if password else "", password)
        thief.allocate(time.monotonic())
        assert turn(thief, mallory, lambda one=thief: one.refusal)
        assert thief.refusal.code == 401
    # With her own right she may not use alice's allocation, but one of her own.
    mate = TurnClient(RELAY, "user", "password")
    mate.allocate(time.monotonic())
    assert turn(mate, mallory, lambda: mate.relayed)
    assert mate.relayed != alice.relayed
    # Alice's still works, and what mallory sent never came.
    alice.permit(MALLORY, time.monotonic())
    assert turn(alice, own, lambda: MALLORY in alice.permitted)
    assert alice.inbox == []
    mallory.sendto(b"by permission", alice.relayed)
    assert turn(alice, own, lambda: alice.inbox)
    assert [data for _, data in alice.inbox] == [b"by permission"]
    assert hostile.arrived("victim") == received
    own.close()
    mallory.close()


def offers(impostor, technique, count, **details):
    """So many of mallory's offers, which name the victim as where she is."""
    for _ in range(count):
        where = tuple(
            Candidate(CandidateKind.HOST, Endpoint(VICTIM, port)) for port in range(1001, 1009)
        )
        offer = Offer(
            attempt=secrets.token_bytes(8),
            technique=technique,
            sender="mallory",
            to="bob",
            ephemeral=Agreement().ephemeral,
            candidates=where,
            window_s=60.0,
            details=details,
        )
        impostor.member.send("bob", encode_signal(offer, impostor.identity))
    impostor.flush()


def test_a_peer_floods_nobody_for_another_one(hostile):
    impostor = Impostor(hostile, "mallory")
    assert isinstance(impostor.register(), Registered)
    before, started = hostile.arrived("victim"), time.monotonic()
    told = [f"{VICTIM}:{port}" for port in range(2001, 2009)]
    offers(impostor, "udp-punch", 8, wait_s=0)
    offers(impostor, "reversal", 6, tcp=told)
    offers(impostor, "birthday", 6, hard=True, sockets=512, probes=8192, pace=1000)
    offers(impostor, "tcp-punch", 6)
    deadline = started + 20
    while hostile.arrived("victim") - before < 3000 and time.monotonic() < deadline:
        time.sleep(0.1)  # the attack takes its time
    sent, elapsed = hostile.arrived("victim") - before, time.monotonic() - started
    assert sent > 100  # it is one
    assert sent <= Restraint.BURST + Restraint.RATE * (elapsed + 1)
    status = hostile.bob.order(do="status")[-1]["status"]
    assert sum(one["peer"] == "mallory" for one in status["sessions"]) <= 16
    impostor.close()
    # Meanwhile bob answers others.
    between_the_two(hostile.alice.connect("bob", "udp-punch", **PATIENT)[0])


def test_who_forges_a_peers_address_spends_nothing_of_what_a_volunteer_gives(hostile):
    """Mallory sees every packet, and sends the volunteer copies and inventions in its name."""
    carol = hostile.volunteer()
    forged, invented = 0, b"mallory's"
    passed: list[bytes] = []
    with hostile.forger() as forge:

        def spend(source, to, payload):
            nonlocal forged
            if source == CAROL and invented in payload:
                passed.append(payload)
            if to != CAROL or source.address not in HOMES or invented in payload:
                return
            if payload[0] in (Mark.PATH, Mark.SESSION):
                # A hundred kilobytes: more than the pair may use at once.
                for _ in range(40):
                    for mark in (Mark.PATH, Mark.SESSION):
                        forge(source, CAROL, bytes((mark,)) + payload[1:18] + invented * 130)
                    forge(source, CAROL, payload)
                    forged += 3

        with hostile.tap(spend):
            (record,) = hostile.alice.connect("bob", "relay-peer", goodput_s=0.5, **PATIENT)
    assert (record["outcome"], record["path"]) == ("success", "relayed"), record
    stands = carol.order(do="status")[-1]["status"]["volunteer"]
    assert forged > 100
    assert 0 < stands["forged"] <= forged
    assert 0 < stands["carried"] <= record["relayed"]["packets"]
    assert passed == []
    carol.stop()
