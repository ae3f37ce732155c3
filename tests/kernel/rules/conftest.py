from __future__ import annotations

import pytest

from tests.kernel.rules.probes import Services
from tests.kernel.rules.support import bench


@pytest.fixture(scope="module")
def services():
    """The topology with services outside; tests replace its router's rules."""
    with bench() as made, Services.on(made) as found:
        yield found
