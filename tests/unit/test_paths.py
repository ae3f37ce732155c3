"""What is a lab's in the folder of states, and what only stands there."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.agent.teardown import destroy
from lab.cli.claim import check_free, claim
from lab.errors import InputError, LabError
from lab.paths import LabPaths, labs_in


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for states that somebody keeps other things in."""
    monkeypatch.setenv("LAB_STATE_DIR", str(tmp_path))
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "cat.jpeg").touch()
    (tmp_path / "notes").touch()
    return tmp_path


def test_a_lab_is_known_by_its_journal_from_the_first_moment(root):
    claim("one")
    (root / "killed-at-birth").mkdir()
    assert labs_in(root) == ["killed-at-birth", "one"]


def test_no_folder_holds_no_labs(tmp_path):
    assert labs_in(tmp_path / "none") == []


def test_what_is_no_labs_is_not_removed(root):
    with pytest.raises(LabError, match="no journal in it"):
        destroy(LabPaths.of("photographs"))
    assert (root / "photographs" / "cat.jpeg").exists()


def test_what_is_no_labs_is_not_called_one(root):
    claim("one")
    for take in (check_free, claim):
        with pytest.raises(InputError, match="a lab named 'one' exists already"):
            take("one")
        with pytest.raises(InputError, match="photographs is there, and no lab's"):
            take("photographs")
