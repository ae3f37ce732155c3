"""What people and programs are shown of a lab; the texts are in tests/unit/golden/observe."""

import io
import json
import os
import sys
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from rich.console import Console

from lab.observe import attempts_table, status, words
from lab.observe.outline import lines, tree
from lab.observe.sample import HealthSample
from lab.observe.state import AgentState, ProgramState, Stage, programs_from_wire, to_wire
from lab.observe.status_json import status_json
from lab.topology.behaviour import Runtime
from lab.topology.character import Impairment
from tests.unit.observe_support import attempt, double_nat, many_homes

GOLDEN = Path(__file__).parent.parent / "golden" / "observe"
NOW = 1_700_000_100.0
AGENT = AgentState(pid=4711, started_at=NOW - 140, metrics="http://127.0.0.1:41823/metrics")
HEALTHY = HealthSample(
    span_s=10,
    cpu_busy=0.23,
    cpu_steal=0,
    cpu_pressure=0.02,
    lag_p50_s=5e-5,
    lag_p99_s=2e-4,
    lag_max_s=5e-4,
    softirq_drops=0,
    softirq_squeezes=0,
    neighbour_overflows=0,
    ferry_lateness_p50_s=1e-4,
    ferry_lateness_p99_s=3.2e-4,
    ferry_busy=0.1,
)
ATTEMPTS = [
    attempt("direct", "unreachable", started_at=NOW - 12),
    attempt(started_at=NOW - 11),
    attempt("relay", started_at=NOW - 10),
    attempt("tcp-punch", "unsupported", started_at=NOW - 9, reason="not in this image"),
]


def state(node: str, stage: Stage = Stage.READY, **more) -> ProgramState:
    return ProgramState(
        node=node, runtime=Runtime.PROCESS, state=stage, pid=100, started_at=NOW - 133, **more
    )


PROGRAMS = {
    "stun": state("stun"),
    "relay": state("relay"),
    "alice": state("alice"),
    "bob": state("bob", Stage.STARTING),
    "printer": state("printer", Stage.EXITED, exit_code=1),
}


def shown(renderable, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(renderable)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def held(name: str, text: str) -> None:
    """`text` is what tests/unit/golden/observe has; UPDATE_GOLDEN=1 writes it."""
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [80, 120, 170])
def test_a_lab_at_a_terminals_width(width):
    table = status.overview(double_nat(), PROGRAMS, HEALTHY, ATTEMPTS, AGENT, now=NOW, width=width)
    text = shown(table, width)
    held(f"status-{width}.txt", text)
    assert all(len(line) <= width for line in text.splitlines())


def test_a_lab_whose_agent_died_and_whose_machine_is_overloaded():
    sick = msgspec.structs.replace(
        HEALTHY, reasons=("the processors are 99% busy", "programs are woken 20 ms late")
    )
    table = status.overview(double_nat(), PROGRAMS, sick, [], AgentState(), now=NOW, width=100)
    held("status-dead.txt", shown(table, 100))


@pytest.mark.parametrize("width", [80, 120])
def test_attempts_at_a_terminals_width(width):
    held(
        f"attempts-{width}.txt", shown(attempts_table.attempts_table(ATTEMPTS, width=width), width)
    )


def test_five_hundred_homes_fit_on_a_screen_and_the_odd_one_shows():
    programs = {f"host-{i}": state(f"host-{i}") for i in range(1, 501)}
    programs["host-77"] = state("host-77", Stage.FAILED, reason="not ready within 30 s")
    table = status.overview(many_homes(500), programs, None, [], AGENT, now=NOW, width=120)
    text = shown(table, 120)
    assert len(text.splitlines()) < 20
    assert "498 more like home-1" in text
    assert "failed: not ready within 30 s" in text
    assert "499 of 500 programs ready" in text


def test_what_a_program_says_is_neither_markup_nor_a_cursor_movement():
    evil = attempt("[red]x[/]", "failed", reason="\x1b[2J[/bold] gone\nline", local="[link]")
    text = shown(attempts_table.attempts_table([evil]), 200)
    assert "[red]x[/]" in text
    assert "[2J[/bold] gone line" in text
    assert "\x1b" not in text
    programs = {"bob": state("bob", Stage.FAILED, reason="\x07[blink]no")}
    text = shown(status.overview(double_nat(), programs, None, [evil], AGENT, now=NOW), 200)
    assert "[blink]no" in text
    assert "\x07" not in text


def test_records_with_nothing_in_them_are_shown_too():
    odd = {"packets": {"stun": "many"}, "time_to_path_s": "soon", "outcome": "success"}
    assert "success" in shown(attempts_table.attempts_table([{}, odd]), 200)


def test_plain_output_where_there_is_no_terminal(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii"))
    status.render(double_nat(), PROGRAMS, HEALTHY, ATTEMPTS, AGENT)
    attempts_table.render_attempts(ATTEMPTS)
    sys.stdout.flush()
    text = raw.getvalue().decode("ascii")
    assert "|- carrier-a" in text
    assert "\x1b" not in text
    assert not any(line.endswith(" ") for line in text.splitlines())


def test_the_same_for_programs():
    data = status_json(double_nat(), PROGRAMS, HEALTHY, ATTEMPTS, AGENT, now=NOW)
    home = next(node for node in data["nodes"] if node["node"] == "home-a")
    assert home["nat"]["mapping"] == "endpoint-independent"  # stated, though it is the default
    assert json.loads(json.dumps(data)) == data
    nodes = {node["node"]: node for node in data["nodes"]}
    assert nodes["alice"]["program"] == {
        "program": "peer",
        "runtime": "process",
        "state": "ready",
        "pid": 100,
        "exit_code": None,
        "reason": "",
        "uptime_s": 133.0,
    }
    assert nodes["printer"]["program"]["exit_code"] == 1
    assert nodes["home-b"]["nat"]["preset"] == "symmetric"
    assert nodes["carrier-a"]["addresses"] == {"wan": ["45.0.0.2/30"], "lan": ["100.64.0.1/24"]}
    assert data["agent"]["alive"]
    assert data["health"]["distorted"] is False
    assert [record["technique"] for record in data["attempts"]] == [
        "direct",
        "udp-punch",
        "relay",
        "tcp-punch",
    ]


def test_a_dead_agents_programs_are_unknown():
    data = status_json(double_nat(), PROGRAMS, None, [], AgentState(), now=NOW)
    assert {node["program"]["state"] for node in data["nodes"] if node["program"]} == {"unknown"}
    assert data["health"] is None
    assert data["agent"] == {"pid": None, "alive": False, "uptime_s": 0.0, "metrics": None}


def test_states_travel_over_the_agents_socket():
    assert programs_from_wire(json.loads(json.dumps(to_wire(PROGRAMS)))) == PROGRAMS


def test_segments_are_wire_and_everything_hangs_below_the_internet():
    (internet,) = tree(double_nat())
    assert [branch.node.name for branch in internet.branches] == [
        "carrier-a",
        "home-b",
        "stun",
        "relay",
    ]
    home_b = internet.branches[1]
    assert [branch.node.name for branch in home_b.branches] == ["bob", "printer"]
    assert home_b.down.rate_bit == 16_000_000
    assert home_b.up.rate_bit == 1_000_000
    assert not home_b.cut


def test_a_link_that_is_down_is_shown_so():
    plan = double_nat()
    links = (replace(link, down="home-b" in (link.a.node, link.b.node)) for link in plan.links)
    (internet,) = tree(replace(plan, links=tuple(links)))
    assert internet.branches[1].cut
    assert not internet.branches[0].cut


def test_six_alike_are_shown_and_seven_are_folded():
    six, seven = (
        list(lines(tree(many_homes(count)), lambda branch: branch.node.kind)) for count in (6, 7)
    )
    assert sum(line.more for line in six) == 0
    assert [(line.more, line.like) for line in seven if line.more] == [(6, "home-1")]


def test_spans_of_time():
    assert [words.duration(s) for s in (0, 59.9, 187, 7500, 273_600)] == [
        "0s",
        "59s",
        "3m 7s",
        "2h 5m",
        "3d 4h",
    ]
    assert words.latency(0.0431) == "43.1 ms"
    assert words.latency(1.234) == "1.23 s"
    assert words.latency(None) == ""


def test_access_links():
    down = Impairment(rate_bit=16_000_000, delay_us=12_500, loss=0.001)
    up = Impairment(rate_bit=1_000_000, delay_us=12_500, loss=0.001)
    assert words.access(down, up) == "16/1 Mbit/s, 12.5 ms, 0.1 % loss"
    assert words.access(Impairment(), Impairment()) == ""
    assert words.access(Impairment(), Impairment(rate_bit=64_000)) == "unlimited / 64 kbit/s"
    assert words.access(down, up, cut=True) == "down, 16/1 Mbit/s, 12.5 ms, 0.1 % loss"
    assert words.access(Impairment(), Impairment(), cut=True) == "down"


def test_a_relayed_path_says_by_whom():
    ends = {
        side: {"kind": "relayed", "endpoint": "45.0.0.22:33033"} for side in ("local", "remote")
    }
    record = {
        "technique": "relay-peer",
        "outcome": "success",
        "path": "relayed",
        "reason": "by the peer carol at 45.0.0.22:33033, UDP to it",
        **{f"{side}_candidate": end for side, end in ends.items()},
    }
    assert "by the peer carol" in shown(attempts_table.attempts_table([record]), 170)
