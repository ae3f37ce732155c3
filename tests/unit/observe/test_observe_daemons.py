"""Daemons in `lab status` and in the metrics, beside the programs of nodes."""

from __future__ import annotations

import io

from msgspec.structs import replace
from rich.console import Console

from lab.observe import status
from lab.observe.metrics.programs import program_families
from lab.observe.state import AgentState, ProgramState, Stage
from lab.observe.status_json import status_json
from lab.plan.model import Daemon
from lab.topology.behaviour import Runtime
from tests.unit.observe_support import double_nat

NOW = 1_700_000_100.0
AGENT = AgentState(pid=1, started_at=NOW - 60)
NAME = "home-b/miniupnpd"


def plan():
    daemon = Daemon(name="miniupnpd", command=("miniupnpd", "-d"))
    known = double_nat()
    nodes = (replace(n, daemons=(daemon,)) if n.name == "home-b" else n for n in known.nodes)
    return replace(known, nodes=tuple(nodes))


def state(stage: Stage, **more: object) -> dict[str, ProgramState]:
    return {
        NAME: ProgramState(
            node=NAME, runtime=Runtime.PROCESS, state=stage, pid=7, started_at=NOW - 5, **more
        )
    }


def line(states: dict[str, ProgramState]) -> str:
    out = io.StringIO()
    shown = status.overview(plan(), states, None, [], AGENT, now=NOW, width=240)
    Console(file=out, width=240, highlight=False).print(shown)
    return next(text for text in out.getvalue().splitlines() if "home-b" in text)


def test_a_router_shows_its_daemon_and_what_became_of_it():
    assert "miniupnpd  ● ready 5s" in line(state(Stage.READY))
    assert "miniupnpd ✗ exited 1" in line(state(Stage.EXITED, exit_code=1))
    assert "miniupnpd ? unknown" in line({})


def test_the_same_for_programs():
    data = status_json(plan(), state(Stage.READY), None, [], AGENT, now=NOW)
    nodes = {node["node"]: node for node in data["nodes"]}
    assert nodes["home-b"]["daemons"]["miniupnpd"]["state"] == "ready"
    assert nodes["home-b"]["program"] is None
    assert nodes["alice"]["daemons"] == {}


def test_a_daemon_is_counted_as_up_or_not():
    for stage, value in ((Stage.READY, 1.0), (Stage.EXITED, 0.0)):
        families = {family.name: family for family in program_families(plan().nodes, state(stage))}
        up = {sample.labels["node"]: sample.value for sample in families["lab_program_up"].samples}
        assert up[NAME] == value
        assert "home-b" not in up
