"""`lab schema`: the JSON Schema of topology files, for editors."""

from __future__ import annotations

import json

import click


@click.command("schema")
def command() -> None:
    """Print the JSON Schema of topology files.

    Save it beside your topologies and begin a file with
    `# yaml-language-server: $schema=topology.schema.json`: an editor with a
    YAML language server then completes keys and presets, and explains them.
    """
    from lab.topology.jsonschema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))
