"""What attempts of one run share, and that what is shared never outlives the truth."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest

from lab.peer.driver import open_udp
from lab.peer.endpoint import Endpoint
from lab.peer.portmap import natpmp
from lab.peer.record import Tally
from lab.peer.settings import Settings
from lab.peer.stun.responder import Site
from lab.peer.stun.service import StunService
from lab.peer.traversal.learn import ONCE, learn
from lab.peer.traversal.run import MAX_RUNS, Run, Runs
from lab.peer.traversal.silence import FRESH_S, ROUTER_FRESH_S, Silences, Watch, fresh
from tests.unit.peer.support import Program, network

PATIENCE_S = 30.0


def settings(stun=(), relays=(), addresses=("127.0.0.1",)):
    return Settings(
        lab="t",
        node="alice",
        seed=1,
        roles=("peer",),
        folder=Path("/nowhere"),
        addresses=addresses,
        stun=stun,
        relays=relays,
    )


@contextlib.contextmanager
def silent_udp(address="127.0.0.1"):
    """A port that takes packets and says nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((address, 0))
        yield Endpoint(*sock.getsockname())


@contextlib.contextmanager
def silent_tcp():
    """A listener whose queue is full: SYNs are lost there."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(listener.getsockname())
        yield Endpoint(*listener.getsockname())


async def holds(condition):
    """Wait until `condition` does; the test fails if it never does."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.02)


async def ask(server, silences):
    tally = Tally()
    driver = await open_udp("127.0.0.1", tally)
    driver.silent = silences.udp
    try:
        learned = await learn(driver, server, driver.now + PATIENCE_S, schedule=ONCE)
    finally:
        driver.close()
    return learned, tally.packets["stun"]


def test_who_has_just_been_silent_is_not_asked():
    async def scenario():
        silences, now = Silences(), asyncio.get_running_loop().time()
        with silent_udp() as server:
            silences.udp[server] = now
            learned, packets = await ask(server, silences)
            assert (learned.mapped, packets) == (None, 0)
            assert f"no answer from STUN server {server} so far" in learned.trouble
            # What was so a while ago may be otherwise now.
            silences.age()
            _, packets = await ask(server, silences)
            assert packets == 1
            assert fresh(silences.udp, server, asyncio.get_running_loop().time())

    asyncio.run(scenario())


def test_who_is_silent_is_believed_until_it_answers():
    async def scenario():
        loop, silences = asyncio.get_running_loop(), Silences()
        net = network()
        server = Endpoint(f"{net}.1", 3478)
        watch = Watch(settings(), silences)
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind(server)
                watch.survey((server,), ())
                await holds(lambda: server in silences.udp)
                # It is asked again and again, so what is known of it stays fresh.
                at = silences.udp[server]
                await holds(lambda: silences.udp[server] - at > FRESH_S)
                assert fresh(silences.udp, server, loop.time())
                assert watch.watched == (("udp", server),)
            service = StunService(Site(server.address, "", server.port, server.port + 1))
            await service.start()
            await holds(lambda: not silences.udp)
            await holds(lambda: not watch.watched)
            learned, _ = await ask(server, silences)
            assert learned.mapped
            service.close()
        finally:
            watch.close()

    asyncio.run(scenario())


def test_connections_that_get_no_answer_are_told_from_refused_ones():
    async def scenario():
        silences = Silences()
        watch = Watch(settings(), silences)
        with silent_tcp() as silent, socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))  # and does not listen
            refusing = Endpoint(*bound.getsockname())
            watch.survey((), (silent, refusing))
            await holds(lambda: silent in silences.tcp)
            await holds(lambda: watch.watched == (("tcp", silent),))
            assert refusing not in silences.tcp
            now = asyncio.get_running_loop().time()
            assert all(silences.no_tcp(server, now) for server in (silent, refusing))
        # Now that nobody is there, it is refused, too.
        await holds(lambda: not silences.tcp)
        watch.close()

    asyncio.run(scenario())


def test_a_silent_router_is_asked_in_all_protocols_at_one_time():
    async def scenario():
        loop, silences = asyncio.get_running_loop(), Silences()
        router = f"{network()}.1"
        both = {("nat-pmp", router), ("pcp", router)}
        watch = Watch(settings(), silences)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((router, natpmp.PORT))
            sock.setblocking(False)
            watch.survey_router(router, but="upnp")
            await holds(lambda: set(silences.router) == both)
            assert all(fresh(silences.router, who, loop.time(), ROUTER_FRESH_S) for who in both)
            # It comes to life in one of the two.
            while silences.router.keys() == both:
                data, source = await loop.sock_recvfrom(sock, 2048)
                if data == natpmp.address_request():
                    answer = b"\x00\x80" + bytes(10)
                    await loop.sock_sendto(sock, answer, source)
            assert set(silences.router) == {("pcp", router)}
        # The port is closed now, and says so to who asks.
        await holds(lambda: not silences.router)
        await holds(lambda: not watch.watched)
        watch.close()

    asyncio.run(scenario())


def test_one_technique_alone_learns_by_itself():
    async def scenario():
        with silent_udp() as server:
            run = Run()
            run.begin("direct", settings((server,)))
            assert run.said == {}
            run.silences.udp[server] = asyncio.get_running_loop().time()
            # Nobody asked since, so the next one does.
            run.begin("udp-punch", settings((server,)))
            assert not fresh(run.silences.udp, server, asyncio.get_running_loop().time())
            run.close()

    asyncio.run(scenario())


def test_another_address_is_another_network():
    async def scenario():
        with silent_udp() as server:
            run = Run.of_many()
            run.begin("udp-punch", settings((server,)))
            run.silences.udp[server], run.rtt = asyncio.get_running_loop().time(), 0.1
            run.begin("tcp-punch", settings((server,)))
            before = run.silences.udp
            assert server in before
            run.begin("relay", settings((server,), addresses=("127.0.0.2",)))
            assert not run.silences.udp
            assert run.rtt is None
            # What began in the old network and ends now says nothing of the new one.
            before[server] = asyncio.get_running_loop().time()
            assert not run.silences.udp
            run.close()

    asyncio.run(scenario())


def test_a_callee_shares_among_the_attempts_of_one_run_of_one_peer():
    run, runs = Run.of_many(), Runs()
    first = runs.of(b"alice", run.said)
    assert first.token == run.token
    assert runs.of(b"alice", run.said) is first
    assert runs.of(b"mallory", run.said) is not first
    assert runs.of(b"alice", run.said) is first
    again = runs.of(b"alice", Run.of_many().said)
    assert again is not first
    assert runs.of(b"alice", {}) is not again
    runs.close()


def test_who_is_announced_finds_the_silent_before_it_calls():
    async def scenario():
        runs, run = Runs(), Run.of_many()
        with silent_udp() as server:
            runs.announced(b"alice", run.token, settings((server,)), 0.0)
            silences = runs.of(b"alice", run.said).silences
            await holds(lambda: server in silences.udp)
            # More announcements than anybody needs begin nothing.
            for _ in range(10):
                runs.announced(b"alice", Run.of_many().token, settings((server,)), 0.0)
            last = Run.of_many()
            runs.announced(b"alice", last.token, settings((server,)), 0.0)
            assert not runs.of(b"alice", last.said).silences.udp
        runs.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("token", [None, "", 7, "x" * 17, ["x"]])
def test_nonsense_names_no_run(token):
    runs = Runs()
    assert runs.of(b"alice", {"run": token}).token == ""


def test_no_number_of_peers_makes_it_remember_more():
    runs, told = Runs(), Run.of_many().said
    first = runs.of(b"first", told)
    for number in range(MAX_RUNS):
        runs.of(str(number).encode(), told)
    assert runs.of(b"first", told) is not first


def test_attempts_of_one_order_ask_a_silent_server_no_more(tmp_path):
    """Two programs: what is found silent first costs the later techniques no packet."""
    net = network()
    with contextlib.ExitStack() as stack:
        # The server's port is taken by nobody who answers.
        for host in (2, 3):
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sock.bind((f"{net}.{host}", 3478))
        services = {
            "LAB_STUN": f"{net}.2:3478,{net}.3:3478",
            "LAB_RENDEZVOUS": f"{net}.4:4000",
        }
        programs = []

        def start(name, role, host):
            programs.append(Program(tmp_path, name, role, f"{net}.{host}", **services))
            stack.callback(programs[-1].stop)
            return programs[-1]

        start("meet", "rendezvous", 4)
        alice, _ = start("alice", "peer", 10), start("bob", "peer", 11)
        records = alice.connect("bob", "udp-punch", "udp-predict", "udp-punch")
        asked = [record["packets"].get("stun", 0) for record in records]
        # Two of the three tries are one for who gets to it late.
        assert asked in ([3, 0, 0], [2, 0, 0])
        # They are on one network all the same, and find so without a server.
        assert {record["outcome"] for record in records} == {"success"}
        (record,) = alice.connect("bob", "udp-punch")
        assert record["packets"]["stun"] in {2, 3}
