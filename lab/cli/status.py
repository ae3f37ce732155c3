"""`lab status`: nodes, addresses, NATs, links, programs, health."""

from __future__ import annotations

import click

from lab.cli.labs import json_option


@click.command()
@click.argument("lab_name", required=False, metavar="[LAB]", envvar="LAB_LAB")
@json_option
def command(*, lab_name: str | None, as_json: bool) -> None:
    """Show nodes, addresses, NATs, links, programs and health of a lab."""
    from lab.agent import lock  # noqa: PLC0415 - heavy
    from lab.cli.labs import choose, plan_of  # noqa: PLC0415 - heavy

    paths = choose(lab_name)
    plan = plan_of(paths)
    agent = lock.holder(paths.agent_lock)
