"""The whole program: services and peers as processes, on loopback addresses."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading

import pytest

from lab.peer.rehearse import rehearse
from lab.peer.stun.codec import Class, Message, Method, encode, parse, request
from tests.machine import measured
from tests.unit.peer.support import WAIT_S, Program, network

BASIC = ("direct", "udp-punch", "relay")
"""What needs nothing but the services."""
KEYS = {
    "technique",
    "outcome",
    "reason",
    "local",
    "remote",
    "path",
    "local_candidate",
    "remote_candidate",
    "started_at",
    "time_to_path_s",
    "rtt_before_s",
    "rtt_after_s",
    "jitter_s",
    "goodput_bps",
    "goodput_by",
    "transport",
    "cut_short",
    "socket",
    "tries",
    "overhead",
    "relayed",
    "packets",
    "bytes",
}


class Lab:
    def __init__(self, folder):
        self.folder = folder
        self.net = network()
        self.services = {
            "LAB_STUN": f"{self.net}.2:3478,{self.net}.3:3478",
            "LAB_RENDEZVOUS": f"{self.net}.4:4000",
            "LAB_RELAY": f"{self.net}.5:3478",
            "LAB_RELAY_USER": "user",
            "LAB_RELAY_PASSWORD": "password",
        }
        self.programs = []

    def start(self):
        for name, role, address in (
            ("stun", "stun", f"{self.net}.2,{self.net}.3"),
            ("meet", "rendezvous", f"{self.net}.4"),
            ("relay", "relay", f"{self.net}.5"),
        ):
            self.add(name, role, address)
        self.alice = self.add("alice", "peer", f"{self.net}.10")
        self.bob = self.add("bob", "peer", f"{self.net}.11")

    def add(self, name, role, address, *, wait=True, without=(), **env):
        services = {k: v for k, v in self.services.items() if k not in without}
        program = Program(self.folder, name, role, address, wait=wait, **{**services, **env})
        self.programs.append(program)
        return program


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    lab = Lab(tmp_path_factory.mktemp("lab"))
    try:
        lab.start()
        yield lab
    finally:
        codes = {program.name: program.stop() for program in lab.programs}
    assert set(codes.values()) <= {0}, codes


def test_every_technique_makes_a_path(lab):
    records = lab.alice.connect("bob", *BASIC)
    assert [r["technique"] for r in records] == ["direct", "udp-punch", "relay"]
    for record in records:
        assert set(record) == KEYS
        assert record["outcome"] == "success", record
        assert record["local"], record["remote"] == ("alice", "bob")
        assert record["rtt_before_s"] > 0
        assert record["rtt_after_s"] > 0
        assert 0 < record["time_to_path_s"] < 10
        assert record["packets"].keys() == record["bytes"].keys()
    assert [r["path"] for r in records] == ["direct", "direct", "relayed"]
    # A question and its answer, if that comes within half a second.
    assert records[1]["packets"]["stun"] >= 2
    assert records[2]["local_candidate"]["kind"] == "relayed"


def test_one_path_is_measured_once(lab):
    def check():
        records = lab.alice.connect("bob", *BASIC, goodput_s=0.1, goodput_once=True)
        direct, punched, relayed = records
        # A machine that pauses for as long carries nothing.
        assert direct["goodput_bps"]
        assert (direct["goodput_by"], relayed["goodput_by"]) == (None, None)
        assert punched["goodput_by"] == "direct"
        assert punched["goodput_bps"] == direct["goodput_bps"] > 0
        assert punched["packets"].get("data", 0) == 0
        assert min(r["packets"]["data"] for r in (direct, relayed)) > 0

    measured(check, 0.05, again=True)


def test_the_callee_tells_what_it_answered(lab):
    (record,) = lab.alice.connect("bob", "direct")
    while (answered := lab.bob.event("answered")["record"])["technique"] != "direct":
        pass
    assert answered["outcome"] == "success"
    assert (answered["local"], answered["remote"]) == ("bob", "alice")
    assert record["remote_candidate"]["endpoint"].startswith(f"{lab.net}.11:")


def test_each_attempt_has_a_port_of_its_own(lab):
    ports = set()
    for _ in range(3):
        (record,) = lab.alice.connect("bob", "udp-punch")
        ports.add(record["local_candidate"]["endpoint"])
    assert len(ports) == 3


def test_first_stops_at_the_first_that_works(lab):
    records = lab.bob.connect("alice", *BASIC, first=True)
    assert [r["technique"] for r in records] == ["direct"]


def test_many_orders_at_once(lab):
    results = {}

    def connect(number, source, target):
        results[number] = source.connect(target, "udp-punch", "direct")

    threads = [
        threading.Thread(target=connect, args=(n, *pair))
        for n, pair in enumerate([(lab.alice, "bob"), (lab.bob, "alice")] * 4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert {r["outcome"] for records in results.values() for r in records} == {"success"}


def test_orders_on_one_connection_are_told_apart(lab):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(WAIT_S)
        sock.connect(str(lab.alice.folder / "control.sock"))
        for number in (1, "two", 3):
            order = {"id": number, "do": "connect", "peer": "bob", "techniques": ["direct"]}
            sock.sendall(json.dumps(order).encode() + b"\n")
        answers = []
        for line in sock.makefile():
            answers.append(json.loads(line))
            if sum(answer.get("done", False) for answer in answers) == 3:
                break
    for number in (1, "two", 3):
        mine = [answer for answer in answers if answer["id"] == number]
        assert [("record" in a, a.get("done")) for a in mine] == [(True, None), (False, True)]


def test_an_unknown_peer(lab):
    (record,) = lab.alice.connect("nobody", "udp-punch")
    assert record["outcome"] == "unreachable"
    assert record["reason"] == "the rendezvous service knows no peer named 'nobody'"


def test_an_unknown_technique(lab):
    (record,) = lab.alice.connect("bob", "telepathy")
    assert record["outcome"] == "unsupported"
    assert record["reason"] == "alice has no technique 'telepathy'"


@pytest.mark.parametrize(
    ("order", "error"),
    [
        ({"do": "dance"}, "no such order: 'dance'; connect, session, end and status are known"),
        ({"do": "connect"}, "`peer` is the name of a peer"),
        ({"do": "connect", "peer": "bob", "techniques": "all"}, "`techniques` is a list of names"),
        (
            {"do": "connect", "peer": "bob", "timeout_s": -1},
            "`timeout_s` is a number of seconds above 0",
        ),
        ({"do": "connect", "peer": "bob", "first": 1}, "`first` is true or false"),
    ],
)
def test_an_order_that_makes_no_sense(lab, order, error):
    (answer,) = lab.alice.order(**order)
    assert answer == {"id": 1, "done": True, "error": error}


def test_nonsense_on_the_control_socket(lab):
    for nonsense in (b"\x00\xff\n", b"[]\n", b"{" * 5000 + b"\n", b"x" * 100_000):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(lab.alice.folder / "control.sock"))
            with contextlib.suppress(BrokenPipeError):
                sock.sendall(nonsense)
    assert lab.alice.order(do="status")[0]["status"]["registered"]


def test_status(lab):
    (answer,) = lab.alice.order(do="status")
    assert answer["status"]["registered"] is True
    assert answer["status"]["roles"] == ["peer"]
    (answer,) = lab.programs[0].order(do="status")
    assert answer["status"]["registered"] is False


def test_no_stun_server(lab):
    carol = lab.add("carol", "peer", f"{lab.net}.12", without=("LAB_STUN", "LAB_RELAY"))
    punch, relay = carol.connect("bob", "udp-punch", "relay")
    assert (punch["outcome"], relay["outcome"]) == ("unsupported", "unsupported")
    assert punch["reason"] == "carol has no STUN server (LAB_STUN is not set)"
    assert relay["reason"] == "carol has no relay (LAB_RELAY is not set)"
    (declined,) = lab.bob.connect("carol", "udp-punch")
    assert declined["outcome"] == "unsupported"
    assert declined["reason"].startswith("carol declined: carol has no STUN server")


def test_a_dead_stun_server(lab):
    silent = f"{lab.net}.77:3478"
    dora = lab.add("dora", "peer", f"{lab.net}.13", LAB_STUN=silent)
    (record,) = dora.connect("bob", "udp-punch")
    # The private endpoints are enough here, as on a LAN without a server.
    assert record["outcome"] == "success"
    # Two of the three tries are one for who gets to it late.
    assert record["packets"]["stun"] in {2, 3}


def test_wrong_credentials_for_the_relay(lab):
    erin = lab.add("erin", "peer", f"{lab.net}.14", LAB_RELAY_PASSWORD="wrong")  # noqa: S106 - made up
    (record,) = erin.connect("bob", "relay")
    assert record["outcome"] == "refused"
    assert record["reason"] == f"the relay {lab.net}.5:3478 refused: Unauthorized (401)"


def test_a_dead_relay(lab):
    frank = lab.add("frank", "peer", f"{lab.net}.15", LAB_RELAY=f"{lab.net}.78:3478")
    (record,) = frank.connect("bob", "relay")
    assert record["outcome"] == "unreachable"
    assert "neither over UDP nor over TCP" in record["reason"]


def test_without_rendezvous_a_peer_is_ready_and_says_so(lab):
    gina = lab.add("gina", "peer", f"{lab.net}.16", without=("LAB_RENDEZVOUS",))
    (record,) = gina.connect("bob", "direct")
    assert record["outcome"] == "unsupported"
    assert record["reason"] == "gina has no rendezvous service (LAB_RENDEZVOUS is not set)"


def test_a_peer_waits_for_the_rendezvous_service(lab):
    late = f"{lab.net}.40:4000"
    hugo = lab.add("hugo", "peer", f"{lab.net}.17", wait=False, LAB_RENDEZVOUS=late)
    lab.add("late", "rendezvous", f"{lab.net}.40", LAB_RENDEZVOUS=late)
    assert hugo.event("ready")


def test_a_peer_that_is_kept_from_the_rendezvous_service_is_ready_and_says_why(lab):
    kim = lab.add("kim", "peer", f"{lab.net}.21", LAB_RENDEZVOUS=f"{lab.net}.99:4000")
    (answer,) = kim.order(do="status")
    assert not answer["status"]["registered"]
    assert "Connect call failed" in answer["status"]["trouble"]
    (record,) = kim.connect("bob", "direct", timeout_s=0.1)
    assert record["outcome"] == "unreachable"


def test_a_peer_comes_back_after_the_service_did(lab):
    where = {"LAB_RENDEZVOUS": f"{lab.net}.41:4000"}
    first = lab.add("first", "rendezvous", f"{lab.net}.41", **where)
    ivan = lab.add("ivan", "peer", f"{lab.net}.18", **where)
    judy = lab.add("judy", "peer", f"{lab.net}.19", **where)
    assert first.stop() == 0
    for peer in (ivan, judy):
        assert peer.event("unregistered")
    (record,) = ivan.connect("judy", "direct", timeout_s=0.5)
    assert record["outcome"] == "unreachable"
    assert "not registered with the rendezvous service" in record["reason"]
    lab.add("second", "rendezvous", f"{lab.net}.41", **where)
    assert ivan.event("registered")
    assert judy.event("registered")
    (record,) = judy.connect("ivan", "direct")
    assert record["outcome"] == "success"


def test_nobody_takes_a_registered_name(lab):
    thief = lab.add("bob2", "peer", f"{lab.net}.20", wait=False, LAB_NODE="bob")
    refused = thief.event("unregistered")
    assert refused["reason"] == "the name 'bob' belongs to another key"
    (answer,) = thief.order(do="status")
    assert not answer["status"]["registered"]
    assert lab.alice.connect("bob", "direct")[0]["outcome"] == "success"
    assert thief.stop() == 0


def test_a_restarted_peer_is_the_same_peer(lab):
    key = (lab.bob.folder / "identity.key").read_bytes()
    assert len(key) == 32
    assert (lab.bob.folder / "identity.key").stat().st_mode & 0o777 == 0o600


def test_stun_over_tcp(lab):
    asked = request(Method.BINDING)
    with socket.create_connection((f"{lab.net}.3", 3479), timeout=WAIT_S) as sock:
        sock.sendall(encode(asked))
        answer = parse(sock.recv(1000))
        assert answer.transaction == asked.transaction
        assert answer.endpoint("XOR-MAPPED-ADDRESS") == sock.getsockname()
        sock.sendall(b"\xff" * 20)
        assert sock.recv(1000) == b""


def test_a_classic_client_over_udp(lab):
    asked = Message(Method.BINDING, Class.REQUEST, bytes(range(16)), {"CHANGE-REQUEST": 2})
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(WAIT_S)
        sock.bind((f"{lab.net}.30", 0))
        sock.sendto(encode(asked), (f"{lab.net}.2", 3478))
        data, source = sock.recvfrom(1000)
        assert source == (f"{lab.net}.2", 3479)
        assert parse(data).endpoint("MAPPED-ADDRESS") == sock.getsockname()


def test_nonsense_does_not_stop_the_services(lab):
    for host, port in ((2, 3478), (4, 4000), (5, 3478)):
        with socket.create_connection((f"{lab.net}.{host}", port), timeout=WAIT_S) as sock:
            sock.sendall(b"\xff\xff\xff\xff" * 100)
            try:
                while sock.recv(4096):
                    pass
            except ConnectionResetError:
                pass
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"\x00\x01\xff\xff" * 20, (f"{lab.net}.{host}", port))
            sock.sendto(b"\x40\x00\xff\xff" * 20, (f"{lab.net}.{host}", port))
            sock.sendto(b"", (f"{lab.net}.{host}", port))
    assert {r["outcome"] for r in lab.alice.connect("bob", *BASIC)} == {"success"}


@pytest.mark.parametrize(
    ("env", "code", "text"),
    [
        ({"LAB_ROLE": "onion"}, 127, "there is no role 'onion'"),
        ({"LAB_ROLE": ""}, 2, "LAB_ROLE is empty"),
        ({"LAB_NODE": "/"}, 2, "LAB_NODE is no name"),
        ({"LAB_ROLE": "relay"}, 1, "a relay without credentials would be open to everyone"),
        ({"LAB_ROLE": "stun", "LAB_ADDRESSES": "192.0.2.1"}, 1, "assign requested address"),
    ],
)
def test_exit_codes(tmp_path, env, code, text):
    least = {"LAB_NODE": "x", "LAB_ROLE": "peer", "LAB_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "lab.peer"],
        env={**least, "LAB_ADDRESSES": "127.0.0.1", **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code
    assert text in done.stderr
    assert json.loads(done.stdout)["event"] == "failed"


def test_a_rehearsal_works():
    assert rehearse()


def test_a_folder_with_a_long_name(tmp_path, lab):
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    program = Program(folder, "lone", "peer", f"{lab.net}.50")
    assert (program.folder / "control.sock").is_socket()
    assert program.stop() == 0
    assert not (program.folder / "control.sock").exists()
