import pytest
from runtime_support import Scratch


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_STATE_DIR", str(tmp_path / "state"))
    lab = Scratch()
    yield lab
    lab.clean()
