"""Our TURN client against our TURN server, without sockets."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.peer.endpoint import Endpoint
from lab.peer.relay.allocation import Client, Limits
from lab.peer.relay.client import Refusal, TurnClient
from lab.peer.relay.commands import Forward, Open, Reply, Shut
from lab.peer.relay.credentials import NONCE_S, Gatekeeper
from lab.peer.relay.server import RelayServer
from lab.peer.relay.wire import CHANNEL_S, PERMISSION_S, channel_data
from lab.peer.stun.codec import (
    Class,
    Message,
    Method,
    encode,
    long_term_key,
    new_transaction,
    parse,
    request,
)

HERE = Endpoint("192.0.2.9", 3478)
ALICE = Endpoint("198.51.100.1", 40000)
PEER, STRANGER = Endpoint("198.51.100.2", 50000), Endpoint("198.51.100.3", 50000)


class Relay:
    """A server, and clients that reach it at once; `sent` is what went to peers."""

    def __init__(self, users=None, families=(4,), **limits):
        users = users or {"user": "password"}
        gatekeeper = Gatekeeper("realm", users)
        self.server = RelayServer(gatekeeper, Limits(**limits), frozenset(families))
        self.clients: dict[Client, TurnClient] = {}
        self.sent: list[Forward] = []
        self.shut: list[Endpoint] = []
        self.ports = iter(range(60000, 65000))
        self.full = False
        self.now = 0.0

    def client(
        self,
        endpoint=ALICE,
        user="user",
        password="password",  # noqa: S107 - made up
        family=0,
    ):
        client = TurnClient(HERE, user, password, family=family)
        self.clients[Client("udp", endpoint, HERE)] = client
        return client

    def settle(self):
        busy = True
        while busy:
            busy = False
            for who, client in tuple(self.clients.items()):
                client.tick(self.now)
                for datagram in client.take():
                    busy = True
                    self.do(self.server.from_client(who, datagram.payload, self.now))

    def do(self, commands):
        for command in commands:
            match command:
                case Open(who, _, family):
                    address = "192.0.2.9" if family == 4 else "2001:db8::9"
                    port = None if self.full else Endpoint(address, next(self.ports))
                    self.do(self.server.opened(who, port, self.now))
                case Reply(who, data):
                    self.clients[who].receive(data, HERE, self.now)
                case Forward():
                    self.sent.append(command)
                case Shut(relayed):
                    self.shut.append(relayed)

    def arrive(self, client, peer, data):
        self.do(self.server.from_peer(client.relayed, peer, data, self.now))
        found, client.inbox = client.inbox, []
        return found

    def allocated(self, endpoint=ALICE):
        client = self.client(endpoint)
        client.allocate(self.now)
        self.settle()
        assert client.relayed, client.refusal
        return client


def test_allocation():
    relay = Relay()
    client = relay.allocated()
    assert client.relayed == Endpoint("192.0.2.9", 60000)
    assert client.mapped == ALICE
    assert client.refusal is None


@pytest.mark.parametrize(
    ("families", "asked", "relayed"),
    [((4, 6), 0, 4), ((4, 6), 4, 4), ((4, 6), 6, 6), ((6,), 0, 6), ((4,), 6, None)],
)
def test_the_family_of_the_relayed_endpoint(families, asked, relayed):
    relay = Relay(families=families)
    client = relay.client(family=asked)
    client.allocate(relay.now)
    relay.settle()
    if relayed is None:
        assert client.refusal.code == 440
    else:
        assert client.relayed.family == relayed


@pytest.mark.parametrize("ask", ["permit", "bind"])
def test_a_peer_of_the_other_family_is_refused(ask):
    relay = Relay(families=(4, 6))
    client = relay.allocated()
    other = Endpoint("2001:db8::1", 5000)
    if ask == "permit":
        client.permit(other.address, relay.now)
    else:
        client.bind(other, relay.now)
    relay.settle()
    assert client.refusal.code == 443


def test_data_passes_only_with_a_permission():
    relay = Relay()
    client = relay.allocated()
    client.send(PEER, b"too early")
    relay.settle()
    assert relay.sent == []
    assert relay.arrive(client, PEER, b"too early") == []
    client.permit(PEER.address, relay.now)
    relay.settle()
    client.send(PEER, b"out")
    relay.settle()
    assert relay.sent == [Forward(client.relayed, PEER, b"out")]
    assert relay.arrive(client, PEER, b"in") == [(PEER, b"in")]
    assert relay.arrive(client, STRANGER, b"no") == []


def test_a_channel_carries_both_ways():
    relay = Relay()
    client = relay.allocated()
    client.bind(PEER, relay.now)
    relay.settle()
    client.send(PEER, b"abc")
    (datagram,) = client.take()
    assert datagram.payload == channel_data(0x4000, b"abc")
    relay.do(relay.server.from_client(Client("udp", ALICE, HERE), datagram.payload, relay.now))
    assert relay.sent == [Forward(client.relayed, PEER, b"abc")]
    assert relay.arrive(client, PEER, b"def") == [(PEER, b"def")]


@pytest.mark.parametrize(
    ("user", "password"), [("user", "wrong"), ("nobody", "password"), ("", "")]
)
def test_who_has_no_right_gets_nothing(user, password):
    relay = Relay()
    client = relay.client(user=user, password=password)
    client.allocate(0.0)
    relay.settle()
    assert client.relayed is None
    assert client.refusal == Refusal(401, "Unauthorized")
    assert relay.server.allocations == {}


def test_a_client_uses_what_is_its_own():
    relay = Relay(users={"user": "password", "eve": "secret"})
    relay.allocated()
    # The same 5-tuple with another user's credentials: a stolen address.
    eve = relay.client(user="eve", password="secret")  # noqa: S106 - made up
    eve.permit(PEER.address, 0.0)
    relay.settle()
    assert eve.refusal.code == 441
    assert eve.permitted == set()


def test_without_an_allocation_there_is_nothing_to_permit():
    relay = Relay()
    client = relay.client()
    client.permit(PEER.address, 0.0)
    relay.settle()
    assert client.refusal.code == 437


@pytest.mark.parametrize("limit", ["per_user", "per_address", "allocations"])
def test_quotas(limit):
    relay = Relay(**{limit: 2})
    for port in (1, 2):
        relay.allocated(Endpoint(ALICE.address, port))
    third = relay.client(Endpoint(ALICE.address, 3))
    third.allocate(0.0)
    relay.settle()
    assert third.refusal.code == (508 if limit == "allocations" else 486)
    first = relay.clients[Client("udp", Endpoint(ALICE.address, 1), HERE)]
    first.release(0.0)
    relay.settle()
    assert first.released
    third.allocate(0.0)
    relay.settle()
    assert third.relayed


def test_permissions_are_bounded():
    relay = Relay(permissions=3)
    client = relay.allocated()
    for number in range(5):
        client.permit(f"203.0.113.{number}", 0.0)
    relay.settle()
    assert len(client.permitted) == 3
    assert client.refusal.code == 508


@pytest.mark.parametrize("address", ["127.0.0.1", "224.0.0.1", "0.0.0.0", "255.255.255.255"])
def test_some_peers_are_out_of_bounds(address):
    relay = Relay()
    client = relay.allocated()
    client.permit(address, 0.0)
    relay.settle()
    assert client.refusal == Refusal(403, "Forbidden")


def test_no_port_left():
    relay = Relay()
    relay.full = True
    client = relay.client()
    client.allocate(0.0)
    relay.settle()
    assert client.refusal == Refusal(508, "Insufficient Capacity")


def test_what_is_not_refreshed_expires():
    relay = Relay()
    client = relay.allocated()
    client.permit(PEER.address, 0.0)
    relay.settle()
    relay.now = PERMISSION_S + 1.0
    assert relay.arrive(client, PEER, b"late") == []
    relay.now = 601.0
    relay.do(relay.server.tick(relay.now))
    assert relay.shut == [client.relayed]
    assert relay.server.allocations == {}


def test_the_client_refreshes_what_it_has():
    relay = Relay()
    client = relay.allocated()
    client.permit(PEER.address, 0.0)
    client.bind(STRANGER, 0.0)
    relay.settle()
    while relay.now < 3 * NONCE_S:
        relay.now = client.deadline()
        relay.settle()
        relay.do(relay.server.tick(relay.now))
    assert relay.arrive(client, PEER, b"x") == [(PEER, b"x")]
    assert relay.arrive(client, STRANGER, b"y") == [(STRANGER, b"y")]
    assert client.refusal is None


def test_a_channel_belongs_to_one_peer():
    relay = Relay()
    relay.allocated()
    who = Client("udp", ALICE, HERE)
    allocation = relay.server.allocations[who]
    assert allocation.bind(0x4000, PEER, 0.0)
    assert not allocation.bind(0x4000, STRANGER, 0.0)
    assert not allocation.bind(0x4001, PEER, 0.0)
    allocation.prune(CHANNEL_S + 1.0)
    assert allocation.bind(0x4000, STRANGER, CHANNEL_S + 1.0)


def test_the_same_request_again_gets_the_same_answer():
    relay = Relay()
    client = relay.client()
    client.allocate(0.0)
    seen = []
    who = Client("udp", ALICE, HERE)
    for _ in range(2):
        client.tick(0.0)
        (datagram,) = client.take()
        for _ in range(2):
            relay.do(relay.server.from_client(who, datagram.payload, 0.0))
            seen.append(len(relay.server.allocations))
    assert seen == [0, 0, 1, 1]


def test_the_end_of_a_stream_is_the_end_of_its_allocation():
    relay = Relay()
    client = relay.allocated()
    relay.do(relay.server.gone(Client("udp", ALICE, HERE)))
    assert relay.shut == [client.relayed]


def test_a_nonce_is_bound_to_its_client_and_to_time():
    gate = Gatekeeper("realm", {"user": "password"})
    key = long_term_key("user", "realm", "password")

    def check(nonce, client=ALICE, now=0.0):
        attributes = {"USERNAME": "user", "REALM": "realm", "NONCE": nonce}
        message = parse(encode(request(Method.REFRESH, attributes), key=key))
        return getattr(gate.check(message, client, now), "code", 200)

    nonce = gate.nonce(ALICE, 0.0)
    assert check(nonce) == 200
    assert check(nonce, now=NONCE_S + 1.0) == 438
    assert check(nonce, client=PEER) == 438
    assert check(b"ffffffff" + nonce[8:]) == 438
    assert check(b"junk") == 438


def test_an_old_client_speaks_to_nobody():
    relay = Relay()
    old = encode(Message(Method.ALLOCATE, Class.REQUEST, bytes(range(16))))
    assert relay.server.from_client(Client("udp", ALICE, HERE), old, 0.0) == []


def test_binding_is_answered_without_credentials():
    relay = Relay()
    asked = encode(request(Method.BINDING))
    ((_, data),) = relay.server.from_client(Client("udp", ALICE, HERE), asked, 0.0)
    assert parse(data).endpoint("XOR-MAPPED-ADDRESS") == ALICE


def test_an_answer_that_is_not_signed_is_not_believed():
    relay = Relay()
    client = relay.client()
    client.allocate(0.0)
    client.tick(0.0)
    (first,) = client.take()
    who = Client("udp", ALICE, HERE)
    relay.do(relay.server.from_client(who, first.payload, 0.0))
    client.tick(0.0)
    (second,) = client.take()
    asked = parse(second.payload)
    evil = {"XOR-RELAYED-ADDRESS": STRANGER, "LIFETIME": 600}
    forged = encode(Message(Method.ALLOCATE, Class.RESPONSE, asked.transaction, evil))
    assert client.receive(forged, HERE, 0.0) == ""
    assert client.relayed is None


METHODS = st.sampled_from([1, 3, 4, 6, 7, 8, 9, 0x7FF])
VALUES = {
    "XOR-PEER-ADDRESS": st.tuples(st.ip_addresses().map(str), st.integers(0, 65535)),
    "DATA": st.binary(max_size=20),
    "LIFETIME": st.integers(0, 2**32 - 1),
    "CHANNEL-NUMBER": st.integers(0, 65535),
    "REQUESTED-TRANSPORT": st.integers(0, 2**32 - 1),
    "REQUESTED-ADDRESS-FAMILY": st.integers(0, 255),
    "EVEN-PORT": st.integers(0, 1),
    "USERNAME": st.text(max_size=5),
    "NONCE": st.binary(max_size=50),
}


@given(
    METHODS,
    st.sampled_from([Class.REQUEST, Class.INDICATION, Class.RESPONSE]),
    st.fixed_dictionaries({}, optional=VALUES),
    st.booleans(),
)
def test_no_message_harms_the_server(method, kind, attributes, signed):
    relay = Relay()
    relay.allocated()
    who = Client("udp", ALICE, HERE)
    key = b""
    if signed:
        nonce = relay.server._gate.nonce(ALICE, 0.0)
        attributes = {**attributes, "USERNAME": "user", "REALM": "realm", "NONCE": nonce}
        key = long_term_key("user", "realm", "password")
    data = encode(Message(method, kind, new_transaction(), attributes), key=key)
    relay.do(relay.server.from_client(who, data, 0.0))


@given(st.binary(max_size=100), st.booleans())
def test_no_bytes_harm_server_or_client(data, channel):
    if channel:
        data = struct.pack("!H", 0x4000) + data
    relay = Relay()
    client = relay.allocated()
    relay.server.from_client(Client("udp", ALICE, HERE), data, 0.0)
    client.receive(data, HERE, 0.0)
