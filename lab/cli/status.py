"""`lab status`: nodes, addresses, NATs, links, programs, health."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from lab.cli.labs import json_option, lab_argument

if TYPE_CHECKING:
    from lab.paths import LabPaths


@click.command()
@lab_argument
@json_option
def command(*, lab_name: str | None, as_json: bool) -> None:
    """Show nodes, addresses, NATs, links, programs and health of a lab."""
    import msgspec

    from lab.agent.client import AgentGoneError, result
    from lab.cli.labs import choose, plan_of
    from lab.cli.terminal import print_json
    from lab.fabric.claimed import with_claimed
    from lab.observe.sample import HealthSample
    from lab.observe.state import AgentState, programs_from_wire
    from lab.observe.status import render
    from lab.observe.status_json import status_json

    paths = choose(lab_name)
    plan = with_claimed(plan_of(paths), paths)
    try:
        known = result(paths, {"do": "status"})
        agent = msgspec.convert(known["agent"], AgentState)
        programs = programs_from_wire(known["programs"])
        health = msgspec.convert(known["health"], HealthSample)
    except AgentGoneError:
        agent, programs, health = AgentState(), {}, None
    attempts = _attempts(paths)
    if as_json:
        print_json(status_json(plan, programs, health, attempts, agent))
    else:
        render(plan, programs, health, attempts, agent)


def _attempts(paths: LabPaths) -> list[dict[str, Any]]:
    """The records of all attempts; a torn last line is one that is being written."""
    import json

    records = []
    try:
        lines = paths.attempts.read_text().splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records
