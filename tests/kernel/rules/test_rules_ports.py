"""What a port policy may ask besides: parity, overloading, pools of addresses, limits."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import msgspec
import pytest
from rules_bench import (
    DEADLINE_S,
    EXTERNAL,
    HOSTS,
    Bench,
    fresh_port,
    heard_before,
    receive,
    router_node,
)
from rules_probes import DESTINATIONS, Services

from lab.fabric import rules
from lab.plan.model import Interface
from lab.topology.behaviour import Dependence, Hairpin, Nat, Pooling, PortPolicy, Ports

pytestmark = pytest.mark.kernel

FIRST, SECOND, STRANGER = DESTINATIONS[0], DESTINATIONS[2], DESTINATIONS[-1]
EIF = Dependence.ENDPOINT_INDEPENDENT
POOL = (EXTERNAL, "45.0.0.3", "45.0.0.4", "45.0.0.5")


# --- parity ---------------------------------------------------------------


@pytest.mark.parametrize(
    "ports",
    [
        Ports(policy=PortPolicy.RANDOM, parity=True),
        Ports(policy=PortPolicy.RANDOM, parity=True, first=35001, last=35032),
        Ports(policy=PortPolicy.BLOCK, block=32, first=36001, last=36100, parity=True),
        Ports(parity=True, first=37000, last=37063),
    ],
    ids=["random", "small range", "block", "preserve in a range"],
)
def test_parity_is_kept(services: Services, ports: Ports) -> None:
    """RFC 4787, section 4.2.2: for RTP and RTCP on neighbouring ports."""
    services.bench.use(Nat(ports=ports))
    with contextlib.ExitStack() as stack:
        for _ in range(12):
            port = fresh_port()
            sock = stack.enter_context(services.bench.udp("h0", HOSTS[0], port))
            seen = services._udp_seen(sock, FIRST)
            assert seen % 2 == port % 2
            assert ports.first <= seen <= ports.last


# --- overloading ----------------------------------------------------------


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_hosts_share_a_port_towards_different_destinations(services, protocol):
    """Against RFC 4787 REQ-3, and what a Linux router does."""
    services.bench.use(Nat(ports=Ports(overload=True)))
    port = fresh_port()
    with contextlib.ExitStack() as stack:
        if protocol == "tcp":
            socks = []
            for host, at in ((0, FIRST), (1, SECOND)):
                sock = stack.enter_context(services.bench.tcp(f"h{host}", HOSTS[host], port))
                sock.connect(at)
                accepted, (_, seen) = services.tcp[at].accept()
                socks.append(stack.enter_context(accepted))
                assert seen == port
            return
        zero, one = (
            stack.enter_context(services.bench.udp(f"h{host}", HOSTS[host], port))
            for host in (0, 1)
        )
        assert services._udp_seen(zero, FIRST) == port
        assert services._udp_seen(one, SECOND) == port
        # Towards one destination it can't be shared.
        assert services._udp_seen(one, FIRST) != port
        assert services._udp_seen(zero, FIRST) == port


def test_an_overloading_nat_is_iptables_alone_and_can_be_changed(services):
    services.bench.use(Nat(filtering=EIF))
    services.bench.use(Nat(ports=Ports(overload=True)))
    assert "table ip lab" not in services.bench.shell("router", "nft", "list", "tables")
    assert services.udp_filtering(0) == set()
    services.bench.use(Nat(filtering=EIF))
    assert services.udp_filtering(0) == {"address", "anyone"}


# --- limits ---------------------------------------------------------------


def test_a_host_has_so_many_flows_and_the_others_theirs(services):
    services.bench.use(Nat(sessions=3))
    services.bench.reset(Nat(sessions=3))
    with contextlib.ExitStack() as stack:
        for host in (0, 1):
            socks = [
                stack.enter_context(services.bench.udp(f"h{host}", HOSTS[host], fresh_port()))
                for _ in range(4)
            ]
            for sock in socks[:3]:
                services._udp_seen(sock, FIRST)
            socks[3].sendto(b"too many", FIRST)
            socks[0].sendto(b"barrier", FIRST)
            assert heard_before(services.udp[FIRST], b"barrier") == []


# --- pools ----------------------------------------------------------------


@pytest.fixture(scope="module")
def pooled(services: Services) -> Iterator[Services]:
    """The router has four addresses."""
    for address in POOL[1:]:
        services.bench.shell("router", "ip", "addr", "add", f"{address}/24", "dev", "wan")
    yield services
    for address in POOL[1:]:
        services.bench.shell("router", "ip", "addr", "del", f"{address}/24", "dev", "wan")


def use(bench: Bench, nat: Nat) -> None:
    """Load the rules of a router with as many addresses as the pool of `nat`."""
    node = router_node(nat)
    wan = Interface(name="wan", addresses=tuple(f"{one}/24" for one in POOL[: nat.pool]))
    node = msgspec.structs.replace(node, interfaces=(wan, node.interfaces[1]))
    with bench.net.inside("router"):
        rules.load(rules.render(node))


def seen(services: Services, sock: socket.socket, at=FIRST) -> tuple[str, int]:
    """The external endpoint of an exchange with `at`."""
    sock.sendto(b"hello", at)
    _, external = receive(services.udp[at])
    services.udp[at].sendto(b"welcome", external)
    assert receive(sock) == (b"welcome", at)
    return external


@pytest.mark.parametrize("mapping", list(Dependence))
def test_paired_pooling_gives_a_host_one_address(pooled, mapping):
    use(pooled.bench, Nat(mapping=mapping, filtering=EIF, pool=2))
    for host in (0, 1):
        with contextlib.ExitStack() as stack:
            for _ in range(6):
                sock = stack.enter_context(pooled.bench.udp(f"h{host}", HOSTS[host], fresh_port()))
                externals = {seen(pooled, sock, at) for at in DESTINATIONS}
                assert {address for address, _ in externals} == {POOL[host]}
                expected = {EIF: 1, Dependence.ADDRESS_DEPENDENT: 3}.get(mapping, 6)
                assert len(externals) == expected


def test_arbitrary_pooling_gives_a_mapping_any_address_and_keeps_it(pooled):
    ports = Ports(policy=PortPolicy.RANDOM)
    use(pooled.bench, Nat(filtering=EIF, pool=4, pooling=Pooling.ARBITRARY, ports=ports))
    used = set()
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            sock = stack.enter_context(pooled.bench.udp("h0", HOSTS[0], fresh_port()))
            external = seen(pooled, sock)
            assert seen(pooled, sock, SECOND) == external
            used.add(external[0])
    assert used == set(POOL)


@pytest.mark.parametrize("pooling", list(Pooling))
def test_only_the_mapping_s_own_address_leads_in(pooled, pooling):
    use(pooled.bench, Nat(filtering=EIF, pool=4, pooling=pooling))
    with pooled.bench.udp("h0", HOSTS[0], fresh_port()) as sock:
        address, port = seen(pooled, sock)
        for other in POOL:
            if other != address:
                pooled.udp[STRANGER].sendto(b"astray", (other, port))
        pooled.udp[STRANGER].sendto(b"barrier", (address, port))
        assert heard_before(sock, b"barrier") == []


@pytest.mark.parametrize("pooling", list(Pooling))
def test_hairpinning_through_a_pool(pooled, pooling):
    use(
        pooled.bench,
        Nat(filtering=EIF, pool=2, pooling=pooling, hairpin=Hairpin.EXTERNAL_SOURCE),
    )
    with (
        pooled.bench.udp("h0", HOSTS[0], fresh_port()) as zero,
        pooled.bench.udp("h1", HOSTS[1], fresh_port()) as one,
    ):
        at_zero, at_one = seen(pooled, zero), seen(pooled, one)
        zero.sendto(b"hello", at_one)
        assert receive(one) == (b"hello", at_zero)
        one.sendto(b"welcome", at_zero)
        assert receive(zero) == (b"welcome", at_one)


def test_paired_pooling_holds_for_tcp_and_ping_too(pooled):
    use(pooled.bench, Nat(pool=2))
    for host in (0, 1):
        with pooled.bench.tcp(f"h{host}", HOSTS[host], fresh_port()) as sock:
            sock.connect(FIRST)
            accepted, (address, _) = pooled.tcp[FIRST].accept()
            accepted.close()
            assert address == POOL[host]
    with (
        pooled.bench.net.inside("outside"),
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as pings,
    ):
        pings.settimeout(DEADLINE_S)
        pooled.bench.shell("h1", "ping", "-c1", "-W20", FIRST[0])
        assert pings.recvfrom(256)[1][0] == POOL[1]
