from __future__ import annotations

import pytest
from rules_bench import bench
from rules_probes import Services


@pytest.fixture(scope="module")
def services():
    """The topology with services outside; tests replace its router's rules."""
    with bench() as made, Services.on(made) as found:
        yield found
