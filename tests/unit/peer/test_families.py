"""Both address families: IPv4 on IPv6 sockets, who is tried first, what is told of oneself."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.peer.addresses import worth_telling
from lab.peer.endpoint import Endpoint
from lab.peer.eyeballs import first_connected, preferred
from lab.peer.families import Embedding, mapped
from lab.peer.servers import stun_sites
from lab.peer.settings import SettingsError, from_environment
from lab.peer.stun.responder import Site

FOUR, SIX = Endpoint("45.0.0.2", 9000), Endpoint("2a00:1::2", 9000)
DUAL = {
    "LAB_NODE": "alice",
    "LAB_ROLE": "peer,stun",
    "LAB_ADDRESSES": "45.0.0.2,45.0.0.3,2a00:1::2,2a00:1::3",
    "LAB_STUN": "45.0.0.2:3478,45.0.0.3:3479,[2a00:1::2]:3478,[2a00:1::3]:3479",
    "LAB_RENDEZVOUS": "45.0.0.2:9000,[2a00:1::2]:9000",
}


def test_an_address_translated_by_rfc_6052():
    nat64 = Embedding("64:ff9b::/96")
    assert nat64.wrap(Endpoint("192.0.2.33", 5)) == Endpoint("64:ff9b::c000:221", 5)
    assert nat64.wrap(SIX) == SIX
    assert nat64.unwrap(Endpoint("64:ff9b::c000:221", 5)) == Endpoint("192.0.2.33", 5)
    assert nat64.unwrap(SIX) == SIX


@given(st.ip_addresses(v=4).map(str), st.integers(1, 65535))
def test_what_is_wrapped_is_unwrapped(address, port):
    for embedding in (mapped(), Embedding("2a00:1:2:3::/96")):
        endpoint = Endpoint(address, port)
        assert embedding.wrap(endpoint).family == 6
        assert embedding.unwrap(embedding.wrap(endpoint)) == endpoint


@pytest.mark.parametrize("prefix", ["64:ff9b::/64", "45.0.0.0/8", "nonsense"])
def test_what_is_no_prefix_for_ipv4(prefix):
    with pytest.raises(SettingsError, match="LAB_NAT64"):
        from_environment({**DUAL, "LAB_NAT64": prefix})


def test_a_node_with_both_families():
    settings = from_environment(DUAL)
    assert settings.bind == "::"
    assert settings.ipv4 is not None
    assert settings.stun_servers == (Endpoint("45.0.0.2", 3478), Endpoint("2a00:1::2", 3478))
    assert settings.other_stun_servers == (Endpoint("45.0.0.3", 3479), Endpoint("2a00:1::3", 3479))
    assert stun_sites(settings) == (
        Site("45.0.0.2", "45.0.0.3", 3478, 3479),
        Site("2a00:1::2", "2a00:1::3", 3478, 3479),
    )


def test_a_node_without_ipv4():
    settings = from_environment({**DUAL, "LAB_ADDRESSES": "2a00:2::2"})
    assert settings.bind == "2a00:2::2"
    assert settings.ipv4 is None
    assert not settings.reaches(4)
    assert settings.stun_servers == (Endpoint("2a00:1::2", 3478),)
    assert settings.reachable(settings.rendezvous) == (SIX,)


def test_a_node_behind_a_nat64_reaches_ipv4():
    env = {**DUAL, "LAB_ADDRESSES": "2a00:2::2", "LAB_NAT64": "64:ff9b::/96"}
    settings = from_environment(env)
    assert settings.reaches(4)
    assert settings.source(FOUR) == "2a00:2::2"
    assert settings.ipv4 is settings.nat64
    assert len(settings.stun_servers) == 2


def test_connections_leave_from_the_own_address_of_the_family():
    settings = from_environment({**DUAL, "LAB_ADDRESSES": "192.168.1.2,2a00:2::2"})
    assert settings.source(FOUR) == "192.168.1.2"
    assert settings.source(SIX) == "2a00:2::2"


def test_addresses_that_say_nothing_elsewhere_are_not_told():
    assert worth_telling(("192.168.1.2", "fe80::1", "2a00:2::2")) == ("2a00:2::2", "192.168.1.2")
    assert not Endpoint("fe80::1", 5).sendable
    assert Endpoint("2a00:2::2", 5).sendable


# --- happy eyeballs ---


class Connections:
    """Endpoints that answer after a while, refuse, or say nothing."""

    def __init__(self, **_):
        self.tried: list[Endpoint] = []
        self.dropped: list[Endpoint] = []
        self.behaviour: dict[Endpoint, object] = {}

    async def connect(self, endpoint):
        self.tried.append(endpoint)
        behaviour = self.behaviour.get(endpoint)
        if isinstance(behaviour, OSError):
            raise behaviour
        if isinstance(behaviour, asyncio.Event):
            await behaviour.wait()
        return endpoint

    def first(self, *endpoints):
        return first_connected(preferred(endpoints), self.connect, self.dropped.append)


def test_ipv6_is_first_and_enough():
    async def scene():
        world = Connections()
        assert await world.first(FOUR, SIX) == SIX
        assert world.tried == [SIX]

    asyncio.run(scene())


def test_a_family_that_is_refused_costs_nothing():
    async def scene():
        world = Connections()
        world.behaviour[SIX] = OSError("unreachable")
        assert await world.first(FOUR, SIX) == FOUR

    asyncio.run(scene())


def test_a_family_that_says_nothing_is_left():
    async def scene():
        world = Connections()
        world.behaviour[SIX] = asyncio.Event()
        assert await world.first(FOUR, SIX) == FOUR
        assert world.tried == [SIX, FOUR]
        assert world.dropped == []

    asyncio.run(scene())


def test_nothing_to_connect_to():
    async def scene():
        world = Connections()
        world.behaviour = {SIX: OSError("six"), FOUR: OSError("four")}
        with pytest.raises(OSError, match="six"):
            await world.first(FOUR, SIX)

    asyncio.run(scene())
