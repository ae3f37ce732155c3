"""Others' programs against ours: coturn's clients and server, aioice's TURN client."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time

import aioice.turn
import pytest

from lab.peer.driver import open_tcp, open_udp
from lab.peer.endpoint import Endpoint
from lab.peer.record import Tally
from lab.peer.relay.client import TurnClient
from lab.peer.relay.tunnel import Tunnel
from lab.peer.stun.transaction import QUICK, tcp_schedule
from tests.unit.peer.support import WAIT_S, Program, network


def tool(name):
    return pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} (coturn) is missing")


@pytest.fixture(scope="module")
def net():
    return network()


@pytest.fixture(scope="module")
def ours(tmp_path_factory, net):
    """Our STUN server at .2 and .3, our relay at .5."""
    folder = tmp_path_factory.mktemp("ours")
    credentials = {"LAB_RELAY_USER": "user", "LAB_RELAY_PASSWORD": "password"}
    programs = [
        Program(folder, "stun", "stun", f"{net}.2,{net}.3"),
        Program(folder, "relay", "relay", f"{net}.5", LAB_RELAY=f"{net}.5:3478", **credentials),
    ]
    yield
    assert [program.stop() for program in programs] == [0, 0]


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@tool("turnutils_stunclient")
def test_a_stun_client_finds_both_addresses(ours, net):
    output = run("turnutils_stunclient", "-f", "-L", f"{net}.9", f"{net}.2")
    assert f"Other addr: : {net}.3:3479" in output
    assert f"Response origin: : {net}.3:3479" in output
    assert f"UDP reflexive addr: {net}.9:" in output
    assert "error" not in output


@tool("turnutils_natdiscovery")
def test_a_nat_is_classified_with_our_server(ours, net):
    output = run("turnutils_natdiscovery", "-m", "-f", "-L", f"{net}.9", f"{net}.2")
    assert "No NAT! (Endpoint Independent Mapping)" in output
    assert "NAT with Endpoint Independent Filtering!" in output


@tool("turnutils_uclient")
@pytest.mark.parametrize("options", [(), ("-t",), ("-s",), ("-t", "-s")])
def test_a_turn_client_uses_our_relay(ours, net, options):
    # -y: client to client; -c: no RTCP; -t: TCP to the relay; -s: Send indications.
    load = ("-n", "5", "-m", "2", "-z", "5")
    who = ("-u", "user", "-w", "password", "-L", f"{net}.9", f"{net}.5")
    output = run("turnutils_uclient", *options, "-y", "-c", *load, *who)
    assert "tot_send_msgs=10, tot_recv_msgs=10" in output
    assert "Total lost packets 0 (0.000000%)" in output


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_aioice_uses_our_relay(ours, net, transport):
    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, data, addr):
            self.transport.sendto(data, addr)

    class Client(asyncio.DatagramProtocol):
        def __init__(self):
            self.heard = asyncio.get_running_loop().create_future()

        def datagram_received(self, data, addr):
            self.heard.set_result((data, addr))

    async def scene():
        loop = asyncio.get_running_loop()
        echo, _ = await loop.create_datagram_endpoint(Echo, local_addr=(f"{net}.8", 0))
        relayed, client = await aioice.turn.create_turn_endpoint(
            Client, (f"{net}.5", 3478), "user", "password", transport=transport
        )
        peer = echo.get_extra_info("sockname")
        relayed.sendto(b"hello", peer)
        async with asyncio.timeout(WAIT_S):
            assert await client.heard == (b"hello", peer)
        await relayed._close()
        echo.close()

    asyncio.run(scene())


@pytest.fixture(scope="module")
def coturn(tmp_path_factory, net):
    """A real coturn at .6."""
    folder = tmp_path_factory.mktemp("coturn")
    command = [
        "turnserver",
        "-n",
        f"--listening-ip={net}.6",
        f"--relay-ip={net}.6",
        "--listening-port=3478",
        "--lt-cred-mech",
        "--realm=lab.example",
        "--user=user:password",
        "--no-tls",
        "--no-dtls",
        "--no-cli",
        "--allow-loopback-peers",
        f"--log-file={folder / 'turn.log'}",
        "--simple-log",
        f"--pidfile={folder / 'turn.pid'}",
        f"--userdb={folder / 'turn.db'}",
    ]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    yield Endpoint(f"{net}.6", 3478)
    process.terminate()
    process.wait(WAIT_S)


async def attached(server, transport, address):
    """A client of ours on coturn, allocated; coturn may only just be starting."""
    deadline = time.monotonic() + WAIT_S
    while True:
        client = TurnClient(server, "user", "password", QUICK)
        try:
            if transport == "udp":
                driver = await open_udp(address, Tally())
            else:
                driver = await open_tcp(address, server, Tally(), 5.0)
                client.schedule = tcp_schedule(5.0)
        except OSError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
            continue
        client.allocate(driver.now)
        tunnel = Tunnel(client)
        driver.add(tunnel)
        if await answered(driver, client):
            return driver, client, tunnel
        driver.close()
        assert time.monotonic() < deadline, client.refusal


async def answered(driver, client):
    await driver.until(lambda: client.relayed or client.refusal, driver.now + WAIT_S)
    return client.relayed


class Listener:
    """A machine that keeps what it hears."""

    def __init__(self):
        self.heard = []

    def receive(self, data, source, now):
        self.heard.append((data, source))
        return "relay"

    def tick(self, now):
        pass

    def deadline(self):
        return None

    def take(self):
        return []


@tool("turnserver")
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_our_client_uses_a_real_coturn(coturn, net, transport):
    async def scene():
        driver, client, tunnel = await attached(coturn, transport, f"{net}.9")
        assert client.mapped.address == f"{net}.9"
        peer, ear = await open_udp(f"{net}.8", Tally()), Listener()
        peer.add(ear)
        ours = tunnel.inner = Listener()
        client.permit(peer.local.address, driver.now)
        driver.step()
        limit = driver.now + WAIT_S
        assert await driver.until(lambda: client.permitted, limit)
        client.send(peer.local, b"by indication")
        driver.step()
        assert await peer.until(lambda: ear.heard, limit)
        assert ear.heard == [(b"by indication", client.relayed)]
        client.bind(peer.local, driver.now)
        driver.step()
        assert await driver.until(lambda: client.channels, limit)
        client.send(peer.local, b"by channel")
        driver.step()
        assert await peer.until(lambda: len(ear.heard) == 2, limit)
        peer._transmit(b"and back", client.relayed)
        assert await driver.until(lambda: ours.heard, limit)
        assert ours.heard == [(b"and back", peer.local)]
        client.release(driver.now)
        driver.step()
        assert await driver.until(lambda: client.released, limit)
        driver.close()
        peer.close()

    asyncio.run(scene())


@tool("turnserver")
def test_two_peers_by_a_real_coturn(coturn, net, tmp_path):
    services = {
        "LAB_RENDEZVOUS": f"{net}.4:4000",
        "LAB_RELAY": str(coturn),
        "LAB_RELAY_USER": "user",
        "LAB_RELAY_PASSWORD": "password",
    }
    programs = [
        Program(tmp_path, "meet", "rendezvous", f"{net}.4", **services),
        Program(tmp_path, "alice", "peer", f"{net}.10", **services),
        Program(tmp_path, "bob", "peer", f"{net}.11", **services),
    ]
    (record,) = programs[1].connect("bob", "relay")
    assert record["outcome"] == "success", record["reason"]
    assert record["local_candidate"]["endpoint"].startswith(f"{net}.6:")
    assert [program.stop() for program in programs] == [0, 0, 0]
