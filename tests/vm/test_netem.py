"""The kernel backend against the model, in a VM whose kernel has netem.

The checks are those of tests/kernel/links/conformance.py; each is a test here.
"""

from __future__ import annotations

import pytest

from tests.kernel.links.conformance import CHECKS, the_same_seed_loses_the_same_packets

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1000)]

IN_GUEST = ("tests.kernel.links.conformance", "kernel")


@pytest.mark.parametrize("name", [check.__name__ for check in CHECKS])
def test_netem_conforms(name, results):
    probe = results["probe"]
    if name == the_same_seed_loses_the_same_packets.__name__ and not probe["seeded"]:
        pytest.skip(f"netem of Linux {probe['kernel']} takes no seed: 6.6 is the first that does")
    assert name in results, f"did not run; these did: {sorted(results)}"
    assert not results[name]["error"], results[name]["error"]


def test_the_probe_finds_netem(results):
    assert results["probe"]["error"] == ""


def test_the_probe_finds_a_seed_where_there_is_one(results):
    version = tuple(int(part) for part in results["probe"]["kernel"].split(".")[:2])
    assert results["probe"]["seeded"] == (version >= (6, 6))
