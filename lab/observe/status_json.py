"""`lab status --json`: what a person sees, as data with every field."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from lab.observe.attempts import latest
from lab.observe.attempts_table import Record, pair
from lab.observe.sample import HealthSample
from lab.observe.state import AgentState, ProgramState, program_words
from lab.observe.stated import stated
from lab.plan.model import Plan


def status_json(
    plan: Plan,
    programs: Mapping[str, ProgramState],
    health: HealthSample | None,
    attempts: Sequence[Record],
    agent: AgentState,
    *,
    now: float | None = None,
) -> dict[str, Any]:
    """What `overview` shows, as JSON-ready data."""
    now = time.time() if now is None else now
    return {
        "lab": plan.lab,
        "description": plan.description,
        "source": plan.source,
        "agent": {
            "pid": agent.pid,
            "alive": agent.pid is not None,
            "uptime_s": agent.uptime_s(now),
            "metrics": agent.metrics or None,
        },
        "nodes": [
            {
                "node": node.name,
                "kind": str(node.kind),
                "addresses": {face.name: list(face.addresses) for face in node.interfaces},
                "nat": stated(node.nat),
                "firewall": stated(node.firewall),
                "firewall6": stated(node.firewall6),
                "nptv6": stated(node.nptv6),
                "nat64": stated(node.nat64),
                "activity": str(node.activity),
                "program": _program_json(node.program, programs.get(node.name), agent, now),
                "daemons": {
                    daemon.name: _daemon_json(programs.get(daemon.key(node.name)), agent, now)
                    for daemon in node.daemons
                },
            }
            for node in plan.nodes
        ],
        "links": [
            {"name": link.name, **msgspec.to_builtins(link), "backend": str(link.backend)}
            for link in plan.links
        ],
        "attempts": [dict(record) for record in latest(attempts, pair)],
        "health": health
        and {
            **{field: getattr(health, field) for field in health.__struct_fields__},
            "distorted": health.distorted,
            "reasons": list(health.reasons),
        },
    }


def _program_json(program: Any, state: ProgramState | None, agent: AgentState, now: float) -> Any:
    if program is None:
        return None
    return {
        "program": program_words(program),
        "runtime": str(program.runtime),
        **_daemon_json(state, agent, now),
    }


def _daemon_json(state: ProgramState | None, agent: AgentState, now: float) -> dict[str, Any]:
    known = state if agent.pid is not None else None
    return {
        "state": str(known.state) if known else "unknown",
        "pid": known.pid if known else None,
        "exit_code": known.exit_code if known else None,
        "reason": known.reason if known else "",
        "uptime_s": known.uptime_s(now) if known else 0.0,
    }
