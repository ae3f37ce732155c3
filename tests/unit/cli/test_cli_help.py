"""`--help`: what stands beside each command is a whole sentence."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from lab.cli.main import COMMANDS, cli

CONTEXT = click.Context(cli)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_sentence_beside_a_command_is_cut_off(name):
    assert COMMANDS[name].endswith(".")
    command = cli.get_command(CONTEXT, name)
    assert command is not None
    result = CliRunner().invoke(command, ["--help"], terminal_width=80)
    assert result.exit_code == 0
    _, _, commands = result.stdout.partition("\nCommands:\n")
    assert "..." not in commands
