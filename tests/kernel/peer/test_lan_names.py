"""Names on one network, by real packets: one owner each, also beside avahi, and after a move."""

from __future__ import annotations

import sys

import pytest

from tests.kernel.peer.segment import Segment
from tests.kernel.peer.wild import PATIENT, run

pytestmark = pytest.mark.kernel

HOSTS = ("alice", "bob", "carol", "dave")


@pytest.fixture
def network():
    """Four hosts, 10.0.0.1 to 10.0.0.4."""
    with Segment(*HOSTS) as segment:
        for number, host in enumerate(HOSTS, 1):
            segment.address(host, f"10.0.0.{number}/24")
        yield segment


def at(host):
    return f"10.0.0.{HOSTS.index(host) + 1}"


def name_of(peer):
    return peer.event("named")["name"]


def test_of_three_who_want_one_name_each_gets_one_and_is_found_by_it(network, tmp_path):
    wanted = {"LAN_NAME": "printer", "wait": False}
    peers = {host: network.peer(tmp_path, host, at(host), **wanted) for host in HOSTS[:3]}
    names = {host: name_of(peer) for host, peer in peers.items()}
    assert set(names.values()) == {"printer.local", "printer-2.local", "printer-3.local"}
    # Somebody else's resolver has the same answers, which no other host gives.
    avahi = network.avahi(tmp_path, "dave", "dave")
    avahi.name()
    for host, name in names.items():
        assert avahi.resolve(name) == at(host)
    # As a service, too (RFC 6763).
    services = avahi.browse("_lab._udp")
    assert services.keys() == {name.removesuffix(".local") for name in names.values()}
    for host, name in names.items():
        target, address, port, told = services[name.removesuffix(".local")]
        assert (target, address) == (name, at(host))
        assert f'"at={address}:{port}"' in told
    # And so have they: a search is given up after 0.8 s.
    for caller, peer in peers.items():
        for callee, name in names.items():
            if caller != callee:
                (record,) = peer.connect(name.removesuffix(".local"), "lan", **PATIENT)
                assert record["outcome"] == "success", record
                assert f"at {at(callee)}:" in record["reason"]


def test_a_name_that_avahi_has_is_left_to_it_and_the_other_is_found_by_ipv6(network, tmp_path):
    """Bob has no IPv4: all of it goes by ff02::fb."""
    for number, host in enumerate(("alice", "bob", "carol"), 1):
        network.address(host, f"fd00::{number}/64")
    run(f"ip -n {network.space('bob')} address del {at('bob')}/24 dev eth0")
    avahi = network.avahi(tmp_path, "alice", "bob", six=True)
    assert avahi.name() == "bob.local"
    bob = network.peer(tmp_path, "bob", "fd00::2")
    assert name_of(bob) == "bob-2.local"
    assert avahi.resolve("bob-2.local", 6) == "fd00::2"
    target, address, port, told = avahi.browse("_lab._udp")["bob-2"]
    assert (target, address) == ("bob-2.local", "fd00::2")
    assert f'"at=[fd00::2]:{port}"' in told
    # Who has both families is found by either.
    carol = network.peer(tmp_path, "carol", f"{at('carol')},fd00::3")
    assert name_of(carol) == "carol.local"
    assert avahi.resolve("carol.local") == at("carol")
    assert avahi.resolve("carol.local", 6) == "fd00::3"
    for caller, callee in ((carol, "bob-2"), (bob, "carol")):
        (record,) = caller.connect(callee, "lan", **PATIENT)
        assert record["outcome"] == "success", record
        assert record["remote_candidate"]["endpoint"].startswith("[fd00::"), record


def test_a_name_that_a_peer_has_is_not_taken_by_avahi(network, tmp_path):
    bob = network.peer(tmp_path, "bob", at("bob"))
    assert name_of(bob) == "bob.local"
    avahi = network.avahi(tmp_path, "alice", "bob")
    assert avahi.name() == "bob-2.local"
    assert avahi.resolve("bob.local") == at("bob")
    assert avahi.resolve("bob-2.local") == at("alice")
    (status,) = bob.order(do="status")
    assert status["status"]["lan"]["name"] == "bob.local"


# Has the name "bob", and knows LLMNR only: an answer with the question and an A record.
LLMNR_ONLY = """
import socket, struct, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("224.0.0.252", 5355))
joined = socket.inet_aton("224.0.0.252") + socket.inet_aton(sys.argv[1])
sock.setsockopt(0, socket.IP_ADD_MEMBERSHIP, joined)
print("listening", flush=True)
while True:
    data, source = sock.recvfrom(1500)
    if data[12:17] == b"\\3bob\\0":
        head = data[:2] + struct.pack("!5H", 0x8000, 1, 1, 0, 0)
        answer = b"\\xc0\\x0c" + struct.pack("!HHIH", 1, 1, 30, 4) + socket.inet_aton(sys.argv[1])
        sock.sendto(head + data[12:21] + answer, source)
        print("answered", source[0], flush=True)
"""


def test_a_name_that_somebody_has_by_llmnr_alone_is_left_to_it(network, tmp_path):
    other = network.start("alice", sys.executable, "-c", LLMNR_ONLY, at("alice"))
    other.until("listening")
    bob = network.peer(tmp_path, "bob", at("bob"))
    assert name_of(bob) == "bob-2.local"
    other.until(f"answered {at('bob')}")


def test_a_host_that_comes_to_another_address_is_found_there(network, tmp_path):
    alice = network.peer(tmp_path, "alice", at("alice"))
    bob = network.peer(tmp_path, "bob", at("bob"))
    assert [name_of(peer) for peer in (alice, bob)] == ["alice.local", "bob.local"]
    avahi = network.avahi(tmp_path, "dave", "dave")
    avahi.name()
    assert avahi.resolve("bob.local") == at("bob")
    space = network.space("bob")
    run(f"ip -n {space} address del {at('bob')}/24 dev eth0")
    run(f"ip -n {space} address add 10.0.0.77/24 dev eth0")
    assert name_of(bob) == "bob.local"
    (record,) = alice.connect("bob", "lan", **PATIENT)
    assert "at 10.0.0.77:" in record["reason"], record
    # Whoever remembered the old address was told: what is unique replaces it.
    assert avahi.resolve("bob.local") == "10.0.0.77"
    (record,) = bob.connect("alice", "lan", **PATIENT)
    assert record["local_candidate"]["endpoint"].startswith("10.0.0.77:"), record


def test_a_host_that_comes_to_another_network_by_the_same_address_is_found_there(network, tmp_path):
    bob = network.peer(tmp_path, "bob", at("bob"))
    assert name_of(bob) == "bob.local"
    # Its cable is pulled, and another one plugged in.
    switch, space = network.space("switch"), network.space("bob")
    run(f"ip -n {space} link del eth0")
    run(f"ip -n {switch} link add bob type veth peer name eth0 netns {space}")
    run(f"ip -n {switch} link set bob master br0 up")
    run(f"ip -n {space} link set eth0 up")
    run(f"ip -n {space} address add {at('bob')}/24 dev eth0")
    assert name_of(bob) == "bob.local"
    alice = network.peer(tmp_path, "alice", at("alice"))
    (record,) = alice.connect("bob", "lan", **PATIENT)
    assert record["outcome"] == "success", record


# --- SSDP ---

NOTIFY = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(0, socket.IP_MULTICAST_IF, socket.inet_aton(sys.argv[1]))
lines = ["NOTIFY * HTTP/1.1", "HOST: 239.255.255.250:1900", "NT: urn:lab:peer:radio", "USN: radio",
         "NTS: " + sys.argv[2], *sys.argv[3:], "", ""]
sock.sendto("\\r\\n".join(lines).encode(), ("239.255.255.250", 1900))
"""
SEARCH = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(0, socket.IP_MULTICAST_IF, socket.inet_aton(sys.argv[1]))
sock.settimeout(float(sys.argv[3]))
lines = ["M-SEARCH * HTTP/1.1", "HOST: 239.255.255.250:1900", 'MAN: "ssdp:discover"', "MX: 2",
         "ST: urn:lab:peer:" + sys.argv[2], "", ""]
sock.sendto("\\r\\n".join(lines).encode(), ("239.255.255.250", 1900))
try:
    print(sock.recvfrom(1500)[0].decode())
except TimeoutError:
    print("nobody")
"""


def test_peers_are_found_by_ssdp_within_its_time_and_gone_after_a_goodbye(network, tmp_path):
    alice = network.peer(tmp_path, "alice", at("alice"))
    bob = network.peer(tmp_path, "bob", at("bob"))
    assert alice.event("neighbour") == {"event": "neighbour", "name": "bob", "here": True}

    def search(name, within_s):
        return run_python(network, "carol", SEARCH, name, str(within_s))

    found = search("bob", 20)
    assert found.startswith("HTTP/1.1 200 OK")
    assert f"LOCATION: http://{at('bob')}:" in found
    assert "max-age=1800" in found
    bob.stop()
    assert alice.event("neighbour") == {"event": "neighbour", "name": "bob", "here": False}
    # For as long as MX asks.
    assert search("bob", 2).strip() == "nobody"
    (status,) = alice.order(do="status")
    assert status["status"]["lan"]["here"] == {}


@pytest.mark.parametrize("end", ["goodbye", "max-age"])
def test_what_announces_itself_is_gone_after_a_goodbye_or_the_time_it_gave(network, tmp_path, end):
    alice = network.peer(tmp_path, "alice", at("alice"))
    age = 1 if end == "max-age" else 1800
    alive = ("ssdp:alive", f"CACHE-CONTROL: max-age={age}", "LOCATION: http://10.0.0.3:9/")
    run_python(network, "carol", NOTIFY, *alive)
    assert alice.event("neighbour") == {"event": "neighbour", "name": "radio", "here": True}
    if end == "goodbye":
        run_python(network, "carol", NOTIFY, "ssdp:byebye")
    assert alice.event("neighbour") == {"event": "neighbour", "name": "radio", "here": False}


def run_python(network, host, program, *words):
    started = network.start(host, sys.executable, "-c", program, at(host), *words)
    started.process.wait(60)
    started.stop()
    return started.text
