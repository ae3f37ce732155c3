"""`lab heal`: end every partition."""

from __future__ import annotations

import click

from lab.cli.labs import json_option, lab_option


@click.command()
@lab_option
@json_option
def command(*, lab_name: str | None, as_json: bool) -> None:
    """End every partition; links that are down stay down."""
    from lab.cli.change import change, tell
    from lab.topology.changes import Heal

    tell(change(lab_name, Heal()), as_json=as_json)
