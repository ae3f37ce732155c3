"""The kernel backend against the model, in a VM whose kernel has netem.

One boot runs all checks of tests/kernel/links/conformance.py; each is a test here.
"""

from __future__ import annotations

import pytest
from guest import results_of

from tests.kernel.links.conformance import CHECKS

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def results() -> dict[str, dict[str, str]]:
    return results_of("tests.kernel.links.conformance", "kernel")


@pytest.mark.parametrize("name", [check.__name__ for check in CHECKS])
def test_netem_conforms(name, results):
    assert name in results, f"did not run; these did: {sorted(results)}"
    assert not results[name]["error"], results[name]["error"]


def test_the_probe_finds_netem(results):
    assert results["probe"]["error"] == ""
