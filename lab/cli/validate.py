"""`lab validate`: check topology files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from lab.errors import InputError
    from lab.topology.model import Topology


@click.command("validate")
@click.argument("files", metavar="FILE|NAME...", nargs=-1, required=True)
@click.option(
    "--set",
    "overrides",
    metavar="PATH=VALUE",
    multiple=True,
    help="Change a value before checking, such as nodes.alice.link.delay=20ms.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def command(files: tuple[str, ...], overrides: tuple[str, ...], as_json: bool) -> None:
    """Check topology FILEs, and say at which line what is wrong and what to do.

    Every file is checked, and everything that is wrong in it is reported.
    Exit code 2 if any of them is wrong.
    """
    from lab.cli.planning import plan_anywhere
    from lab.errors import InputError
    from lab.topology.loader import load
    from lab.topology.problems import TopologyError

    answers: list[dict[str, Any]] = []
    problems = []
    for file in files:
        try:
            topology = load(file, overrides)
            # What is right by itself may be wrong together: addresses, ports, servers.
            plan_anywhere(topology)
        except InputError as error:
            found = _problems(error)
            problems += found
            listed = [
                {"where": one.where, "message": one.message, "remedy": one.remedy} for one in found
            ]
            answers.append({"file": file, "valid": False, "problems": listed})
        else:
            answers.append({"file": file, "valid": True, "problems": [], **_contents(topology)})
            if not as_json:
                click.echo(_line(file, topology))
    if as_json:
        click.echo(json.dumps(answers, indent=2, ensure_ascii=False))
        if problems:
            click.get_current_context().exit(InputError.exit_code)
    elif problems:
        raise TopologyError(problems)


def _problems(error: InputError) -> list[Any]:
    from lab.topology.problems import Problem, TopologyError

    if isinstance(error, TopologyError):
        return list(error.problems)
    return [Problem(error.where, error.message, error.remedy)]


def _contents(topology: Topology) -> dict[str, Any]:
    return {
        "name": topology.name,
        "routers": len(topology.routers),
        "nodes": len(topology.nodes),
        "peers": sum(node.peer for node in topology.nodes),
    }


def _line(file: str, topology: Topology) -> str:
    def number(count: int, thing: str) -> str:
        return f"{count} {thing}{'' if count == 1 else 's'}"

    routers, nodes = number(len(topology.routers), "router"), number(len(topology.nodes), "node")
    return f"{file}: ok ({topology.name}: {routers}, {nodes})"
