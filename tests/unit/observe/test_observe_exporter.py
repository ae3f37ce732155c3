"""The exporter without a network: what it serves, where it listens, how it is found."""

import json
import re
import socket
import threading
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lab.errors import LabError
from lab.fabric.links.ferry.protocol import DirectionStats, FerryStats, Lateness, LinkStats
from lab.observe.exporter import Exporter
from lab.observe.health import HealthSampler
from lab.observe.state import ProgramState, Stage
from lab.paths import LabPaths, data_dir
from lab.topology.behaviour import Runtime
from tests.unit.observe_support import attempt, double_nat, samples, scrape

PLAN = double_nat("t-observe-exporter")
PROGRAMS = {
    "stun": ProgramState(node="stun", runtime=Runtime.PROCESS, state=Stage.READY, started_at=7.0),
    "bob": ProgramState(node="bob", runtime=Runtime.PROCESS, state=Stage.EXITED, exit_code=1),
}
FERRY = FerryStats(
    links=(
        LinkStats(
            name="home-b.wan--internet.p1",
            a_to_b=DirectionStats(
                packets=10,
                lost=1,
                overflowed=2,
                refused=3,
                early=4,
                duplicated=5,
                corrupted=6,
                reordered=7,
            ),
            b_to_a=DirectionStats(packets=20),
        ),
        LinkStats(name="gone.eth0--away.eth0", a_to_b=DirectionStats(), b_to_a=DirectionStats()),
    ),
    lateness=Lateness(counts=(5,) + (0,) * 22 + (1,), total_ns=1_000_000),
    cpu_s=1.5,
)


@pytest.fixture
def paths(tmp_path):
    root = tmp_path / PLAN.lab
    root.mkdir()
    return LabPaths(root)


@pytest.fixture
def exporter(paths):
    sampler = HealthSampler(ferry=lambda: FERRY, tap_drops=lambda: 3, receive_drops=lambda: 0)
    made = Exporter(paths, lambda: PLAN, lambda: PROGRAMS, sampler)
    yield made
    made.close()
    sampler.close()


def test_attempts_are_counted_by_technique_outcome_and_path(exporter):
    for _ in range(3):
        exporter.record_attempt(attempt())
    exporter.record_attempt(attempt("direct", "unreachable"))
    exporter.record_attempt({"technique": 'odd"\n\\', "outcome": None})
    got = samples(scrape(exporter.start()))
    total = {
        dict(labels)["technique"]: n for labels, n in got["lab_connect_attempts_total"].items()
    }
    assert total == {"udp-punch": 3, "direct": 1, 'odd"\n\\': 1}
    punched = (("path", "direct"), ("program", "lab"), ("technique", "udp-punch"))
    assert got["lab_connect_seconds_count"] == {punched: 3}
    assert got["lab_connect_seconds_sum"][punched] == pytest.approx(3 * 0.0431)
    assert got["lab_connect_seconds_bucket"][(("le", "0.025"), *punched)] == 0
    assert got["lab_connect_seconds_bucket"][(("le", "0.05"), *punched)] == 3
    assert got["lab_connect_rtt_seconds_count"] == {punched: 3}


def test_what_the_plan_declares(exporter):
    got = samples(scrape(exporter.start()))
    assert got["lab_info"] == {
        (
            ("name", PLAN.lab),
            ("seed", "7"),
            ("topology", "topologies/double-nat.yaml"),
            ("version", dict(next(iter(got["lab_info"])))["version"]),
        ): 1
    }
    assert got["lab_nodes"][(("kind", "router"),)] == 3
    assert got["lab_links"][(("backend", "ferry"),)] == 2
    up = tuple({"backend": "ferry", "interface": "wan", "node": "home-b", "to": "internet"}.items())
    down = tuple(
        {"backend": "ferry", "interface": "p1", "node": "internet", "to": "home-b"}.items()
    )
    assert got["lab_link_rate_bytes_per_second"][up] == 125_000
    assert got["lab_link_rate_bytes_per_second"][down] == 2_000_000
    assert got["lab_link_delay_seconds"][up] == 0.0125
    assert got["lab_link_loss_ratio"][up] == 0.001
    assert len(got["lab_link_delay_seconds"]) == 2 * len(PLAN.links)
    nats = {dict(labels)["node"]: dict(labels) for labels in got["lab_nat_info"]}
    assert nats["home-b"]["mapping"] == "address-and-port-dependent"
    assert set(nats) == {"carrier-a", "home-a", "home-b"}


def test_programs_that_should_run_and_those_that_do(exporter):
    got = samples(scrape(exporter.start()))
    up = {dict(labels)["node"]: n for labels, n in got["lab_program_up"].items()}
    assert up == {"stun": 1, "relay": 0, "alice": 0, "bob": 0, "printer": 0}
    assert got["lab_programs"] == {
        (("state", "starting"),): 0,
        (("state", "ready"),): 1,
        (("state", "exited"),): 1,
        (("state", "failed"),): 0,
        (("state", "paused"),): 0,
    }
    assert list(got["lab_program_start_time_seconds"].values()) == [7.0]


def test_user_space_links_and_the_machine(exporter):
    got = samples(scrape(exporter.start()))
    sent = tuple({"interface": "wan", "node": "home-b", "to": "internet"}.items())
    assert got["lab_ferry_packets_total"][sent] == 10
    assert got["lab_ferry_lost_packets_total"][sent] == 1
    assert got["lab_ferry_queue_drops_total"][sent] == 2
    assert got["lab_ferry_refused_packets_total"][sent] == 3
    whats = ("discipline_drops", "duplicated_packets", "corrupted_packets", "reordered_packets")
    counted = [got[f"lab_ferry_{what}_total"][sent] for what in whats]
    assert counted == [4, 5, 6, 7]
    assert len(got["lab_ferry_packets_total"]) == 2, "a link that is not in the plan is left out"
    assert got["lab_ferry_lateness_seconds_bucket"][(("le", "+Inf"),)] == 6
    assert got["lab_ferry_lateness_seconds_sum"][()] == 0.001
    assert got["lab_ferry_cpu_seconds_total"][()] == 1.5
    assert got["lab_health_distorted"][()] in (0, 1)
    assert got["lab_health_tap_drops_total"][()] == 3
    assert got["lab_health_receive_drops_total"][()] == 0
    assert 0 <= got["lab_health_cpu_busy_ratio"][()] <= 1
    assert got["process_resident_memory_bytes"][()] > 0


def test_a_lab_that_has_no_plan_yet(paths):
    exporter = Exporter(paths, lambda: None, dict)
    try:
        exporter.record_attempt(attempt())
        got = samples(scrape(exporter.start()))
    finally:
        exporter.close()
    assert "lab_info" not in got
    assert sum(got["lab_connect_attempts_total"].values()) == 1


def test_openmetrics_for_those_who_ask(exporter):
    text = scrape(exporter.start(), accept="application/openmetrics-text; version=1.0.0")
    assert text.endswith("# EOF\n")


def test_prometheus_finds_it_while_it_listens(exporter, paths):
    before = set(threading.enumerate())
    port = exporter.start()
    assert json.loads(paths.scrape_target.read_text()) == [
        {"targets": [f"127.0.0.1:{port}"], "labels": {"lab": PLAN.lab}}
    ]
    assert [entry.name for entry in paths.scrape_target.parent.iterdir() if entry.is_file()] == [
        paths.scrape_target.name
    ]
    exporter.close()
    exporter.close()
    assert not paths.scrape_target.exists()
    assert set(threading.enumerate()) <= before
    with pytest.raises(urllib.error.URLError):
        scrape(port)


def test_it_listens_on_loopback_alone(exporter):
    port = exporter.start()
    wildcard = socket.socket()
    with wildcard, pytest.raises(OSError):
        wildcard.bind(("127.0.0.1", port))
    other = socket.socket()
    with other:
        other.bind(("127.0.0.2", port))  # free: the exporter is not on every address


def test_there_is_nothing_but_metrics(exporter):
    port = exporter.start()
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/")


def test_a_port_that_is_taken(exporter, paths):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(LabError) as raised:
            exporter.start(port)
    assert str(raised.value) == (
        f"the exporter can't listen on 127.0.0.1:{port}: Address already in use\n"
        "  choose another port, or 0 for a free one"
    )
    assert not paths.scrape_target.exists()


def test_a_state_folder_that_is_gone(tmp_path):
    exporter = Exporter(LabPaths(tmp_path / "no" / "lab"), lambda: None, dict)
    with pytest.raises(LabError, match="can't write"):
        exporter.start()


def test_the_readme_names_every_metric(exporter):
    exporter.record_attempt(attempt())
    served = {
        family.name if family.type != "counter" else f"{family.name}_total"
        for family in text_string_to_metric_families(scrape(exporter.start()))
    }
    ours = {name for name in served if name.startswith("lab")}
    readme = (data_dir("metrics") / "README.md").read_text()
    named: set[str] = set()
    for word in re.findall(r"`(lab_[a-z_{},]*)`", readme):
        named |= expand(word)
    missing = ours - named
    assert not missing
    # Interfaces and connection tracking are real: tests/kernel/observe has them.
    assert {
        name for name in named - ours if not name.startswith(("lab_interface", "lab_conn"))
    } == (set())


def expand(word: str) -> set[str]:
    """A shell's braces: a_{b,c} is a_b and a_c."""
    match = re.search(r"\{([^}]*)\}", word)
    if match is None:
        return {word}
    return {
        name
        for part in match[1].split(",")
        for name in expand(word[: match.start()] + part + word[match.end() :])
    }
