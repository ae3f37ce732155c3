"""One guest for all checks that can share one: a boot takes as long as many of them."""

from __future__ import annotations

from typing import Any

import pytest
from guest import results_of


@pytest.fixture(scope="session")
def results(request: pytest.FixtureRequest) -> dict[str, dict[str, Any]]:
    """What the `IN_GUEST` of the modules that are run say, by check."""
    modules = dict.fromkeys(item.module for item in request.session.items)
    return results_of(*(each.IN_GUEST for each in modules if hasattr(each, "IN_GUEST")))
