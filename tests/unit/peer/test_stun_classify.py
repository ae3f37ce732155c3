"""The classifiers against simulated NATs and the STUN server of lab."""

from __future__ import annotations

import itertools

import pytest

from lab.peer.endpoint import Endpoint
from lab.peer.machine import Datagram
from lab.peer.stun import classify
from lab.peer.stun.classify import Behaviour, Kind, Pace
from lab.peer.stun.responder import Site, respond
from tests.unit.peer.simulated import Nat, Network

SITE = Site("45.0.0.10", "45.0.0.11", 3478, 3479)
SERVER = Endpoint("45.0.0.10", 3478)
PACE = Pace(interval=0.2, patience=2.0)
DEPENDENCE = (
    Behaviour.ENDPOINT_INDEPENDENT,
    Behaviour.ADDRESS_DEPENDENT,
    Behaviour.ADDRESS_AND_PORT_DEPENDENT,
)
CONES = (Kind.FULL_CONE, Kind.RESTRICTED_CONE, Kind.PORT_RESTRICTED_CONE)


class Server:
    """A STUN server as a machine on one of its endpoints; answers leave where they must."""

    def __init__(self, network: Network, here: Endpoint) -> None:
        self.network = network
        self.here = here

    def receive(self, data: bytes, source: Endpoint, now: float) -> str:
        reply = respond(data, source, self.here, SITE)
        if reply:
            self.network.send(reply.origin, reply.destination, reply.payload)
        return "stun"

    def tick(self, now: float) -> None: ...

    def deadline(self) -> None:
        return None

    def take(self) -> list[Datagram]:
        return []


def measure(make, nat: Nat | None, tap=None):
    network = Network()
    if tap:
        network.tap = tap
    for endpoint in SITE.endpoints:
        network.put(endpoint, Server(network, endpoint))
    local = Endpoint("192.168.1.2" if nat else "45.0.0.99", 40000)
    machine = make(SERVER, local, 0.0, PACE)
    network.put(local, machine, nat=nat)
    network.run(30.0, lambda: machine.done)
    return machine.result, network.now


@pytest.mark.parametrize(("mapping", "filtering"), list(itertools.product(range(3), repeat=2)))
def test_every_kind_is_named(mapping: int, filtering: int) -> None:
    def nat() -> Nat:
        return Nat("45.0.0.2", mapping, filtering)

    assert measure(classify.mapping, nat())[0] is DEPENDENCE[mapping]
    assert measure(classify.filtering, nat())[0] is DEPENDENCE[filtering]
    kind, took = measure(classify.rfc3489, nat())
    # A full cone is found out before its mapping is looked at (RFC 3489, section 10.1).
    cone = mapping == 0 or filtering == 0
    assert kind is (CONES[filtering] if cone else Kind.SYMMETRIC)
    assert took < PACE.patience, "silence is seen by what comes after it, not by waiting"


def test_without_nat() -> None:
    assert measure(classify.rfc3489, None)[0] is Kind.OPEN
    assert measure(classify.mapping, None)[0] is Behaviour.NO_NAT


def test_a_stateful_firewall_without_nat() -> None:
    asked: set[Endpoint] = set()

    def tap(source: Endpoint, to: Endpoint, data: bytes) -> bool:
        if source.address == "45.0.0.99":
            asked.add(to)
            return True
        return source in asked

    assert measure(classify.rfc3489, None, tap)[0] is Kind.FIREWALL


def test_nothing_answers() -> None:
    for make, found in (
        (classify.rfc3489, Kind.BLOCKED),
        (classify.mapping, Behaviour.BLOCKED),
        (classify.filtering, Behaviour.BLOCKED),
    ):
        assert measure(make, None, lambda *_: False)[0] is found


@pytest.mark.parametrize("lost", range(8))
def test_one_lost_packet_changes_nothing(lost: int) -> None:
    counter = itertools.count()
    kind, _ = measure(classify.rfc3489, Nat("45.0.0.2", 0, 1), lambda *_: next(counter) != lost)
    assert kind is Kind.RESTRICTED_CONE
