"""What surrounds mapping and filtering: hairpin, unsolicited packets, firewalls, limits, change."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

import msgspec
import pytest
from rules_bench import (
    DEADLINE_S,
    EXTERNAL,
    HOSTS,
    OUTSIDE,
    connect_later,
    connected,
    fresh_port,
    heard_before,
    ready,
    receive,
    until,
)
from rules_probes import DESTINATIONS, Services, distinct_ports

from lab.topology.behaviour import (
    Dependence,
    Direction,
    Firewall,
    Hairpin,
    Lifetimes,
    Nat,
    PortPolicy,
    Ports,
    Rule,
    Unsolicited,
    Verdict,
)

pytestmark = pytest.mark.kernel

FULL_CONE = Nat(filtering=Dependence.ENDPOINT_INDEPENDENT)
RESTRICTED_CONE = Nat(filtering=Dependence.ADDRESS_DEPENDENT)
HOME = Nat()
SYMMETRIC = Nat(
    mapping=Dependence.ADDRESS_AND_PORT_DEPENDENT, ports=Ports(policy=PortPolicy.RANDOM)
)
FIRST = DESTINATIONS[0]
STRANGER = DESTINATIONS[-1]


@contextlib.contextmanager
def pair(services: Services, port: int):
    """A UDP socket on each host, both with one source port, and their external ports."""
    with (
        services.bench.udp("h0", HOSTS[0], port) as zero,
        services.bench.udp("h1", HOSTS[1], port) as one,
    ):
        yield (
            (zero, services._udp_seen(zero, FIRST)),
            (one, services._udp_seen(one, FIRST)),
        )


# --- hairpin --------------------------------------------------------------


@pytest.mark.parametrize("mapping", [Dependence.ENDPOINT_INDEPENDENT, Dependence.ADDRESS_DEPENDENT])
@pytest.mark.parametrize("filtering", list(Dependence))
def test_hairpin_shows_the_external_source(services, mapping, filtering):
    services.bench.use(Nat(mapping=mapping, filtering=filtering, hairpin=Hairpin.EXTERNAL_SOURCE))
    with pair(services, fresh_port()) as ((zero, at_zero), (one, at_one)):
        # Under address-dependent mapping the external address is a destination of its own.
        eim = mapping is Dependence.ENDPOINT_INDEPENDENT
        zero.sendto(b"from zero", (EXTERNAL, at_one))
        services.udp[FIRST].sendto(b"barrier", (EXTERNAL, at_one))
        heard = heard_before(one, b"barrier")
        if filtering is Dependence.ENDPOINT_INDEPENDENT:
            assert heard == [b"from zero"]
        else:
            # Refused like any stranger, but it opened the way back, if there is one to find.
            assert heard == []
        if not eim:
            return
        one.sendto(b"from one", (EXTERNAL, at_zero))
        assert receive(zero) == (b"from one", (EXTERNAL, at_one))
        zero.sendto(b"answer", (EXTERNAL, at_one))
        assert receive(one) == (b"answer", (EXTERNAL, at_zero))


def test_hairpin_by_tcp(services):
    services.bench.use(
        Nat(filtering=Dependence.ENDPOINT_INDEPENDENT, hairpin=Hairpin.EXTERNAL_SOURCE)
    )
    port = fresh_port()
    with contextlib.ExitStack() as stack:
        made = [
            stack.enter_context(services.bench.tcp(f"h{host}", HOSTS[host], port))
            for host in (0, 1)
        ]
        made[0].connect(FIRST)
        accepted, external = services.tcp[FIRST].accept()
        stack.enter_context(accepted)
        listener = stack.enter_context(services.bench.tcp("h0", HOSTS[0], port, listen=True))
        made[1].connect(external)
        inside, peer = listener.accept()
        stack.enter_context(inside)
        assert peer[0] == EXTERNAL
        inside.sendall(b"hello")
        assert made[1].recv(5) == b"hello"


def test_hairpin_with_the_internal_source(services):
    services.bench.use(
        Nat(filtering=Dependence.ENDPOINT_INDEPENDENT, hairpin=Hairpin.INTERNAL_SOURCE)
    )
    port = fresh_port()
    with pair(services, port) as ((zero, _), (one, at_one)):
        zero.sendto(b"from zero", (EXTERNAL, at_one))
        assert receive(one) == (b"from zero", (HOSTS[0], port))


def test_no_hairpin_unless_asked_for(services):
    services.bench.use(FULL_CONE)
    with pair(services, fresh_port()) as ((zero, _), (one, at_one)):
        zero.sendto(b"from zero", (EXTERNAL, at_one))
        services.udp[STRANGER].sendto(b"barrier", (EXTERNAL, at_one))
        assert heard_before(one, b"barrier") == []


# --- unsolicited ----------------------------------------------------------


@pytest.mark.parametrize(
    ("unsolicited", "udp_error", "tcp_error"),
    [
        (Unsolicited.DROP, None, None),
        # What Linux makes of "administratively prohibited": no route to host.
        (Unsolicited.REJECT, "EHOSTUNREACH", "EHOSTUNREACH"),
        (Unsolicited.RST, None, "ECONNREFUSED"),
        # Nothing listens in the router: port unreachable, and a reset.
        (Unsolicited.ACCEPT, "ECONNREFUSED", "ECONNREFUSED"),
    ],
)
def test_unsolicited(services, unsolicited, udp_error, tcp_error):
    services.bench.use(Nat(unsolicited=unsolicited))
    target = (EXTERNAL, fresh_port())
    with (
        services.bench.udp("outside", OUTSIDE[0], fresh_port()) as udp,
        services.bench.tcp("outside", OUTSIDE[0], fresh_port()) as tcp,
        services.bench.udp("h0", HOSTS[0], fresh_port()) as inside,
    ):
        udp.connect(target)
        udp.send(b"knock")
        connect_later(tcp, target)
        if tcp_error is not None:
            assert ready(tcp, write=True)
        # An exchange on the same path: by its end, an answer would be here.
        services._udp_seen(inside, FIRST)
        services._udp_seen(inside, FIRST)
        for sock, expected in ((udp, udp_error), (tcp, tcp_error)):
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            name = {113: "EHOSTUNREACH", 111: "ECONNREFUSED", 0: None}[code]
            assert name == expected


@pytest.mark.parametrize(
    "nat", [FULL_CONE, RESTRICTED_CONE, HOME], ids=["full", "restricted", "home"]
)
def test_knocking_first_does_not_spoil_a_port(services, nat):
    """The first rule: a peer's early packet must not cost the port that STUN told."""
    services.bench.use(nat)
    with services.bench.udp("h0", HOSTS[0], fresh_port()) as sock:
        external = (EXTERNAL, services._udp_seen(sock, FIRST))
        for _ in range(3):
            services.udp[STRANGER].sendto(b"knock", external)
        services.udp[FIRST].sendto(b"barrier", external)
        heard_before(sock, b"barrier")
        assert services._udp_seen(sock, STRANGER) == external[1]


@pytest.mark.parametrize("nat", [FULL_CONE, HOME], ids=["full", "home"])
def test_accepting_a_knock_costs_the_port_towards_that_peer(services, nat):
    """What a Linux router without the first rule does to a hole punch."""
    services.bench.use(msgspec.structs.replace(nat, unsolicited=Unsolicited.ACCEPT))
    port = fresh_port()
    services.udp[STRANGER].sendto(b"knock", (EXTERNAL, port))
    with services.bench.udp("h0", HOSTS[0], port) as sock:
        assert services._udp_seen(sock, FIRST) == port
        assert services._udp_seen(sock, STRANGER) != port
        assert services._udp_seen(sock, FIRST) == port


# --- errors (RFC 5508) ----------------------------------------------------


def test_port_unreachable_from_outside_comes_to_the_socket(services):
    services.bench.use(SYMMETRIC)
    with services.bench.udp("h0", HOSTS[0], fresh_port()) as sock:
        sock.connect((OUTSIDE[0], 9))
        sock.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            sock.recv(1)


def test_port_unreachable_from_inside_comes_from_the_external_endpoint(services):
    services.bench.use(FULL_CONE)
    with services.bench.udp("h0", HOSTS[0], fresh_port()) as sock:
        external = (EXTERNAL, services._udp_seen(sock, FIRST))
    with services.bench.udp("outside", OUTSIDE[2], fresh_port()) as caller:
        caller.connect(external)
        caller.send(b"anybody?")
        # Only an error about this very endpoint reaches a connected socket.
        with pytest.raises(ConnectionRefusedError):
            caller.recv(1)


def test_fragmentation_needed_from_outside_lowers_the_path_mtu(services):
    services.bench.use(SYMMETRIC)
    ip_mtu_discover, ip_pmtudisc_do, ip_mtu = 10, 2, 14
    with (
        services.bench.net.inside("outside"),
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as sniffer,
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as icmp,
        services.bench.udp("h0", HOSTS[0], fresh_port()) as sock,
    ):
        sniffer.bind((FIRST[0], 0))
        sniffer.settimeout(DEADLINE_S)
        sock.setsockopt(socket.IPPROTO_IP, ip_mtu_discover, ip_pmtudisc_do)
        sock.connect(FIRST)
        sock.send(b"x" * 1400)
        data = b""
        while len(data) != 1428:
            data = sniffer.recv(2048)
        assert receive(services.udp[FIRST])[0] == data[28:]
        body = struct.pack("!HH", 0, 1300) + data[:28]
        body = struct.pack("!BBH", 3, 4, internet_checksum(b"\3\4\0\0" + body)) + body
        icmp.sendto(body, (EXTERNAL, 0))
        assert until(lambda: sock.getsockopt(socket.IPPROTO_IP, ip_mtu) == 1300)


def internet_checksum(data: bytes) -> int:
    """RFC 1071."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def test_the_router_itself_says_what_does_not_fit(services):
    services.bench.use(HOME)
    services.bench.shell("router", "ip", "link", "set", "wan", "mtu", "1280")
    try:
        with services.bench.udp("h0", HOSTS[0], fresh_port()) as sock:
            sock.setsockopt(socket.IPPROTO_IP, 10, 2)
            sock.connect((OUTSIDE[1], 9))
            sock.send(b"x" * 1400)
            assert until(lambda: sock.getsockopt(socket.IPPROTO_IP, 14) == 1280)
    finally:
        services.bench.shell("router", "ip", "link", "set", "wan", "mtu", "1500")


@pytest.mark.parametrize("hairpin", [Hairpin.OFF, Hairpin.EXTERNAL_SOURCE])
def test_a_ping_of_the_external_address_from_inside_is_answered(services, hairpin):
    """Echo has no port that would tell whose it is: the router answers, as RFC 5508 lets it."""
    services.bench.use(Nat(hairpin=hairpin))
    services.bench.shell("h0", "ping", "-c1", "-W20", EXTERNAL)


# --- ports ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "count"),
    [(PortPolicy.RANDOM, 16), (PortPolicy.SEQUENTIAL, 16), (PortPolicy.PRESERVE, 16)],
)
def test_every_port_of_a_small_range_is_used_once_and_then_none(services, policy, count):
    first = {PortPolicy.RANDOM: 33000, PortPolicy.SEQUENTIAL: 33100, PortPolicy.PRESERVE: 33200}
    ports = Ports(policy=policy, first=first[policy], last=first[policy] + count - 1)
    services.bench.use(Nat(ports=ports))
    with contextlib.ExitStack() as stack:
        socks = [
            stack.enter_context(services.bench.udp("h0", HOSTS[0], fresh_port()))
            for _ in range(count + 1)
        ]
        found = {services._udp_seen(sock, FIRST) for sock in socks[:count]}
        assert found == set(range(ports.first, ports.last + 1))
        # None is left: the packet ends in the router, and disturbs nobody.
        socks[-1].sendto(b"too many", FIRST)
        socks[0].sendto(b"barrier", FIRST)
        assert heard_before(services.udp[FIRST], b"barrier") == []


def test_blocks_belong_to_subscribers_and_end(services):
    ports = Ports(policy=PortPolicy.BLOCK, first=34000, last=34100, block=8)
    services.bench.use(Nat(ports=ports))
    with contextlib.ExitStack() as stack:
        for host in (0, 1):
            socks = [
                stack.enter_context(services.bench.udp(f"h{host}", HOSTS[host], fresh_port()))
                for _ in range(9)
            ]
            low = 34000 + 8 * host
            assert {services._udp_seen(s, FIRST) for s in socks[:8]} == set(range(low, low + 8))
            socks[8].sendto(b"too many", FIRST)
            socks[0].sendto(b"barrier", FIRST)
            assert heard_before(services.udp[FIRST], b"barrier") == []


def test_parallel_first_packets_keep_one_mapping_each(services):
    """Many flows begin at once on all processors: exact all the same."""
    services.bench.use(FULL_CONE)
    ports = [fresh_port() for _ in range(24)]
    start = threading.Barrier(2)
    with contextlib.ExitStack() as stack:
        socks = {
            (host, port): stack.enter_context(services.bench.udp(f"h{host}", HOSTS[host], port))
            for host in (0, 1)
            for port in ports
        }

        def burst(host: int) -> None:
            start.wait()
            for port in ports:
                for at in DESTINATIONS:
                    socks[host, port].sendto(f"{host} {port}".encode(), at)

        threads = [threading.Thread(target=burst, args=(host,)) for host in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seen: dict[bytes, set[int]] = {}
        for at in DESTINATIONS:
            for _ in socks:
                data, (_, external) = receive(services.udp[at])
                seen.setdefault(data, set()).add(external)
    assert all(len(external) == 1 for external in seen.values())
    assert len(set.union(*seen.values())) == len(socks)


@pytest.mark.parametrize("policy", [PortPolicy.PRESERVE, PortPolicy.RANDOM])
def test_datagrams_without_checksum_pass(services, policy):
    services.bench.use(Nat(ports=Ports(policy=policy)))
    so_no_check = 11
    with services.bench.udp("h0", HOSTS[0], fresh_port()) as sock:
        sock.setsockopt(socket.SOL_SOCKET, so_no_check, 1)
        services._udp_seen(sock, FIRST)


# --- lifetimes ------------------------------------------------------------


def test_lifetimes_are_conntrack_s_and_the_maps(services):
    services.bench.use(
        Nat(lifetimes=Lifetimes(udp_s=31, tcp_established_s=301, tcp_transitory_s=61))
    )
    with services.bench.udp("h0", HOSTS[0], fresh_port()) as sock:
        external = services._udp_seen(sock, FIRST)
        table = services.bench.shell("router", "nft", "list", "map", "ip", "lab", "udp_inside")
        assert f"{external} timeout 31s" in table
    read = ("cat", "/proc/sys/net/netfilter/nf_conntrack_udp_timeout_stream")
    assert services.bench.shell("router", *read).strip() == "31"
    port = fresh_port()
    with services.bench.tcp("h0", HOSTS[0], port) as sock:
        sock.connect(FIRST)
        accepted, (_, external) = services.tcp[FIRST].accept()
        with accepted:
            # What a map says of an element: the timeout that its last packet granted.
            sock.sendall(b"!")
            assert accepted.recv(1) == b"!"
            listed = services.bench.shell("router", "nft", "list", "map", "ip", "lab", "tcp_inside")
            assert f"{external} timeout" in listed


def test_a_mapping_ends(services):
    services.bench.use(Nat(ports=Ports(policy=PortPolicy.RANDOM), lifetimes=Lifetimes(udp_s=1)))
    with services.bench.udp("h0", HOSTS[0], fresh_port()) as sock:

        def held(external: int) -> bool:
            listed = services.bench.shell("router", "nft", "list", "map", "ip", "lab", "udp_inside")
            return f"{external} timeout" in listed

        # It may end before somebody gets to look.
        assert until(lambda: held(services._udp_seen(sock, FIRST)))
        external = services._udp_seen(sock, FIRST)
        assert until(lambda: not held(external))


# --- firewalls ------------------------------------------------------------


def test_firewall_of_a_router(services):
    firewall = Firewall(
        outbound=Direction(
            default=Verdict.REJECT,
            rules=(
                Rule(verdict=Verdict.ACCEPT, protocol="tcp", ports=((3478, 3478),)),
                Rule(
                    verdict=Verdict.ACCEPT, protocol="udp", ports=((3479, 3479),), remote=OUTSIDE[1]
                ),
            ),
        ),
    )
    services.bench.use(HOME, firewall)
    assert services.tcp_mappings(0, fresh_port(), DESTINATIONS[:1])
    assert services.udp_mappings(0, fresh_port(), [(OUTSIDE[1], 3479)])
    with (
        services.bench.tcp("h0", HOSTS[0], fresh_port()) as sock,
        pytest.raises(ConnectionRefusedError),
    ):
        sock.connect((OUTSIDE[0], 3479))
    with services.bench.udp("h0", HOSTS[0], fresh_port()) as sock:
        sock.connect(FIRST)
        sock.send(b"not allowed")
        with pytest.raises(OSError, match="No route to host"):
            sock.recv(1)


def test_stateful_firewall_closes_a_full_cone(services):
    shut = Firewall(inbound=Direction(default=Verdict.DROP))
    services.bench.use(FULL_CONE, shut)
    assert services.udp_filtering(0) == set()
    services.bench.use(FULL_CONE)
    assert services.udp_filtering(0) == {"address", "anyone"}


# --- change ---------------------------------------------------------------


def test_flows_and_ports_outlast_a_change_of_rules(services):
    services.bench.use(SYMMETRIC)
    port = fresh_port()
    with (
        services.bench.udp("h0", HOSTS[0], port) as sock,
        services.bench.tcp("h1", HOSTS[1], port) as stream,
    ):
        external = services._udp_seen(sock, FIRST)
        stream.connect(FIRST)
        accepted, _ = services.tcp[FIRST].accept()
        stop = threading.Event()
        errors: list[BaseException] = []

        def talk() -> None:
            try:
                while not stop.is_set():
                    assert services._udp_seen(sock, FIRST) == external
                    stream.sendall(b"x")
                    assert accepted.recv(1) == b"x"
            except BaseException as error:
                errors.append(error)

        talking = threading.Thread(target=talk)
        talking.start()
        try:
            for nat in (FULL_CONE, RESTRICTED_CONE, HOME, SYMMETRIC) * 2:
                services.bench.use(nat)
        finally:
            stop.set()
            talking.join()
            accepted.close()
        assert errors == []


def test_a_mapping_is_remembered_across_a_change_of_filtering(services):
    services.bench.use(HOME)
    with services.bench.udp("h0", HOSTS[0], fresh_port()) as sock:
        external = (EXTERNAL, services._udp_seen(sock, FIRST))
        services.bench.use(FULL_CONE)
        services.udp[STRANGER].sendto(b"hello", external)
        assert receive(sock) == (b"hello", STRANGER)


def test_a_reset_forgets_mappings_and_flows(services):
    random = msgspec.structs.replace(FULL_CONE, ports=Ports(policy=PortPolicy.RANDOM))
    services.bench.use(random)
    with services.bench.udp("h0", HOSTS[0], fresh_port()) as sock:
        former = services._udp_seen(sock, FIRST)
        services.bench.reset(random)
        count = services.bench.shell("router", "sysctl", "-n", "net.netfilter.nf_conntrack_count")
        assert int(count) == 0
        services.udp[FIRST].sendto(b"too late", (EXTERNAL, former))
        fresh = services._udp_seen(sock, FIRST)
        assert fresh != former
        services.udp[STRANGER].sendto(b"barrier", (EXTERNAL, fresh))
        assert heard_before(sock, b"barrier") == []


def test_a_reset_of_what_translates_nothing(services):
    services.bench.use(None)
    services.bench.shell("outside", "ping", "-c1", "-W20", EXTERNAL)
    services.bench.reset(None)


def test_without_nat_nothing_is_left(services):
    services.bench.use(FULL_CONE, Firewall())
    services.bench.use(None)
    assert services.bench.shell("router", "nft", "list", "tables") == ""


def test_ping_goes_through(services):
    services.bench.use(HOME)
    for host in (0, 1):
        services.bench.shell(f"h{host}", "ping", "-c1", "-W20", OUTSIDE[2])
    services.bench.shell("outside", "ping", "-c1", "-W20", EXTERNAL)


def test_distinct_mappings_with_one_source_port_are_found_by_everybody(services):
    """Both hosts hold a full cone's mapping: each is reached by its own port."""
    services.bench.use(FULL_CONE)
    with pair(services, fresh_port()) as hosts:
        for sock, external in hosts:
            services.udp[STRANGER].sendto(b"hello", (EXTERNAL, external))
            assert receive(sock) == (b"hello", STRANGER)


@pytest.mark.parametrize("nat", [FULL_CONE, HOME], ids=["full", "home"])
def test_closed_connections_give_way_to_new_ones(services, nat):
    services.bench.use(nat)
    port = fresh_port()
    for _ in range(3):
        held = services.tcp_mappings(0, port)
        assert set(distinct_ports(nat.mapping, held).values()) == {port}


def test_connected_helper_sees_a_refusal(services):
    with services.bench.tcp("outside", OUTSIDE[0], fresh_port()) as sock:
        connect_later(sock, (OUTSIDE[1], 9))
        assert not connected(sock)
