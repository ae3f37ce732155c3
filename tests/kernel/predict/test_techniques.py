"""Techniques in real labs: what they find, what they need for it, and what it costs."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest
from msgspec.structs import replace
from techniques_lab import COUNTING, FULL, PATIENT, STRICT, SYMMETRIC, Homes, unique

from lab.cli.scratch import scratch_labs
from lab.fabric import netns
from lab.fabric.rules.flows import flows
from lab.plan.compile import compile_topology
from lab.plan.machine import Machine
from lab.study.matrix import two_homes
from lab.topology.behaviour import Unsolicited
from lab.topology.loader import load
from lab.verify.proof import prove
from tests.machine import measured

pytestmark = pytest.mark.kernel

PAUSE_S = 0.05
"""A pause of the machine that can turn the order of two programs around."""


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_STATE_DIR", str(tmp_path_factory.mktemp("s")))
        yield


@pytest.fixture(scope="module")
def near(state):
    """Two homes without delays."""
    plan = two_homes(unique("near"))
    with scratch_labs([plan]) as (paths,):
        yield Homes(plan, paths)


@pytest.fixture(scope="module")
def far(state):
    """Two homes with real lines."""
    plan = compile_topology(load("two-homes"), Machine(netem=False), lab=unique("far"))
    with scratch_labs([plan]) as (paths,):
        yield Homes(plan, paths)


def outward(record):
    """The tries towards the other peer's external address."""
    return [each for each in record["tries"] if each["remote"].startswith("45.")]


# --- TCP punching -----------------------------------------------------------


def test_a_dropping_nat_needs_one_connect_and_a_resetting_one_many(far):
    """Ford et al. 2005, section 5.2, with the callee 0.6 s late (REFERENCE N6)."""

    def dropping():
        (record,) = far.connect("tcp-punch", late_s=0.6, **PATIENT)
        found = (record["outcome"], record["transport"], record["path"])
        assert found == ("success", "tcp", "direct"), record["reason"]
        assert [each["outcome"] for each in outward(record)] == ["success"]
        # It waited there for the other's SYN.
        assert outward(record)[0]["took_s"] > 0.5

    def resetting():
        (record,) = far.connect("tcp-punch", late_s=0.6, **PATIENT)
        assert record["outcome"] == "success", record["reason"]
        tries = [each["outcome"] for each in outward(record)]
        assert tries.count("refused") >= 3
        assert set(tries) <= {"refused", "success", "cancelled"}

    far.use(STRICT, STRICT)
    measured(dropping, PAUSE_S, again=True)
    reset = replace(STRICT, unsolicited=Unsolicited.RST)
    far.use(reset, reset)
    measured(resetting, PAUSE_S, again=True)


@pytest.mark.parametrize("word", [Unsolicited.RST, Unsolicited.REJECT])
def test_one_nat_that_refuses_is_no_hindrance(near, word):
    """Not even without delay: the SYN that the other one drops stays open."""
    refusing = replace(STRICT, unsolicited=word)
    for pair in ((refusing, STRICT), (STRICT, refusing)):
        near.use(*pair)
        (record,) = near.connect("tcp-punch", late_s=0.2, **PATIENT)
        assert record["outcome"] == "success", record["reason"]


def test_syns_cross_between_nats_that_refuse_by_icmp(far):
    refusing = replace(STRICT, unsolicited=Unsolicited.REJECT)
    far.use(refusing, refusing)

    def check():
        (record,) = far.connect("tcp-punch", late_s=0.3, **PATIENT)
        assert record["outcome"] == "success", record["reason"]
        refused = [each["reason"] for each in outward(record) if each["outcome"] == "refused"]
        assert set(refused) == {"No route to host"}

    measured(check, PAUSE_S, again=True)


def test_a_nat_that_takes_early_packets_for_its_own_loses_the_race(near):
    """The callee half a second late (REFERENCE N7): what comes early costs its NAT the port."""
    greedy = replace(STRICT, unsolicited=Unsolicited.ACCEPT)

    def lost():
        # A caller that is held up for half a second is not the first one.
        (record,) = near.connect("udp-punch", late_s=0.5, window_s=1.5)
        assert record["outcome"] == "timed-out", record["reason"]

    for caller in (greedy, STRICT):
        near.use(caller, greedy)
        measured(lost, PAUSE_S, again=True)
    near.use(STRICT, STRICT)
    (record,) = near.connect("udp-punch", late_s=0.5, **PATIENT)
    assert record["outcome"] == "success", record["reason"]


def test_a_record_says_what_the_path_is_worth(far):
    far.use(STRICT, STRICT)
    records = []

    def check():
        records[:] = far.connect("udp-punch", "tcp-punch", "relay", goodput_s=1.0, **PATIENT)
        for record in records:
            assert record["outcome"] == "success", record["reason"]
            assert (record["goodput_bps"] or 0) > 50_000
            assert record["jitter_s"] is not None

    measured(check, PAUSE_S, again=True)
    udp, tcp, _ = records
    for record in records:
        assert record["jitter_s"] >= 0
        assert record["packets"]["data"] > 0
        cost = record["overhead"]
        assert cost["packets"] == sum(record["packets"].values()) - record["packets"]["data"]
        assert cost["bytes"] == sum(record["bytes"].values()) - record["bytes"]["data"]
    # alice's line carries 1 Mbit/s upward or so, and nothing goes faster than it.
    assert udp["relayed"] == tcp["relayed"] == {"packets": 0, "bytes": 0}
    assert udp["socket"].startswith("192.168.1.2:")


# --- prediction -------------------------------------------------------------


@pytest.mark.parametrize("other", [COUNTING, STRICT], ids=["counting", "port-restricted"])
def test_a_nat_that_counts_is_always_predicted(near, other):
    """REFERENCE N8 without competing flows."""
    near.use(COUNTING, other)
    assert near.connect("udp-punch", window_s=0.3)[0]["outcome"] == "timed-out"
    for _ in range(5):
        for record in near.connect("udp-predict", "tcp-predict", **PATIENT):
            assert record["outcome"] == "success", record["reason"]


def test_a_stride_is_learned(near):
    wide = replace(COUNTING, ports=replace(COUNTING.ports, stride=8))
    near.use(wide, wide)
    (record,) = near.connect("udp-predict", **PATIENT)
    assert record["outcome"] == "success", record["reason"]
    assert "steps of 8" in record["reason"]


def test_chance_is_not_predicted(near):
    near.use(SYMMETRIC, COUNTING)
    for record in near.connect("udp-predict", "tcp-predict", window_s=0.3):
        assert record["outcome"] == "timed-out"
        assert "without a step that could be learned" in record["reason"]


@contextlib.contextmanager
def busy_home(homes: Homes):
    """Somebody else behind the callee's NAT, who begins hundreds of flows a second."""
    stop = threading.Event()

    def flows():
        with netns.inside(homes.paths.netns("bob")):
            while not stop.wait(0.001):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
                    made.sendto(b"hello", ("45.0.0.1", 9))

    worker = threading.Thread(target=flows)
    worker.start()
    try:
        yield
    finally:
        stop.set()
        worker.join()


def test_a_flood_of_other_flows_defeats_prediction(near):
    """The other end of exp(-rate * time): hundreds of flows before the one that was foretold."""
    near.use(STRICT, COUNTING)
    with busy_home(near):
        (record,) = near.connect("udp-predict", late_s=0.5, window_s=1.5)
    assert record["outcome"] == "timed-out"
    (record,) = near.connect("udp-predict", late_s=0.5, **PATIENT)
    assert record["outcome"] == "success", record["reason"]


# --- birthday ---------------------------------------------------------------


@pytest.mark.parametrize("pair", [(STRICT, SYMMETRIC), (SYMMETRIC, STRICT)])
def test_enough_probes_hit(near, pair):
    """4096 probes miss 256 ports once in 27 million times."""
    near.use(*pair)
    (record,) = near.connect("birthday", probes=4096, pace=1000, **PATIENT)
    assert (record["outcome"], record["path"]) == ("success", "direct"), record["reason"]
    assert "hit" in record["reason"]


def test_without_sockets_nothing_is_hit(near):
    near.use(STRICT, SYMMETRIC)
    (record,) = near.connect("birthday", sockets=0, probes=200, pace=1000)
    assert record["outcome"] == "timed-out"
    assert "0 sockets against 200 probes, which hit 0.0% of the time" in record["reason"]


def test_two_hard_sides_are_not_tried(near):
    near.use(SYMMETRIC, SYMMETRIC)
    (record,) = near.connect("birthday")
    assert record["outcome"] == "unsupported"
    assert "would meet 0.01% of the time" in record["reason"]


# --- reversal ---------------------------------------------------------------


def test_who_can_be_reached_is_called_back(near):
    near.use(FULL, SYMMETRIC)

    def check():
        (record,) = near.connect("reversal", **PATIENT)
        found = (record["outcome"], record["transport"], record["path"])
        # UDP waits for TCP, but not for long.
        assert found == ("reversed", "tcp", "direct"), record["reason"]
        assert record["tries"] == []

    measured(check, PAUSE_S, again=True)


def test_who_can_not_be_reached_is_not(near):
    near.use(STRICT, FULL)
    (record,) = near.connect("reversal", window_s=0.5)
    assert record["outcome"] == "timed-out"
    assert record["reason"].endswith("alice can't be reached either")


# --- UDP punching -----------------------------------------------------------


@pytest.mark.parametrize("synchronised", [0, 1])
def test_a_late_callee_is_waited_for(near, synchronised):
    near.use(STRICT, STRICT)

    def check():
        (record,) = near.connect("udp-punch", synchronised=synchronised, late_s=0.4, **PATIENT)
        assert record["outcome"] == "success", record["reason"]
        assert record["time_to_path_s"] > 0.4
        # Sent again every 50 ms, and each counted.
        assert record["packets"]["punch"] >= 8

    measured(check, PAUSE_S, again=True)


def test_first_stops_at_the_first_that_works(near):
    near.use(SYMMETRIC, SYMMETRIC)
    records = near.connect("birthday", "relay", "udp-punch", first=True, **PATIENT)
    assert [record["outcome"] for record in records] == ["unsupported", "success"]


# --- proof ------------------------------------------------------------------


@pytest.mark.parametrize("technique", ["udp-punch", "tcp-punch", "udp-predict", "relay", "ice"])
def test_routers_say_where_a_path_leads(near, technique):
    near.use(STRICT, STRICT)
    (record,) = near.connect(technique, **PATIENT)
    found = prove(near.plan, near.paths, record)
    by = "is relayed by relay" if technique == "relay" else "leads through home-a and home-b to bob"
    assert (found.proven, by in found.reason) == (True, True), found
    assert (record["relayed"]["packets"] > 0) == (record["path"] == "relayed")


def test_a_path_that_is_not_there_is_not_proven(near):
    near.use(STRICT, STRICT)
    (record,) = near.connect("udp-punch", **PATIENT)
    for lie in (
        {"socket": "192.168.1.2:1"},
        {"remote_candidate": {"kind": "host", "endpoint": "45.0.0.99:4000"}},
        {"transport": "tcp"},
        {"remote": "relay"},
        {"socket": None},
    ):
        found = prove(near.plan, near.paths, {**record, **lie})
        assert not found.proven, lie
    # A packet of one direction is no path.
    with (
        netns.inside(near.paths.netns("alice")),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made,
    ):
        made.sendto(b"anybody?", ("45.0.0.250", 4000))
        lie = {
            "socket": f"192.168.1.2:{made.getsockname()[1]}",
            "remote_candidate": {"kind": "host", "endpoint": "45.0.0.250:4000"},
        }
    found = prove(near.plan, near.paths, {**record, **lie})
    assert (found.proven, found.reason) == (False, "home-a has seen packets of one direction only")


def test_a_path_on_a_server_is_no_direct_path(near):
    """A peer that takes the STUN server's port for the other peer's is found out."""
    near.use(STRICT, STRICT)
    (record,) = near.connect("udp-punch", **PATIENT)
    (port,) = near.plan.node("stun").interfaces
    servers = [address.partition("/")[0] for address in port.addresses]
    with netns.inside(near.paths.netns("home-a")):
        asked = next(
            flow for flow in flows()
            if flow.protocol == "udp" and flow.answered and flow.original.destination[0] in servers
        )  # fmt: skip
    address, port = asked.original.destination
    lie = {
        "socket": "{}:{}".format(*asked.original.source),
        "remote_candidate": {"kind": "host", "endpoint": f"{address}:{port}"},
    }
    found = prove(near.plan, near.paths, {**record, **lie})
    assert (found.proven, found.reason) == (False, "it leads elsewhere: through home-a to stun")
