"""What docs/json.md says of answers that need no lab is so."""

import json
import re

import pytest
from click.testing import CliRunner

from lab.cli.main import cli
from lab.paths import data_dir

PAGE = data_dir("topologies").parent / "docs" / "json.md"


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("lab validate", ["two-homes"]),
        ("lab predict", ["alice", "bob", "-f", "two-homes"]),
        ("lab ls", []),
    ],
)
def test_an_answer_has_the_keys_that_are_written(command, arguments, tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_STATE_DIR", str(tmp_path))
    (row,) = (line for line in PAGE.read_text().splitlines() if line.startswith(f"| `{command}` |"))
    done = CliRunner().invoke(cli, [command.split()[1], *arguments, "--json"])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    keys = set(answer) if isinstance(answer, dict) else set().union(*answer)
    assert keys <= set(re.findall(r"`([a-z_]+)`", row))
