"""`lab shell`: a shell in a node."""

from __future__ import annotations

import os

import click

from lab.cli.exec import run_in_node
from lab.cli.labs import lab_option


@click.command()
@lab_option
@click.argument("node")
def command(*, node: str, lab_name: str | None) -> None:
    """Open a shell in a node."""
    run_in_node(lab_name, node, (os.environ.get("SHELL", "/bin/sh"),))
