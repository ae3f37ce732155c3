"""`lab node`: stop, start, pause and resume what runs in a node."""

from __future__ import annotations

import click

from lab.cli.labs import json_option, lab_option


@click.group()
def command() -> None:
    """Stop, start, pause and resume what runs in a node; its network stays."""


@command.command()
@click.argument("node")
@lab_option
@json_option
def stop(*, node: str, lab_name: str | None, as_json: bool) -> None:
    """End the program of NODE and what runs beside it.

    Whoever sends to it is told that the port is closed, as by any host whose
    program has ended.
    """
    _order(lab_name, node, "stopped", as_json=as_json)


@command.command()
@click.argument("node")
@lab_option
@json_option
def start(*, node: str, lab_name: str | None, as_json: bool) -> None:
    """Start again what was stopped in NODE, or ended by itself."""
    _order(lab_name, node, "running", as_json=as_json)


@command.command()
@click.argument("node")
@lab_option
@json_option
def pause(*, node: str, lab_name: str | None, as_json: bool) -> None:
    """Have everything in NODE hold still.

    It keeps its sockets and answers nothing.
    """
    _order(lab_name, node, "paused", as_json=as_json)


@command.command()
@click.argument("node")
@lab_option
@json_option
def resume(*, node: str, lab_name: str | None, as_json: bool) -> None:
    """Let what was paused in NODE go on.

    What has ended stays so (`lab node start`).
    """
    _order(lab_name, node, "running", as_json=as_json, only_paused=True)


def _order(
    lab_name: str | None, node: str, activity: str, *, as_json: bool, only_paused: bool = False
) -> None:
    from lab.cli.change import change, tell
    from lab.topology.changes import Activity, SetActivity

    request = SetActivity(node=node, activity=Activity(activity), only_paused=only_paused)
    tell(change(lab_name, request), as_json=as_json)
