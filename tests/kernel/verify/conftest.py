from __future__ import annotations

from collections.abc import Iterator

import pytest
from verify_support import ONE_ROUTER, Running, lab_command, new_name


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A lab of one router with two peers behind it, a STUN server and a guarded host."""
    folder = tmp_path_factory.mktemp("v")
    file = folder / "one.yaml"
    file.write_text(ONE_ROUTER)
    name = new_name("one")
    try:
        yield Running.up(folder / "s", str(file), name)
    finally:
        lab_command(folder / "s", "down", name, "--quiet")
