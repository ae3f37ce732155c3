"""One `lab` command a test, and nothing left after it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.end_to_end.support import Command, left_by


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Command]:
    command = Command(tmp_path / "state")
    yield command
    if left_by(command):
        command.run("down", "--all", "--quiet")
    assert left_by(command) == []
