"""One `lab` command a test, and nothing left after it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.end_to_end.support import Command, traces


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Command]:
    command = Command(tmp_path / "state")
    yield command
    command.run("down", "--all", "--quiet")
    left = [trace for name in command.labs for trace in traces(name, command.state)]
    assert not left, left
